"""Where the demo keeps its keys: the age store of its folder, a Vault, or an emulated AWS.

Only the age store outlives the demo. A server that the demo has started ends with it, and on one that was
there before the demo has a mount of its own, which it takes away again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from shutil import which

from keyturn.demo.children import Child, DemoError, running
from keyturn.demo.house import AGE, House
from keyturn.demo.mount import ADDRESS_VARIABLE, TOKEN_VARIABLE, Vault, mounted

#: What `--store` takes.
KINDS = (AGE, "vault", "aws")
# As long as the exchanges have: an error after it means that something hangs.
_SERVER_SECONDS = 60.0
_REGION = "eu-central-1"
# The emulator takes any. The last three keep boto3 from everything that this user has set up.
_AWS_ENVIRON = {
    "AWS_ACCESS_KEY_ID": "not-a-real-id",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class NoServerError(DemoError):
    """What the chosen store needs is not on this machine."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A store that is up."""

    #: How the inventory writes it.
    entry: str
    #: What only keyturn has in its environment, and only the bots.
    keyturn: Mapping[str, str] = field(default_factory=dict, repr=False)
    bots: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: What opens the store, for the search that must not find it.
    secrets: Sequence[str] = field(default=(), repr=False)

    def environ(self, *, bot: bool = False) -> dict[str, str]:
        """Give the environment of a child that is not keyturn."""
        rest = {name: value for name, value in os.environ.items() if name not in self.keyturn}
        return {**rest, **self.bots} if bot else rest


def place_of(kind: str, house: House) -> AbstractAsyncContextManager[Place]:
    """Give the store of a kind, up for as long as the block lasts; this process may use it in there.

    Raises:
        NoServerError: what it needs is not on this machine.
        DemoError: it did not come up.
    """
    return {AGE: _age, "vault": _vault, "aws": _aws}[kind](house)


@asynccontextmanager
async def _age(house: House) -> AsyncIterator[Place]:
    yield Place(house.entry)


@asynccontextmanager
async def _vault(house: House) -> AsyncIterator[Place]:
    address, token = os.environ.get(ADDRESS_VARIABLE), os.environ.get(TOKEN_VARIABLE)
    if address and token:
        async with _mounted_place(Vault.of_the_environment(address, token)) as place:
            yield place
        return
    program = which("bao") or which("vault")
    if not program:
        raise NoServerError(
            "There is no Vault for the demo.",
            now="Nothing was begun.",
            todo="Put `bao` (https://openbao.org) or `vault` on the PATH, and the demo starts a server of its"
            f" own; or set {ADDRESS_VARIABLE} and {TOKEN_VARIABLE} to a server that may have a mount more.",
        )
    command = ["-m", "keyturn.demo.vault_server", program]
    async with running("Vault", command, log=house.log("vault")) as server:
        said = await _begun(server)
        async with _mounted_place(Vault(said["url"], said["token"])) as place:
            yield place


@asynccontextmanager
async def _mounted_place(vault: Vault) -> AsyncIterator[Place]:
    async with mounted(vault) as bot_token:
        keyturn, bots = {TOKEN_VARIABLE: vault.token}, {"KEYTURN_VAULT_TOKEN": bot_token}
        with _lent(keyturn):
            yield Place(vault.entry, keyturn, bots, (vault.token, bot_token))


@asynccontextmanager
async def _aws(house: House) -> AsyncIterator[Place]:
    if not find_spec("moto"):
        raise NoServerError(
            "There is no AWS emulator for the demo: moto is not installed.",
            now="Nothing was begun.",
            todo="Say `make demo STORE=aws`, which installs it.",
        )
    async with running("AWS emulator", ["-m", "keyturn.demo.aws_emulator"], log=house.log("aws")) as server:
        url = (await _begun(server))["url"]
        with _lent(_AWS_ENVIRON):
            entry = f"{{kind: aws_secrets_manager, region: {_REGION}, endpoint_url: {url}}}"
            yield Place(entry, _AWS_ENVIRON, _AWS_ENVIRON)


async def _begun(server: Child) -> dict[str, str]:
    return await server.begins(_SERVER_SECONDS)


@contextmanager
def _lent(values: Mapping[str, str]) -> Iterator[None]:
    """Have variables in the environment of this process, in place of their whole family."""
    families = {name.partition("_")[0] + "_" for name in values}
    before = {name: value for name, value in os.environ.items() if name.startswith(tuple(families))}
    for name in before:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
