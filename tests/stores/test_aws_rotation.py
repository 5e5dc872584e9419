"""Whole rotations by the engine over the stores in AWS, and each store call of them ending badly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from keyturn.domain.errors import JournalError, RefusedError
from keyturn.domain.labels import new_rotation_id
from keyturn.domain.rotation import State
from keyturn.domain.slots import Slot, Stored
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.crash import CHANGING, Killed, Mishap, Row
from keyturn.testing.fake_world import PATH, FakeWorld
from keyturn.testing.memory_store import MemoryStore

from .aws_server import REGION

KINDS = {"secrets manager": AwsSecretsManager, "parameter store": AwsParameterStore}


def _roads() -> ModuleType:
    """Load the crash suite's roads, which lie in another folder of tests."""
    file = Path(__file__).parents[1] / "crash" / "roads.py"
    spec = importlib.util.spec_from_file_location("crash_roads", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ROADS = _roads()
TAKEN = {
    "forward": ROADS.forward,
    "aborted when verified": ROADS.aborted_at(State.VERIFIED),
    "rolled back when promoted": ROADS.rolled_back_at(State.PROMOTED),
}


class AwsWorld(FakeWorld):
    """The world in memory, with a store in AWS that each process opens for itself."""

    def on(self, kind: type, wire: Wire) -> AwsWorld:
        prefix = f"{new_rotation_id()}/"
        self._open = lambda: kind(wire, prefix=prefix)
        self._seen: Stored | None = None
        self._reopen()
        return self

    def _reopen(self) -> None:
        if self.mirrored:
            self.mirror = self._open()
        else:
            self.store = self._open()

    def world(self, **options: object) -> World:
        self._reopen()
        return super().world(**options)

    def _current(self, store: object) -> Stored | None:
        if isinstance(store, MemoryStore):
            return super()._current(store)
        # Only calls of the store change what is current; the judge looks after those.
        rows = self.tracer.rows
        if not rows or rows[-1].port in {"store", "mirror"} or self._seen is None:
            self._seen = store.read_sync(PATH, Slot.CURRENT)
        return self._seen

    async def judge_rest(self) -> None:
        self._seen = None
        await super().judge_rest()


@pytest.fixture(scope="module")
def wire(aws: str) -> Wire:
    return Wire("engine", region=REGION, endpoint_url=aws)


async def walk(
    kind: str,
    wire: Wire,
    road: str,
    at: int | None = None,
    mishap: Mishap | None = None,
    *,
    mirrored: bool = False,
) -> list[Row]:
    """Go down a road with one mishap at most; sweep up; judge; give the calls that were made."""
    fake = AwsWorld(grace="10s", mirrored=mirrored).on(KINDS[kind], wire)
    await fake.prepare()
    if at is not None and mishap is not None:
        fake.tracer.arm(at, mishap)
    with suppress(Killed, JournalError, RefusedError):
        await TAKEN[road](fake, Engine(fake.world(traced=True)))
    rows = list(fake.tracer.rows)
    fake.tracer.disarm()
    await fake.sweep_until_rest(traced=True)
    await fake.judge_rest()
    return rows


def mishaps(row: Row, port: str) -> Iterable[Mishap]:
    """Give what can go wrong at a call of the store; one that only reads has no outcome to lose."""
    if row.port != port:
        return ()
    return Mishap if row.method in CHANGING["store"] else (Mishap.FAILED,)


@pytest.mark.slow
@pytest.mark.parametrize("road", TAKEN)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_mishap_at_any_store_call_leaves_nothing_that_the_sweep_does_not_finish(kind, road, wire):
    for at, row in enumerate(await walk(kind, wire, road)):
        for mishap in mishaps(row, "store"):
            try:
                await walk(kind, wire, road, at, mishap)
            except AssertionError as error:
                raise AssertionError(f"{kind}, {road}, call {at} ({row}), {mishap}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_mishap_at_any_call_of_a_mirror_in_aws_is_made_good(kind, wire):
    for at, row in enumerate(await walk(kind, wire, "forward", mirrored=True)):
        for mishap in mishaps(row, "mirror"):
            try:
                await walk(kind, wire, "forward", at, mishap, mirrored=True)
            except AssertionError as error:
                raise AssertionError(f"{kind}, call {at} ({row}), {mishap}: {error}") from error
