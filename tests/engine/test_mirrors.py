"""A mirror follows the promotion, is part of "confirmed", and holds up the revoke alone."""

from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.keys import Permission
from keyturn.domain.rotation import Mode, Park, State
from keyturn.domain.slots import KeyMeta, Slot
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


async def in_grace(fake: FakeWorld) -> tuple[Engine, str]:
    engine, rotation_id = await opened(fake)
    for _ in range(30):
        progress = await engine.step(rotation_id)
        if progress.rotation.state is State.GRACE:
            return engine, rotation_id
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError(progress)


@pytest.mark.parametrize("by", ["a roll-back", "a copy by hand"])
async def test_the_old_key_is_not_revoked_while_a_mirror_names_it(by):
    fake = FakeWorld(mirrored=True, grace="10s")
    engine, rotation_id = await in_grace(fake)
    current = await fake.mirror.peek(PATH, Slot.CURRENT)
    await fake.mirror.restore_previous(PATH, expect_current=current.version)  # somebody, behind our back
    if by == "a copy by hand":
        unmarked = replace(await fake.mirror.peek(PATH, Slot.CURRENT), meta=None)
        fake.mirror.peek = AsyncMock(return_value=unmarked)
    fake.clock.advance(60)
    progress = await engine.step(rotation_id)
    assert progress.rotation.state is State.GRACE
    assert "no longer current in mirror" in progress.rotation.problem
    assert fake.old.key_ref in fake.exchange.truth()


async def test_a_mirror_that_was_emptied_gets_the_new_key_again_before_the_old_one_is_revoked():
    fake = FakeWorld(mirrored=True, grace="10s")
    engine, rotation_id = await in_grace(fake)
    current = await fake.mirror.peek(PATH, Slot.CURRENT)
    await fake.mirror.vacate(PATH, expect_current=current.version)
    fake.clock.advance(60)
    assert (await engine.advance(rotation_id)).rotation.state is State.COMPLETED
    await fake.judge_rest()


async def test_a_secret_of_somebody_elses_at_a_mirror_is_never_written_over():
    fake = FakeWorld(mirrored=True, grace="10s", confirm_within="60s")
    await fake.prepare()
    held = await fake.mirror.peek(PATH, Slot.CURRENT)
    foreign = fake.exchange.add_key([Permission.READ], label="somebody else's").material
    meta = KeyMeta("memory", "main", foreign.key_ref, "ffffffff", None, fake.clock.now())
    await fake.mirror.put(PATH, foreign, meta, expect_current=held.version if held else None)
    engine = Engine(fake.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    for _ in range(100):
        progress = await engine.step(rotation.id)
        if progress.rotation.state is State.PARKED:
            break
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    assert progress.rotation.parked is Park.UNCONFIRMED
    assert "not this credential's" in progress.rotation.parked_why
    assert (await fake.mirror.read(PATH, Slot.CURRENT)).material == foreign
    assert fake.old.key_ref in fake.exchange.truth()
