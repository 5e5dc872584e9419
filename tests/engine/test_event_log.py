"""The engine logs each event that stands in its journal, by names, ids and states alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from keyturn.domain.rotation import State
from keyturn.testing.fake_world import NAME, FakeWorld

from .walking import opened, until

FIELDS = {
    *("event", "credential", "rotation", "state", "exchange", "account", "attempt", "actor"),
    *("was", "parked", "wake_at"),
}


async def rotated(fake: FakeWorld) -> None:
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.PARKED)
    await engine.resume(NAME)
    fake.bot.confirms = True
    await fake.run(engine, rotation_id)


@pytest.fixture
async def fake() -> FakeWorld:
    made = FakeWorld(grace="10s", confirm_within="5s")
    await made.prepare()
    made.bot.confirms = False
    return made


def told(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [each for each in caplog.records if each.name == "keyturn.engine"]


async def test_each_event_of_the_journal_has_its_line(fake: FakeWorld, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "keyturn.engine"):
        await rotated(fake)
    (rotation,) = await fake.journal.rotations(NAME, limit=9)
    stands = [str(each.event.type) for each in await fake.journal.events(rotation.id)]
    assert [each.keyturn["event"] for each in told(caplog)] == stands
    assert {"opened", "parked", "resumed", "completed"} <= set(stands)
    (parked,) = [each for each in told(caplog) if each.keyturn["event"] == "parked"]
    assert (parked.levelname, parked.keyturn["parked"]) == ("WARNING", "unconfirmed")
    assert parked.keyturn["was"] == "cutting_over"
    last = told(caplog)[-1]
    assert last.getMessage() == f"{NAME} {rotation.id}: completed (revoking -> completed)"


async def test_a_line_holds_names_ids_and_states_alone(fake: FakeWorld, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "keyturn.engine"):
        await rotated(fake)
    assert all(set(each.keyturn) <= FIELDS for each in told(caplog))
    spoken = repr([(each.keyturn, each.getMessage()) for each in told(caplog)])
    (rotation,) = await fake.journal.rotations(NAME, limit=9)
    assert rotation.reason not in spoken
    assert rotation.parked_why == "" or rotation.parked_why not in spoken
    assert not [ref for ref in fake.exchange.truth() if ref in spoken]


async def test_nothing_is_said_where_nobody_asked_for_a_log(
    fake: FakeWorld, caplog: pytest.LogCaptureFixture
):
    """Python prints a warning that no handler takes: a command would tell it twice."""
    with caplog.at_level(logging.WARNING, "keyturn"):
        await rotated(fake)
    assert told(caplog) == []
