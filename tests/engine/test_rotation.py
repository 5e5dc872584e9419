"""One rotation, end to end, over the fakes: what is true at each turn of the road."""

import pytest

from keyturn.domain.errors import RefusedError
from keyturn.domain.rotation import Mode, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld


async def rotate(fake: FakeWorld, mode: Mode = Mode.MANUAL):
    engine = Engine(fake.world(traced=True))
    opened = await engine.open(NAME, mode=mode, reason="a test")
    return await fake.run(engine, opened.id)


async def test_a_key_is_replaced_its_bot_moved_and_the_old_one_revoked():
    fake = FakeWorld()
    await fake.prepare()
    done = await rotate(fake)
    assert done.state is State.COMPLETED
    assert done.old_ref == fake.old.key_ref not in fake.exchange.truth()
    await fake.judge_rest()


async def test_a_credential_without_a_key_gets_its_first_one():
    fake = FakeWorld()
    await fake.prepare(old_key=False)
    assert (await rotate(fake)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_sweep_begins_what_is_due_and_leaves_what_is_not():
    fake = FakeWorld(grace="10s")
    await fake.prepare(old_key=False)
    await fake.sweep_until_rest()
    await fake.judge_rest()
    first = (await fake.journal.latest())[0].id
    fake.clock.advance(59 * 86400)
    await fake.sweep_until_rest()
    assert (await fake.journal.latest())[0].id == first, "it was not due yet"
    fake.clock.advance(2 * 86400)
    await fake.sweep_until_rest()
    assert (await fake.journal.latest())[0].id != first
    await fake.judge_rest()


async def test_in_the_grace_a_second_rotation_is_refused_with_what_ends_the_old_key_now():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    waiting = await engine.advance(opened.id)
    assert waiting.rotation.state is State.GRACE
    with pytest.raises(RefusedError) as caught:
        await engine.open(NAME, mode=Mode.INCIDENT, reason="the old key leaked")
    assert "delete it at the exchange" in caught.value.todo
    fake.exchange.kill_key(fake.old.key_ref)
    assert (await fake.run(engine, opened.id)).state is State.COMPLETED
    await fake.judge_rest()
