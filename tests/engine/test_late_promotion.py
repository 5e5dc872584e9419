"""A promotion that a dead worker made is found by whoever comes, however late."""

from contextlib import suppress

import pytest

from keyturn.domain.rotation import Mode, State
from keyturn.engine.engine import Engine
from keyturn.testing.crash import Killed, Mishap
from keyturn.testing.fake_world import NAME, FakeWorld


async def at_the_promotion(mishap: Mishap) -> FakeWorld:
    """Let a worker die at its promotion."""
    measured = FakeWorld(grace="10s")
    await measured.prepare()
    measured.tracer.rows = []
    engine = Engine(measured.world(traced=True))
    await measured.run(engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    at = [row.method for row in measured.tracer.rows].index("promote")
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    fake.tracer.arm(at, mishap)
    engine = Engine(fake.world(traced=True))
    with suppress(Killed):
        await fake.run(engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    fake.recover()
    return fake


@pytest.mark.parametrize("mishap", [Mishap.BEFORE, Mishap.AFTER])
async def test_a_worker_that_dies_at_its_promotion_is_followed_forward_an_hour_later(mishap):
    fake = await at_the_promotion(mishap)
    opened = await fake.journal.open_rotation(NAME)
    assert opened is not None
    assert opened.state is State.VERIFIED
    fake.clock.advance(3600)
    await fake.sweep_until_rest()
    await fake.judge_rest()
    (rotation,) = await fake.journal.latest()
    assert rotation.state is State.COMPLETED, rotation.abort_reason
