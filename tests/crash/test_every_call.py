"""Every port call of the engine, in every state, ends badly once: before, after, outcome unknown.

Whatever happens, sweeps of other processes bring the world to rest, and then the exchange's books, the
store's slots and the bot agree: one live managed key, current, in use, and nobody else's touched. The
judge also looks after every single call on the way.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from keyturn.domain.errors import JournalError, RefusedError
from keyturn.engine.engine import Engine
from keyturn.testing.crash import CHANGING, Killed, Mishap, Row

from .roads import ROADS

TABLE = Path(__file__).with_name("rows.txt")


async def walk(name: str, at: int | None = None, mishap: Mishap | None = None) -> list[Row]:
    """Go down a road with one mishap at most; sweep up; judge; give the calls that were made."""
    road = ROADS[name]
    fake = await road.prepared()
    if at is not None and mishap is not None:
        fake.tracer.arm(at, mishap)
    # The process is gone, or its flow run failed: the sweep is what goes on.
    with suppress(Killed, JournalError, RefusedError):
        await road.story(fake, Engine(fake.world(traced=True)))
    rows = list(fake.tracer.rows)
    fake.tracer.disarm()
    fake.bot.confirms = True
    fake.store.lagging = fake.mirror.lagging = []
    await fake.sweep_until_rest(traced=True)
    await fake.judge_rest()
    return rows


@pytest.mark.parametrize("mishap", Mishap)
@pytest.mark.parametrize("name", ROADS)
async def test_a_mishap_at_any_call_leaves_nothing_that_the_sweep_does_not_finish(name, mishap):
    rows = await walk(name)
    for at, row in enumerate(rows):
        try:
            await walk(name, at, mishap)
        except AssertionError as error:
            raise AssertionError(f"{name}, call {at} ({row}), {mishap}: {error}") from error


async def test_every_port_call_of_the_engine_has_its_row():
    seen = {str(row) for name in ROADS for row in await walk(name)}
    known = {line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")}
    assert seen - known == set(), "new calls: add their rows to rows.txt, and a road that goes there"
    assert known - seen == set(), "rows that no road reaches any more"


async def test_every_changing_call_is_reached():
    seen = {(row.port, row.method) for name in ROADS for row in await walk(name)}
    # Taking in what a person has is not part of a rotation, nor is moving house (tests/engine/test_move.py).
    by_hand = {("store", "put"), ("journal", "record_keys"), ("store", "vacate"), ("mirror", "vacate")}
    changing = {(port, method) for port, methods in CHANGING.items() for method in methods}
    assert changing - by_hand <= seen
