"""Whatever answers in the place of Vault or AWS ends in a store's fault, and takes no memory."""

from __future__ import annotations

import asyncio
import json as jsons
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws import answers
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.vault import transport
from keyturn.testing.store_contract_support import fake_material, fake_meta, put_key
from tests.hostile import ODD, Reply, answering

from .aws_server import REGION
from .vault_server import Server, simulated

PATH = "bots/mm"
ONE = Attempt(new_rotation_id(), 1)
TOKEN = "not-a-real-token"
STORES = ("vault", "secrets manager", "parameter store")

CALLS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "peek": lambda store: store.peek(PATH, Slot.CURRENT),
    "read": lambda store: store.read(PATH, Slot.PREVIOUS),
    "history": lambda store: store.history(PATH),
    "claim": lambda store: store.claim(PATH, ONE),
    "promote": lambda store: store.promote(PATH, ONE, expect_current="1"),
    "discard": lambda store: store.discard(PATH, Slot.PREVIOUS, version="1"),
    "put": lambda store: put_key(store, PATH, "put"),
}


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0,))
    monkeypatch.setattr("keyturn.stores.vault.transport._PAUSES", (0.0,) * 5)
    monkeypatch.setattr("keyturn.stores.vault.kv.PAUSES", (0.0,) * 2)
    monkeypatch.setattr("keyturn.stores.aws.shelf._LAG_PAUSES", (0.0,))
    monkeypatch.setattr("keyturn.stores.aws.parameters._LAG_PAUSES", (0.0,))


@asynccontextmanager
async def store_at(kind: str, url: str, folder: Path, timeout: str = "5s") -> AsyncIterator[Any]:
    if kind == "vault":
        store: Any = Server(url, TOKEN).open(Server.given(folder, TOKEN), timeout=timeout)
    else:
        wire = Wire("aws", region=REGION, endpoint_url=url, timeout=float(timeout.removesuffix("s")))
        store = (AwsSecretsManager if kind == "secrets manager" else AwsParameterStore)(wire)
    try:
        yield store
    finally:
        await store.close()


async def told(call: Awaitable[object], about: str = "") -> StoreError:
    try:
        answer = await call
    except StoreError as error:
        text = error.diagnostics()
        assert text.replace("\n", "").isprintable(), about
        assert TOKEN not in text
        return error
    raise AssertionError(f"{about}: {answer!r}")


@pytest.mark.parametrize("kind", STORES)
async def test_an_answer_that_is_no_store_s_is_a_fault_of_the_closed_set(kind, tmp_path):
    reply = Reply()
    # One store for all: making a client of AWS takes longer than its calls.
    async with answering(lambda _: reply) as url, store_at(kind, url, tmp_path) as store:
        for odd, reply in ODD.items():  # noqa: B007 - the server gives it
            for name, call in CALLS.items():
                await told(call(store), f"{odd}: {name}")
            for finding in await store.check([PATH]):
                assert f"{finding.subject}{finding.detail}{finding.todo}".isprintable(), odd


@pytest.mark.parametrize("kind", STORES)
async def test_a_body_that_trickles_ends_with_the_time_out(kind, tmp_path):
    trickle = Reply(b'{"data":"', endless=b" ", pace=0.1)
    async with answering(trickle) as url, store_at(kind, url, tmp_path, "1s") as store, asyncio.timeout(30):
        assert (await told(store.peek(PATH, Slot.CURRENT))).fault is StoreFault.UNAVAILABLE


BOMB = """
import asyncio, os, tempfile
from pathlib import Path
os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
from keyturn.domain.errors import StoreError
from keyturn.domain.slots import Slot
from keyturn.stores.aws import wire
from keyturn.stores.vault import transport
from tests.hostile import ODD, answering, bomb, peak_memory
from tests.stores.test_hostile_answers import STORES, store_at
wire._PAUSES, transport._PAUSES = (), (0.0,) * 5
async def peeked(store):
    try:
        await store.peek("bots/mm", Slot.CURRENT)
    except StoreError:
        return
    raise SystemExit("taken")
async def main():
    deadly = bomb()
    for kind in STORES:
        reply = ODD["null"]  # which loads the libraries
        async with answering(lambda _: reply) as url, store_at(kind, url, Path(tempfile.mkdtemp())) as store:
            await peeked(store)
            before, reply = peak_memory(), deadly
            await peeked(store)
            print(peak_memory() - before, flush=True)
asyncio.run(main())
"""


def test_three_hundred_megabytes_from_a_small_body_take_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert max(map(int, done.stdout.split())) < 50 << 20


# -- one field that is not what it must be -----------------------------------------------------------------

WRONG = (None, True, -7, 1e30, 10**30, 0.5, "", "not this", "\x1b[2J", [], [None], {}, {"a": []})


class Tamper:
    """Changes one field of one answer that a store reads."""

    def __init__(self, real: Callable[..., bytes]) -> None:
        self.real = real
        self.dice = random.Random(0)
        self.left = -1

    def __call__(self, response: Any, seconds: float) -> bytes:
        content = self.real(response, seconds)
        self.left -= 1
        return self._changed(content) if self.left == 0 else content

    def _changed(self, content: bytes) -> bytes:
        try:
            body = jsons.loads(content)
        except ValueError:
            return content
        at, key = self._place(body)
        if key is not None:
            at[key] = self.dice.choice(WRONG)
        return jsons.dumps(body).encode()

    def _place(self, body: Any) -> tuple[Any, Any]:
        at, key = body, None
        following = body
        while isinstance(following, dict | list) and following and (key is None or self.dice.random() < 0.8):
            at = following
            key = self.dice.choice([*at] if isinstance(at, dict) else range(len(at)))
            following = at[key]
        return at, key


async def tampered(store: Any, tamper: Tamper, trials: int) -> None:
    await put_key(store, PATH, "old")
    shown = ""
    for number in range(trials):
        attempt = Attempt(new_rotation_id(), 1)
        tamper.left = tamper.dice.randrange(1, 12)
        try:
            claim = await store.claim(PATH, attempt)
            await store.stage(PATH, fake_material(f"n{number}"), fake_meta(f"n{number}", attempt), claim)
            current = await store.peek(PATH, Slot.CURRENT)
            await store.promote(PATH, attempt, expect_current=current.version)
            await store.read(PATH, Slot.PREVIOUS)
            await store.history(PATH)
            await store.check([PATH])
        except StoreError as error:
            shown = error.diagnostics()
        except AttributeError:
            # `current` is None where the answer that was changed says that nothing is stored.
            if current is not None:
                raise
        assert shown.replace("\n", "").isprintable()


@pytest.fixture(scope="module")
def vault() -> Iterator[Server]:
    with simulated() as server:
        yield server


async def test_a_field_of_vault_s_of_the_wrong_type_is_a_value_or_a_fault(vault, tmp_path, monkeypatch):
    tamper = Tamper(transport.read_within)
    monkeypatch.setattr(transport, "read_within", tamper)
    store = vault.rotator(tmp_path)
    try:
        await tampered(store, tamper, 60)
    finally:
        await store.close()


@pytest.mark.parametrize("kind", [AwsSecretsManager, AwsParameterStore])
async def test_a_field_of_aws_s_of_the_wrong_type_is_a_value_or_a_fault(kind, aws, monkeypatch):
    tamper = Tamper(answers.read_within)
    monkeypatch.setattr(answers, "read_within", tamper)
    store: Any = kind(Wire("aws", region=REGION, endpoint_url=aws), prefix=f"{new_rotation_id()}/")
    try:
        await tampered(store, tamper, 15)
    finally:
        await store.close()
