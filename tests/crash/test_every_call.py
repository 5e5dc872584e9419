"""Every port call of the engine, in every state, ends badly once: before, after, outcome unknown.

Whatever happens, sweeps of other processes bring the world to rest, and then the exchange's books, the
store's slots and the bot agree: one live managed key, current, in use, and nobody else's touched. The
judge also looks after every single call on the way.

The suite goes to each call after each other call, on the first road where the one follows the other, with
what `shape` says of it; `make product` goes to every call of every road with every mishap.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from keyturn.engine import work
from keyturn.testing.crash import CHANGING, Mishap, Row, shape
from keyturn.testing.roads import ROADS, walk
from tests.simulation.loop import run

TABLE = Path(__file__).with_name("rows.txt")


@pytest.fixture(autouse=True, scope="module")
def a_second_goes_by_between_two_looks_at_a_manager_key() -> Iterator[None]:
    """On these roads no time passes but what is waited for, and a look that is left out has no row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_MANAGER_SEEN", timedelta(0))
        yield


Calls = list[tuple[int, Row]]


@pytest.fixture(scope="module")
def calls(product: bool) -> dict[str, Calls]:
    """Give for each road the calls that the suite goes to, with their numbers."""

    followed: set[tuple[str, str]] = set()
    chosen = {}
    for name, road in ROADS.items():
        rows = run(walk(road))
        pairs = list(pairwise(["", *map(str, rows)]))
        chosen[name] = [
            (at, row) for at, row in enumerate(rows) if product or pairs[at] not in {*followed, *pairs[:at]}
        ]
        followed.update(pairs)
    return chosen


@pytest.mark.parametrize("mishap", Mishap)
@pytest.mark.parametrize("name", ROADS)
def test_a_mishap_at_any_call_leaves_nothing_that_the_sweep_does_not_finish(name, mishap, calls, product):
    for at, row in calls[name]:
        if mishap not in (Mishap if product else shape(row)):
            continue
        try:
            run(walk(ROADS[name], at, mishap))
        except AssertionError as error:
            raise AssertionError(f"{name}, call {at} ({row}), {mishap}: {error}") from error


@pytest.mark.parametrize("mishap", [Mishap.BEFORE, Mishap.AFTER])
@pytest.mark.parametrize("name", ROADS)
def test_a_death_that_is_found_hours_later_leaves_nothing_either(name, mishap, calls, product):
    for at, row in calls[name]:
        if mishap not in (Mishap if product else shape(row)):
            continue
        try:
            run(walk(ROADS[name], at, mishap, found_after=3 * 3600))
        except AssertionError as error:
            raise AssertionError(f"{name}, call {at} ({row}), {mishap}: {error}") from error


def test_every_port_call_of_the_engine_has_its_row():
    seen = {str(row) for name in ROADS for row in run(walk(ROADS[name]))}
    known = {line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")}
    assert seen - known == set(), "new calls: add their rows to rows.txt, and a road that goes there"
    assert known - seen == set(), "rows that no road reaches any more"


def test_every_changing_call_is_reached():
    seen = {(row.port, row.method) for name in ROADS for row in run(walk(ROADS[name]))}
    # Taking in what a person has is not part of a rotation, nor is moving house (tests/engine/test_move.py).
    by_hand = {("store", "put"), ("journal", "record_keys"), ("store", "vacate"), ("mirror", "vacate")}
    changing = {(port, method) for port, methods in CHANGING.items() for method in methods}
    assert changing - by_hand <= seen
