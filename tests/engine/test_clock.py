"""A machine's clock jumps ahead, keyturn works under it, and somebody sets it back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.rotation import EventType, Park, State
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld

from .walking import opened, until

JUMP = 40 * 86400.0


async def at(fake: FakeWorld, state: State) -> tuple[Engine, str]:
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, state)
    return engine, rotation_id


async def ends_within(fake: FakeWorld, rotation_id: str, seconds: float) -> None:
    """Sweeps of new processes bring it to its end, in no more time than that."""
    end = fake.clock.now() + timedelta(seconds=seconds)
    await fake.sweep_until_rest()
    rotation = await fake.journal.get(rotation_id)
    assert rotation.state is State.COMPLETED
    assert fake.clock.now() <= end
    await fake.judge_rest()


WALKED = (State.PLANNED, State.STAGED, State.VERIFIED, State.PROMOTED, State.CUTTING_OVER, State.GRACE)


@pytest.mark.parametrize("state", WALKED)
async def test_what_was_put_off_under_a_clock_that_was_ahead_goes_on_when_it_is_set_back(state):
    fake = FakeWorld(grace="60s", confirm_within="60s")
    _, rotation_id = await at(fake, state)
    fake.clock.advance(JUMP)
    for method in ("list_keys", "introspect", "private_read"):
        fake.exchange.fail(method, ExchangeFault.CLOCK_SKEW)
    await sweep.sweep(Engine(fake.world()))
    fake.clock.set_back(JUMP)
    await ends_within(fake, rotation_id, 300)


async def test_the_grace_is_never_cut_short_by_a_clock_that_was_ahead():
    fake = FakeWorld(grace="60s")
    engine, rotation_id = await at(fake, State.GRACE)
    fake.clock.advance(JUMP)
    fake.exchange.fail("private_read", ExchangeFault.CLOCK_SKEW)
    await engine.step(rotation_id)
    fake.clock.set_back(JUMP)
    await sweep.sweep(Engine(fake.world()))
    mended = await engine.get(rotation_id)
    assert (mended.wake_at, mended.problem) == (mended.grace_until, "")
    for _ in range(11):
        await sweep.sweep(Engine(fake.world()))
        fake.clock.advance(5)
    assert fake.old.key_ref in fake.exchange.truth()
    await ends_within(fake, rotation_id, 60)


async def test_a_grace_that_began_under_a_clock_that_was_ahead_ends_a_grace_from_now():
    fake = FakeWorld(grace="60s")
    engine, rotation_id = await at(fake, State.CUTTING_OVER)
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.GRACE)
    fake.clock.set_back(JUMP)
    now = fake.clock.now()
    rested = await engine.advance(rotation_id)
    assert rested.rotation.grace_until == rested.wake_at == now + timedelta(seconds=60)
    assert rested.rotation.confirmed_at < now
    await ends_within(fake, rotation_id, 120)


async def test_the_grace_of_a_roll_back_is_not_cut_short_either():
    fake = FakeWorld(grace="60s", evidence="timed")
    engine, rotation_id = await at(fake, State.GRACE)
    await engine.rollback(NAME, "a test wants it")
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.ABORTING)
    fake.clock.set_back(JUMP)
    end = fake.clock.now() + timedelta(seconds=60)
    rested = await engine.advance(rotation_id)
    assert (rested.rotation.state, rested.wake_at) == (State.ABORTING, end)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    assert fake.clock.now() >= end


async def test_a_key_that_died_since_it_was_proved_under_another_clock_is_noticed():
    fake = FakeWorld(grace="10s")
    engine, rotation_id = await at(fake, State.CUTTING_OVER)
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.GRACE)
    fake.clock.set_back(JUMP)
    fake.judging = False  # it would see at once what the test does here
    fake.exchange.kill_key((await engine.get(rotation_id)).new_ref)
    stopped = await fake.run(engine, rotation_id)
    assert stopped.parked is Park.NO_PROOF
    assert fake.old.key_ref in fake.exchange.truth()


async def test_a_key_that_died_since_it_was_verified_under_another_clock_is_not_promoted():
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.STAGED)
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.VERIFIED)
    fake.clock.set_back(JUMP)
    fake.exchange.kill_key((await engine.get(rotation_id)).new_ref)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.judge_rest()


async def test_a_resume_sets_right_what_a_clock_that_was_ahead_has_put_off():
    fake = FakeWorld(grace="60s")
    engine, rotation_id = await at(fake, State.CUTTING_OVER)
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.GRACE)
    fake.clock.advance(100)
    fake.exchange.fail("private_read", ExchangeFault.REJECTED)
    assert (await fake.run(engine, rotation_id)).parked is Park.REJECTED
    fake.clock.set_back(JUMP)
    await engine.resume(NAME)
    await ends_within(fake, rotation_id, 120)


async def test_times_stay_as_they_are_until_the_exchange_can_be_asked_which_clock_is_right():
    fake = FakeWorld(grace="60s")
    engine, rotation_id = await at(fake, State.CUTTING_OVER)
    fake.clock.advance(JUMP)
    await until(fake, engine, rotation_id, State.GRACE)
    fake.clock.set_back(JUMP)
    seq = (await engine.get(rotation_id)).seq
    fake.exchange.fail("server_time", ExchangeFault.VENUE_DOWN)
    progress = await engine.step(rotation_id)
    assert "could not be asked" in progress.rest.waiting_for
    assert progress.rotation.seq == seq
    await ends_within(fake, rotation_id, 180)


async def test_clocks_that_differ_by_seconds_leave_no_trace():
    fake = FakeWorld(grace="60s")
    engine, rotation_id = await at(fake, State.GRACE)
    fake.clock.set_back(30)
    await fake.run(engine, rotation_id)
    told = [e.event.type for e in await fake.journal.events(rotation_id)]
    assert EventType.CLOCK_SET_BACK not in told


async def test_a_clock_that_is_behind_cuts_no_grace_short():
    """A machine boots with its clock years back, beside one whose clock is right."""
    fake = FakeWorld(grace="1h")
    engine, rotation_id = await at(fake, State.GRACE)
    seq = (await engine.get(rotation_id)).seq
    fake.clock.set_back(JUMP)
    fake.exchange.clock_offset = JUMP
    (outcome,) = await sweep.sweep(Engine(fake.world()))
    assert "set this machine's clock" in outcome.waiting_for
    fake.clock.advance(JUMP)
    fake.exchange.clock_offset = 0.0
    assert (await engine.get(rotation_id)).seq == seq
    fake.clock.advance(3000)
    await sweep.sweep(Engine(fake.world()))
    assert fake.old.key_ref in fake.exchange.truth()
    await ends_within(fake, rotation_id, 3600)
