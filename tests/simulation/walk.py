"""Two workers, systematically: one waits in a port call of its rotation, and the other goes on meanwhile.

`make walk` goes down the full product: every call of a rotation, before it and with the
answer not delivered yet, in incident mode and with a grace, on the age files and on Vault's simulator; the
other worker does one step, or goes on to the promotion, or to the end. The test beside it walks its shapes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

from keyturn.domain.errors import KeyturnError
from keyturn.domain.rotation import Fate, Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.testing.crash import CHANGING, Row, Tracer
from keyturn.testing.fake_world import NAME, PATH
from keyturn.testing.store_world import Home, StoreWorld
from tests.stores.homes import AgeHome, VaultHome

STORES: dict[str, Callable[[Path], Home]] = {"age files": AgeHome, "vault": VaultHome}
MODES = (Mode.INCIDENT, Mode.MANUAL)
SIDES = ("before", "after")
# Behind each of these some rests may have to pass; more than this and it does not come to an end.
_MOST_STEPS = 80


@dataclass(frozen=True)
class Walk:
    """Where the first worker waits, and how far the second goes meanwhile."""

    store: str
    mode: Mode
    at: int
    row: Row
    side: str
    reach: str

    def __str__(self) -> str:
        return f"{self.store}, {self.mode}, {self.side} call {self.at} ({self.row}), the other {self.reach}"


class _Pausing(Tracer):
    """Lets others go on while one call waits, and holds each revoke against the journal and the stores."""

    def __init__(self, world: WalkedWorld, *, at: int = -1, side: str = "", others: Any = None) -> None:
        super().__init__(lambda: world.state, check=world.judge_now)
        self._world, self._pause_at, self._side, self._others = world, at, side, others

    async def call(self, port: str, method: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        here = len(self.rows) == self._pause_at
        if here and self._side == "before":
            await self._others()
        if method == "revoke_key":
            effect = self._world.judged_revoke(effect)
        try:
            return await super().call(port, method, effect)
        finally:
            if here and self._side == "after":
                await self._others()


@dataclass
class WalkedWorld(StoreWorld):
    """A world over a real adapter; what two workers do in it is judged as in the simulation."""

    def other_worker(self) -> Engine:
        """Give the engine of another process."""
        self.tracer = _Pausing(self)
        return Engine(self.world(traced=True, actor="second"))

    def judged_revoke(self, effect: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        async def judged() -> Any:
            before = self.exchange.truth()
            shown = {s.material.key_ref for s in (self._fresh_current(),) if s}
            result = await effect()
            for ref in before.keys() - self.exchange.truth().keys():
                fates = {row["fate"] for row in self.journal.tables["keys"] if row["key_ref"] == ref}
                assert Fate.REVOKING in fates, f"2: {ref} was revoked without an intent"
                assert ref not in shown, f"2: {ref} was revoked while it was current"
            return result

        return judged

    def _fresh_current(self) -> Any:
        self._seen.clear()
        return self._current(self.store)


async def one_step(fake: WalkedWorld) -> None:
    """Do the next step that does anything; a rest before it passes."""
    engine = fake.other_worker()
    opened = await fake.journal.open_rotation(NAME)
    for _ in range(2):
        progress = await engine.step(opened.id) if opened else None
        if progress is None or progress.rest is None or progress.rest.until is None:
            return
        fake.clock.travel_to(progress.rest.until)


async def to_the_promotion(fake: WalkedWorld) -> None:
    """Go on until another key is current, or nothing is left to do."""
    engine = fake.other_worker()
    before = await fake.store.peek(PATH, Slot.CURRENT)
    opened = await fake.journal.open_rotation(NAME)
    for _ in range(_MOST_STEPS):
        now = await fake.store.peek(PATH, Slot.CURRENT)
        if opened is None or (now and before and now.version != before.version):
            return
        progress = await engine.step(opened.id)
        if progress.rest is None:
            continue
        if progress.rest.until is None:
            return
        fake.clock.travel_to(progress.rest.until)
    raise AssertionError(f"no promotion: {opened}")


async def to_the_end(fake: WalkedWorld) -> None:
    """Sweep until nothing is left to do."""
    for _ in range(_MOST_STEPS):
        await sweep.sweep(fake.other_worker())
        if not await fake._unrest():
            return
        opened = await fake.journal.open_rotation(NAME)
        fake.clock.advance(5)
        if opened and opened.wake_at:
            fake.clock.travel_to(opened.wake_at)
    raise AssertionError(f"no end: {await fake.journal.latest()}")


REACHES = {
    "does one step": one_step,
    "goes to the promotion": to_the_promotion,
    "goes to the end": to_the_end,
}


async def _go(walked: Walk | None, store: str, mode: Mode, home: Home) -> list[Row]:
    fake = WalkedWorld(grace="10s", primary=home)
    await fake.prepare()
    first = fake.tracer = _Pausing(fake)
    if walked is not None:
        others = partial(REACHES[walked.reach], fake)
        first = fake.tracer = _Pausing(fake, at=walked.at, side=walked.side, others=others)
    engine = Engine(fake.world(traced=True, actor="first"))
    try:
        opened = await engine.open(NAME, mode=mode, reason="walked")
        await fake.run(engine, opened.id)
    except KeyturnError as error:
        if walked is None:
            raise AssertionError(f"the rotation fails by itself: {error.what}") from error
    rows = list(first.rows)
    fake.tracer = _Pausing(fake)
    await fake.sweep_until_rest(traced=True)
    parked = await fake.journal.open_rotation(NAME)
    assert parked is None or parked.state is not State.PARKED, f"it parks: {parked.parked_why}"
    await fake.judge_rest()
    return rows


@cache
def home(store: str) -> Home:
    """Open a home for a store, for the life of this process."""
    return STORES[store](Path(tempfile.mkdtemp(prefix="keyturn-walk-")))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def calls(store: str, mode: Mode) -> list[Row]:
    """Give the calls of a rotation that nobody interrupts."""
    with mock.patch.object(os, "fsync"):
        return list(_loop().run_until_complete(_go(None, store, mode, home(store))))


def walk(walked: Walk) -> None:
    """Go down a walk, and judge.

    Raises:
        AssertionError: an invariant does not hold.
    """
    # Only this process dies here, so that nothing need wait for the disk.
    with mock.patch.object(os, "fsync"):
        try:
            _loop().run_until_complete(_go(walked, walked.store, walked.mode, home(walked.store)))
        except AssertionError as error:
            raise AssertionError(f"{walked}: {error}") from error


def walks(store: str, mode: Mode, *, full: bool) -> Iterator[Walk]:
    """Give the walks; of the shapes those alone in which the waiting call changes something."""
    for at, row in enumerate(calls(store, mode)):
        if full or row.method in CHANGING[row.port]:
            for side in SIDES:
                for reach in REACHES:
                    yield Walk(store, mode, at, row, side, reach)


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    failed = made = 0
    for store in STORES:
        for mode in MODES:
            for walked in walks(store, mode, full=True):
                made += 1
                try:
                    walk(walked)
                except AssertionError as error:
                    failed += 1
                    print(error, flush=True)
    print(f"{made} walks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
