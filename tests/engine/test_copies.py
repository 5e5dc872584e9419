"""Copies inside a store are part of "confirmed", and hold up the revoke alone."""

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.rotation import Mode, Park, State
from keyturn.engine import status
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld


async def until(fake: FakeWorld, engine: Engine, rotation_id: str, *states: State):
    for _ in range(200):
        rotation = await engine.get(rotation_id)
        if rotation.state in states:
            return rotation
        progress = await engine.step(rotation_id)
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError(rotation.state)


async def opened(fake: FakeWorld):
    await fake.prepare()
    engine = Engine(fake.world())
    return engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id


async def test_a_region_that_is_behind_parks_after_the_pivot_and_the_sweep_goes_on():
    fake = FakeWorld(grace="10s", confirm_within="60s")
    engine, rotation_id = await opened(fake)
    fake.store.lagging = ["region eu-west-1 (InProgress)"]
    cutting = await until(fake, engine, rotation_id, State.CUTTING_OVER)
    await engine.step(rotation_id)
    (line,) = await status.status(fake.world())
    assert line.problem == "Not everywhere yet: s:bots/mm in region eu-west-1 (InProgress)."
    parked = await until(fake, engine, rotation_id, State.PARKED)
    assert (parked.parked, parked.parked_from) == (Park.UNCONFIRMED, State.CUTTING_OVER)
    assert "region eu-west-1 (InProgress)" in parked.parked_why
    assert {cutting.old_ref, cutting.new_ref} <= fake.exchange.truth().keys(), "both keys live"
    fake.store.lagging = []
    fake.clock.advance(120)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_what_is_behind_is_named_no_longer_once_it_followed():
    fake = FakeWorld(grace="10s")
    engine, rotation_id = await opened(fake)
    fake.bot.confirms = False
    fake.store.lagging = ["region eu-west-1 (InProgress)"]
    await until(fake, engine, rotation_id, State.CUTTING_OVER)
    await engine.step(rotation_id)
    assert "eu-west-1" in (await engine.get(rotation_id)).problem
    fake.store.lagging = []
    fake.clock.advance(60)
    await engine.step(rotation_id)
    waiting = await engine.get(rotation_id)
    assert (waiting.state, waiting.problem) == (State.CUTTING_OVER, "")


async def test_the_old_key_is_not_revoked_while_a_copy_has_fallen_behind_again():
    fake = FakeWorld(grace="10s")
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    fake.store.lagging = ["region eu-west-1 (Failed)"]
    fake.clock.advance(60)
    held = (await engine.step(rotation_id)).rotation
    assert held.state is State.GRACE
    assert "Not everywhere yet" in held.problem
    assert fake.old.key_ref in fake.exchange.truth()
    fake.store.lagging = []
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_copies_that_cannot_be_asked_hold_the_revoke_back_and_say_why():
    fake = FakeWorld(grace="10s", confirm_within="60s")
    engine, rotation_id = await opened(fake)
    real = fake.store.spread

    async def denied(_path):
        raise StoreError(StoreFault.DENIED, "AWS denies it.", todo="Allow it.")

    fake.store.spread = denied
    parked = await until(fake, engine, rotation_id, State.PARKED)
    assert "copies of s:bots/mm (AWS denies it. Allow it)" in parked.parked_why
    fake.store.spread = real
    fake.clock.advance(120)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_parked_rotation_whose_store_is_down_stays_parked():
    fake = FakeWorld(grace="10s", confirm_within="5s", mirrored=True)
    engine, rotation_id = await opened(fake)
    fake.bot.confirms = False
    parked = await until(fake, engine, rotation_id, State.PARKED)
    real = fake.store.read

    async def down(*_args):
        raise StoreError(StoreFault.UNAVAILABLE, "The store is down.")

    fake.store.read = down
    fake.clock.advance(120)
    progress = await engine.step(rotation_id)
    assert (progress.rotation.state, progress.rest.waiting_for) == (State.PARKED, parked.parked_why)
    fake.store.read, fake.bot.confirms = real, True
    fake.clock.advance(120)
    await fake.sweep_until_rest()
    await fake.judge_rest()
