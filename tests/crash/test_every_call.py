"""Every port call of the engine, in every state, ends badly once: before, after, outcome unknown.

Whatever happens, sweeps of other processes bring the world to rest, and then the exchange's books, the
store's slots and the bot agree: one live managed key, current, in use, and nobody else's touched. The
judge also looks after every single call on the way.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keyturn.engine import work
from keyturn.testing.crash import CHANGING, Mishap
from keyturn.testing.roads import ROADS, walk

TABLE = Path(__file__).with_name("rows.txt")


@pytest.fixture(autouse=True)
def a_second_goes_by_between_two_looks_at_a_manager_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """On these roads no time passes but what is waited for, and a look that is left out has no row."""
    monkeypatch.setattr(work, "_MANAGER_SEEN", timedelta(0))


@pytest.mark.parametrize("mishap", Mishap)
@pytest.mark.parametrize("name", ROADS)
async def test_a_mishap_at_any_call_leaves_nothing_that_the_sweep_does_not_finish(name, mishap):
    rows = await walk(ROADS[name])
    for at, row in enumerate(rows):
        try:
            await walk(ROADS[name], at, mishap)
        except AssertionError as error:
            raise AssertionError(f"{name}, call {at} ({row}), {mishap}: {error}") from error


@pytest.mark.parametrize("mishap", [Mishap.BEFORE, Mishap.AFTER])
@pytest.mark.parametrize("name", ROADS)
async def test_a_death_that_is_found_hours_later_leaves_nothing_either(name, mishap):
    for at, row in enumerate(await walk(ROADS[name])):
        try:
            await walk(ROADS[name], at, mishap, found_after=3 * 3600)
        except AssertionError as error:
            raise AssertionError(f"{name}, call {at} ({row}), {mishap}: {error}") from error


async def test_every_port_call_of_the_engine_has_its_row():
    seen = {str(row) for name in ROADS for row in await walk(ROADS[name])}
    known = {line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")}
    assert seen - known == set(), "new calls: add their rows to rows.txt, and a road that goes there"
    assert known - seen == set(), "rows that no road reaches any more"


async def test_every_changing_call_is_reached():
    seen = {(row.port, row.method) for name in ROADS for row in await walk(ROADS[name])}
    # Taking in what a person has is not part of a rotation, nor is moving house (tests/engine/test_move.py).
    by_hand = {("store", "put"), ("journal", "record_keys"), ("store", "vacate"), ("mirror", "vacate")}
    changing = {(port, method) for port, methods in CHANGING.items() for method in methods}
    assert changing - by_hand <= seen
