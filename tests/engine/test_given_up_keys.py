"""A given-up key that the exchange does not revoke: asked ever more rarely, told, never forgotten."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.rotation import EventType, Fate, State
from keyturn.engine import sweep
from keyturn.engine.doctor import doctor
from keyturn.engine.engine import Engine
from keyturn.engine.status import status
from keyturn.testing.fake_world import NAME, FakeWorld

from .walking import opened, until

ROUNDS, ALWAYS = 8, 10_000
#: Between two sweeps.
MINUTE = timedelta(minutes=1)


async def left_behind() -> tuple[FakeWorld, str]:
    """Abort a rotation whose key shows late in the exchange's list; give its id."""
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await until(fake, engine, rotation_id, State.MINTING)
    await engine.abort(NAME, "a test wants it")
    fake.exchange.serve_stale_list(changes=1)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    fake.clock.advance(600)
    return fake, rotation_id


async def swept(fake: FakeWorld, minutes: int) -> list[int]:
    """Sweep each minute, in new processes; give the minutes in which the exchange was told to revoke."""
    told = []
    for minute in range(minutes):
        before = revokes(fake)
        for outcome in await sweep.sweep(Engine(fake.world(actor="sweep"))):
            assert outcome.item.kind in {sweep.Kind.SETTLE, sweep.Kind.COMPARE}, outcome
        if revokes(fake) > before:
            assert revokes(fake) == before + 1
            told.append(minute)
        fake.clock.advance(MINUTE.total_seconds())
    return told


def revokes(fake: FakeWorld) -> int:
    return sum(name == "revoke_key" for name, _ in fake.exchange.calls)


async def fate(fake: FakeWorld, rotation_id: str) -> Fate:
    (record,) = [key for key in await fake.journal.keys(NAME) if key.rotation_id == rotation_id]
    return record.fate


FAULTS = {
    "an answer that nobody can explain": {"fault": ExchangeFault.OUTCOME_UNKNOWN, "unexplained": True},
    "no answer": {"fault": ExchangeFault.OUTCOME_UNKNOWN},
    "a refusal": {"fault": ExchangeFault.REJECTED},
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_the_exchange_is_told_ever_more_rarely_and_for_as_long_as_the_key_may_live(kind):
    fake, rotation_id = await left_behind()
    fake.exchange.fail("revoke_key", times=ALWAYS, **FAULTS[kind])
    told = await swept(fake, 6 * 60)
    assert told[:2] == [0, 1], "the first may have been lost on the way"
    pauses = [b - a for a, b in pairwise(told)]
    assert pauses == sorted(pauses) or max(pauses) - pauses[-1] <= 4, "a quarter more or less, by its id"
    assert 15 <= max(pauses) <= 20
    assert len(told) < 40
    assert await fate(fake, rotation_id) is Fate.REVOKING
    fake.exchange._faults.clear()
    await swept(fake, 20)
    assert await fate(fake, rotation_id) is Fate.REVOKED
    await fake.judge_rest()
    types = [each.event.type for each in await fake.journal.events(rotation_id)]
    assert types.count(EventType.ORPHAN_REVOKE_INTENDED) == len(told) + 1


async def test_after_so_many_a_person_is_told_the_key_and_where_to_look_until_it_is_dead():
    fake, rotation_id = await left_behind()
    fake.exchange.fail("revoke_key", times=ALWAYS, **FAULTS["an answer that nobody can explain"])
    few = len(await swept(fake, 3))
    assert few < ROUNDS
    assert not [text for text in await named(fake) if "times to revoke it" in text]
    told = few + len(await swept(fake, 180))
    assert told > ROUNDS
    found = await named(fake)
    assert len(found) == 2, "by status and by doctor, once each"
    for text in found:
        assert "times to revoke it, and has never said that it did; the exchange lists it" in text
        assert "Look at https://" in text
        assert f"kt-{rotation_id}-1, and delete it there" in text
    # In every minute: what is tried again is no news.
    for _ in range(20):
        await swept(fake, 1)
        assert [text for text in await named(fake, status_alone=True) if "times to revoke it" in text]
    fake.exchange._faults.clear()
    await swept(fake, 20)
    assert await named(fake) == []


async def named(fake: FakeWorld, *, status_alone: bool = False) -> list[str]:
    """Give what status, and doctor, say of keys that journal, store and exchange do not agree on."""
    (line,) = await status(fake.world())
    found = [f"{each.what} {each.todo}" for each in line.differences]
    if not status_alone:
        found += [
            f"{each.detail} {each.todo}"
            for each in await doctor(fake.world())
            if "is forgotten" in each.detail
        ]
    return found


async def test_a_clock_that_was_ahead_puts_no_revoke_off():
    fake, rotation_id = await left_behind()
    fake.exchange.fail("revoke_key", times=6, **FAULTS["no answer"])
    await swept(fake, 60)
    assert await fate(fake, rotation_id) is Fate.REVOKED
    fake, rotation_id = await left_behind()
    fake.exchange.fail("revoke_key", times=5, **FAULTS["no answer"])
    before = fake.clock.now()
    await swept(fake, 10)
    fake.clock.travel_to(before - timedelta(days=1))
    await swept(fake, 2)
    assert await fate(fake, rotation_id) is Fate.REVOKED
