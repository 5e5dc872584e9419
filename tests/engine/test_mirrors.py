"""A mirror follows the promotion, is part of "confirmed", and holds up the revoke alone."""

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.rotation import Mode, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld


async def opened(fake: FakeWorld):
    await fake.prepare()
    engine = Engine(fake.world(traced=True))
    return engine, (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id


async def test_a_mirror_follows_the_promotion_and_forgets_the_dead_key():
    fake = FakeWorld(mirrored=True)
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_mirror_that_is_down_parks_nothing_before_the_pivot_and_blocks_the_revoke_after_it():
    fake = FakeWorld(mirrored=True, grace="10s", confirm_within="60s")
    engine, rotation_id = await opened(fake)
    real = fake.mirror.peek

    async def down(*_args, **_kwargs):
        raise StoreError(StoreFault.UNAVAILABLE, "The mirror is down.")

    fake.mirror.peek = down
    for _ in range(100):
        progress = await engine.step(rotation_id)
        if progress.rotation.state is State.PARKED:
            break
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    parked = progress.rotation
    assert (parked.parked, parked.parked_from) == (Park.UNCONFIRMED, State.CUTTING_OVER)
    assert f"mirror mirror:{PATH}" in parked.parked_why
    assert {parked.old_ref, parked.new_ref} <= fake.exchange.truth().keys(), "both keys live"
    fake.mirror.peek = real
    fake.clock.advance(120)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_the_old_key_is_not_revoked_while_a_mirror_names_it():
    fake = FakeWorld(mirrored=True, grace="10s")
    engine, rotation_id = await opened(fake)
    for _ in range(30):
        progress = await engine.step(rotation_id)
        if progress.rotation.state is State.GRACE:
            break
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    current = await fake.mirror.peek(PATH, Slot.CURRENT)
    await fake.mirror.restore_previous(PATH, expect_current=current.version)  # somebody, behind our back
    fake.clock.advance(60)
    progress = await engine.step(rotation_id)
    assert progress.rotation.state is State.GRACE
    assert "still current in mirror" in progress.rotation.problem
    assert fake.old.key_ref in fake.exchange.truth()
