"""A home for each kind of store: the adapter as it is, its server in this process, without a network.

The network between them is what other tests are about; without it a whole rotation takes a few hundredths of
a second, and can die at any single call that would have gone over the wire.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from keyturn.domain.inventory import VaultKv2Store as VaultEntry
from keyturn.simulator.vault import Seen, VaultSimulator
from keyturn.simulator.vault_kv import KvMount
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity
from keyturn.stores.vault.transport import Answer
from keyturn.stores.vault_kv2 import VaultKv2Store, open_vault_kv2
from keyturn.testing.crash import Killed
from keyturn.testing.store_world import Home

T = TypeVar("T")

MOUNT, PENDING = "kt", "keyturn/pending"


class Line:
    """Counts the calls to a server, and lets the process die at one of them."""

    def __init__(self) -> None:
        self.arm(None)

    def arm(
        self, at: int | None, *, after: bool = False, verb: Callable[[], tuple[int, str]] = lambda: (0, "")
    ) -> None:
        """Die at call number `at`, counted from now: before it is carried out, or after.

        Args:
            at: None: at no call.
            after: whether the call is carried out.
            verb: gives the number and the name of the store's verb that the calls now are of.
        """
        #: Each call, and its verb.
        self.calls: list[tuple[str, tuple[int, str]]] = []
        self._at, self._after, self._verb, self._counts = at, after, verb, True

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count no calls meanwhile: they are made by somebody who cannot die."""
        self._counts = False
        try:
            yield
        finally:
            self._counts = True

    def carry(self, name: str, effect: Callable[[], T]) -> T:
        """Make a call."""
        if not self._counts:
            return effect()
        number = len(self.calls)
        self.calls.append((name, self._verb()))
        if number == self._at and not self._after:
            raise Killed
        result = effect()
        if number == self._at:
            raise Killed
        return result


async def at_once(work: Callable[[], T]) -> T:
    """Do blocking work here and now: nothing blocks without a network."""
    return work()


class _Here(ThreadPoolExecutor):
    """Does here and now what is given to a thread."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


_HERE = _Here()


class AgeHome:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._root, key = folder / "store", folder / "age.key"
        generate_identity(key)
        self._text = key.read_text()

    def clear(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def open(self) -> AgeFilesStore:
        store = AgeFilesStore(self._root, lambda: self._text)
        store._in_thread, store._pool = at_once, _HERE
        return store

    def keys_kept(self, path: str) -> set[str]:
        sealer = self.open().sealer()
        return {sealer.open(file.read_bytes())[0].key_ref for file in (self._root / path).glob("*.age")}


class VaultHome:
    """Vault's simulator."""

    def __init__(self, folder: Path) -> None:
        self.line = Line()
        self._simulator = VaultSimulator()
        self._folder, token = folder, folder / "token"
        token.touch(mode=0o600)
        token.write_text(self._simulator.root)
        self._entry = VaultEntry.model_validate(
            {
                "kind": "vault_kv2",
                "addresses": ["http://127.0.0.1:1"],
                "mount": MOUNT,
                "pending_prefix": PENDING,
                "auth": {"method": "token", "token": {"file": str(token)}},
            }
        )

    def clear(self) -> None:
        self._simulator.mounts[MOUNT] = KvMount(2)

    def open(self) -> VaultKv2Store:
        store = open_vault_kv2("vault", self._entry, self._folder)
        store._in_thread = at_once
        store._session._adapter.call = self._call
        return store

    def _call(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: Any = None,
        params: Any = None,
        changes: bool = False,
    ) -> Answer:
        path = url.removeprefix("/v1/")
        seen = Seen(method.upper(), path, token, None, json.loads(json.dumps(body or {})))
        query = {k: str(v) for k, v in (params or {}).items()}
        reply = self.line.carry(f"{method} {path}", lambda: self._simulator.handle(seen, query))
        return Answer(reply.status, json.loads(json.dumps(reply.body or {})))

    def keys_kept(self, path: str) -> set[str]:
        secrets = self._simulator.mounts[MOUNT].secrets
        found = [secrets[where] for where in (path, f"{PENDING}/{path}") if where in secrets]
        held = [version.data or {} for secret in found for version in secret.versions.values()]
        return {data["api_key"] for data in held if "api_key" in data}


def _aws(kind: str) -> Callable[[Path], Home]:
    def home(folder: Path) -> Home:
        # moto takes seconds to import, and who collects the tests needs none of it.
        from . import aws_homes

        made: Home = getattr(aws_homes, kind)(folder)
        return made

    return home


KINDS: dict[str, Callable[[Path], Home]] = {
    "age files": AgeHome,
    "vault": VaultHome,
    "secrets manager": _aws("SecretsManagerHome"),
    "parameter store": _aws("ParameterStoreHome"),
}
