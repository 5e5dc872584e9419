"""Each row of the crash suite on each store: every port call of the engine, in every state, ends badly once.

And once more one level deeper, where a store's verb is several calls to its server: the process dies before
or after any of them. At the end the judge also looks for secrets that are over, behind the adapter's back.

The suite walks a death before and after what changes a store on each store, and lets the other rows and
mishaps take turns over the stores; of the calls within a verb it goes to each one in each state once. `make
product` walks every row with every mishap on every store, and every call to a server on every road.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from keyturn.domain.rotation import State
from keyturn.domain.slots import Slot, Stored
from keyturn.stores.aws import page_desk, parameter_slots, parameters, rotation_slots, shelf
from keyturn.testing.crash import Mishap, Row, shape
from keyturn.testing.fake_world import PATH, FakeWorld
from keyturn.testing.roads import ROADS, Road, aborted_at, walk
from keyturn.testing.store_world import Home, StoreWorld
from tests.simulation.loop import run

from .homes import KINDS

# To a call that only reads there is no other: told that its outcome is unknown is told that it failed.
_OF_A_READ = (Mishap.BEFORE, Mishap.AFTER, Mishap.FAILED)
# A store without the effect of a call, and with it. What else can go wrong there leaves one of the two, and
# differs in what the engine is told, which is the same of every store.
_LEFT = {Mishap.BEFORE, Mishap.AFTER}
#: Primary and mirror: each kind is one and the other once.
PAIRS = (
    ("vault", "secrets manager"),
    ("secrets manager", "age files"),
    ("age files", "parameter store"),
    ("parameter store", "vault"),
    ("age files", "vault"),
)
#: What the engine takes with any store.
OPEN = {name: road for name, road in ROADS.items() if not road.in_memory}
#: Roads on which a verb meets what it does not meet on the others, for deaths between the calls of one.
DEEP = {
    name: ROADS[name]
    for name in ("forward", "the first key", "aborted while staged", "aborted when verified")
} | {
    "aborted, the first key": Road(aborted_at(State.VERIFIED), old_key=False),
    "rolled back in grace": ROADS["rolled back in grace"],
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Home]:
    built: dict[str, Home] = {}

    def home(kind: str) -> Home:
        if kind not in built:
            built[kind] = KINDS[kind](tmp_path_factory.mktemp("home"))
        return built[kind]

    return home


class _Hours:
    """The time of AWS's adapters, which passes when they wait."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0

    def time(self) -> float:
        return self._now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this process dies here, so that nothing need wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hours]:
    passing = _Hours()
    for module in (page_desk, parameter_slots, parameters, rotation_slots, shelf):
        if hasattr(module, "time"):
            monkeypatch.setattr(module, "time", passing)
    return passing


def first_calls(make: Callable[..., FakeWorld], roads: dict[str, Road]) -> dict[str, tuple[str, int, Row]]:
    """Give for each row the first call on any of the roads that is one."""
    found: dict[str, tuple[str, int, Row]] = {}
    for name, road in roads.items():
        for at, row in enumerate(run(walk(road, make=make))):
            found.setdefault(str(row), (name, at, row))
    return found


def mishaps(row: Row) -> tuple[Mishap, ...]:
    """Give what can go wrong at a call."""
    return tuple(Mishap) if row.changes else _OF_A_READ


def turns_of(number: int, row: Row, turn: int, turns: int) -> Iterator[Mishap]:
    """Give what goes wrong at the row with this number in the suite, when it is this store's turn."""
    for step, mishap in enumerate(shape(row)):
        left = row.port in {"store", "mirror"} and row.changes and mishap in _LEFT
        if left or (number + step) % turns == turn:
            yield mishap


def fall(road: str, at: int, row: Row, mishap: Mishap, make: Callable[..., FakeWorld]) -> None:
    try:
        run(walk(ROADS[road], at, mishap, make=make))
    except AssertionError as error:
        raise AssertionError(f"{road}, call {at} ({row}), {mishap}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_mishap_in_any_row_is_finished_by_the_sweep_on_each_store(kind, homes, product):
    """Rows about mirrors have a mirror in memory here, and real ones below."""
    make = partial(StoreWorld, primary=homes(kind))
    calls = first_calls(make, OPEN)
    in_memory = first_calls(FakeWorld, OPEN)
    assert calls.keys() == in_memory.keys(), "a store makes the engine take another way"
    turn = list(KINDS).index(kind)
    for number, (road, at, row) in enumerate(calls.values()):
        for mishap in mishaps(row) if product else turns_of(number, row, turn, len(KINDS)):
            fall(road, at, row, mishap, make)


@pytest.mark.slow
@pytest.mark.parametrize(("primary", "mirror"), PAIRS)
def test_a_mishap_at_any_call_of_a_mirror_is_made_good(primary, mirror, homes, product):
    make = partial(StoreWorld, primary=homes(primary), second=homes(mirror))
    mirrored = {name: road for name, road in OPEN.items() if road.mirrored}
    turn = PAIRS.index((primary, mirror))
    seen: set[str] = set()
    for name, road in mirrored.items():
        for at, row in enumerate(run(walk(road, make=make))):
            if row.port != "mirror" or (str(row) in seen and not product):
                continue
            seen.add(str(row))
            for mishap in mishaps(row) if product else turns_of(len(seen), row, turn, len(PAIRS)):
                fall(name, at, row, mishap, make)
    assert seen == {row for row in first_calls(FakeWorld, mirrored) if " mirror." in row}


@pytest.fixture(scope="module")
def places() -> dict[tuple[str, bool], set[tuple[str, ...]]]:
    """Keep what was walked of each kind, before and after: the row, and the calls within its verb so far."""
    return defaultdict(set)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("road", DEEP)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "age files"])
def test_a_death_at_any_call_to_the_server_is_finished_by_the_sweep(
    kind, road, after, homes, places, product
):
    """The age files' like is in test_age_files_crash.py: a death before any change on the disk."""
    home = homes(kind)

    class Deadly(StoreWorld):
        def _current(self, store: Any) -> Stored | None:
            # The judge's looks are no calls of a process that could die.
            with home.line.aside():
                return super()._current(store)

        def recover(self) -> None:
            made[:] = home.line.calls
            home.line.arm(None)
            super().recover()

        async def judge_rest(self) -> None:
            if road == "aborted, the first key" and await self.store.read(PATH, Slot.CURRENT) is None:
                # There was none before, and there is none now.
                assert home.keys_kept(PATH) == set()
            else:
                await super().judge_rest()

    def go(at: int | None) -> None:
        def begin(fake: FakeWorld) -> None:
            home.line.arm(at, after=after, verb=lambda: (len(fake.tracer.rows), str(fake.tracer.rows[-1])))

        run(walk(DEEP[road], make=partial(Deadly, primary=home), meanwhile=begin))

    made: list[tuple[str, Any]] = []
    go(None)
    calls = list(made)
    assert len(calls) > 10
    for at, (call, verb) in enumerate(calls):
        place = (verb[1], *(name for name, of in calls[: at + 1] if of == verb))
        if place in places[kind, after] and not product:
            continue
        places[kind, after].add(place)
        try:
            go(at)
        except AssertionError as error:
            raise AssertionError(f"{road}, call {at} ({call}), {after=}: {error}") from error
