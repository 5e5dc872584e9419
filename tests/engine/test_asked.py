"""What a person asks of an open rotation: every refusal and every park has a way out that is true."""

from __future__ import annotations

import pytest

from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeFault, RefusedError
from keyturn.domain.rotation import EventType, Park, Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .walking import opened, until


async def old_key_dies(fake: FakeWorld) -> None:
    # Its judge would blame keyturn for a bot that was not told of the new key yet.
    fake.judging = fake.bot.loaded.material.key_ref != fake.old.key_ref
    fake.exchange.kill_key(fake.old.key_ref)


async def old_secret_goes(fake: FakeWorld) -> None:
    previous = await fake.store.peek(PATH, Slot.PREVIOUS)
    await fake.store.discard(PATH, Slot.PREVIOUS, version=previous.version)


NO_WAY_BACK = pytest.mark.parametrize(
    ("mishap", "told"),
    [(old_key_dies, "does not know the old key"), (old_secret_goes, "no longer in the previous slot")],
)


async def at(fake: FakeWorld, state: State) -> tuple[Engine, str]:
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, state)
    return engine, rotation_id


async def ends_forward(fake: FakeWorld, engine: Engine, rotation_id: str) -> Rotation:
    done = await fake.run(engine, rotation_id)
    assert done.state is State.COMPLETED
    assert done.abort_reason == ""
    fake.judging = True
    await fake.judge_rest()
    return done


@NO_WAY_BACK
@pytest.mark.parametrize("state", [State.PROMOTED, State.CUTTING_OVER, State.GRACE])
async def test_a_roll_back_with_nothing_to_go_back_to_is_refused_and_the_rotation_goes_forward(
    state, mishap, told
):
    fake = FakeWorld()
    engine, rotation_id = await at(fake, state)
    await mishap(fake)
    with pytest.raises(RefusedError, match=told) as caught:
        await engine.rollback(NAME, "a test wants it")
    assert "by itself" in caught.value.todo
    assert (await engine.get(rotation_id)).state is state
    await ends_forward(fake, engine, rotation_id)


@NO_WAY_BACK
@pytest.mark.parametrize("state", [State.PROMOTED, State.CUTTING_OVER, State.GRACE])
async def test_a_roll_back_that_lost_its_way_back_is_given_up_by_resume_and_goes_forward(state, mishap, told):
    """The old key goes after the look that comes before the roll-back is recorded."""
    fake = FakeWorld()
    engine, rotation_id = await at(fake, state)
    await engine.rollback(NAME, "a test wants it")
    await mishap(fake)
    stopped = await fake.run(engine, rotation_id)
    assert (stopped.parked, stopped.parked_from) == (Park.NO_WAY_BACK, State.ROLLING_BACK)
    assert told in stopped.parked_why
    assert f"keyturn resume {NAME}" in stopped.parked_todo
    assert (await engine.resume(NAME)).state is State.PROMOTED
    await ends_forward(fake, engine, rotation_id)
    assert not (await fake.journal.verify()).breaks


async def test_after_a_roll_back_was_given_up_consumers_are_told_and_prove_anew():
    fake = FakeWorld(confirm_within="1h")
    engine, rotation_id = await at(fake, State.CUTTING_OVER)
    fake.bot.confirms = False
    await engine.rollback(NAME, "a test wants it")
    await old_key_dies(fake)
    await fake.run(engine, rotation_id)
    await engine.resume(NAME)
    for _ in range(3):
        assert (await engine.step(rotation_id)).rotation.state is State.CUTTING_OVER
    fake.bot.confirms = True
    await ends_forward(fake, engine, rotation_id)


async def test_a_roll_back_that_is_parked_for_another_reason_is_tried_again_by_resume():
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.GRACE)
    await engine.rollback(NAME, "a test wants it")
    fake.exchange.fail("private_read", ExchangeFault.REJECTED)
    stopped = await fake.run(engine, rotation_id)
    assert stopped.parked is Park.REJECTED
    assert (await engine.resume(NAME)).state is State.ROLLING_BACK
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.judge_rest()


@pytest.mark.parametrize("fault", [ExchangeFault.WRONG_IP, ExchangeFault.VENUE_DOWN])
async def test_an_exchange_that_is_down_and_an_address_that_is_refused_refuse_no_roll_back(fault):
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.GRACE)
    fake.exchange.fail("private_read", fault)
    assert (await engine.rollback(NAME, "a test wants it")).state is State.ROLLING_BACK
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.judge_rest()


async def test_a_roll_back_is_not_refused_when_somebody_made_the_old_key_current_already():
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.GRACE)
    current = await fake.store.peek(PATH, Slot.CURRENT)
    await fake.store.restore_previous(PATH, expect_current=current.version)
    await engine.rollback(NAME, "a test wants it")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.judge_rest()


@pytest.mark.parametrize("parked", [False, True])
async def test_what_is_being_aborted_is_neither_aborted_again_nor_rolled_back(parked):
    """Nothing was promoted: no consumer is told to go back to what it never left."""
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.STAGED)
    await engine.abort(NAME, "a test wants it")
    fake.exchange.fail("list_keys", ExchangeFault.REJECTED if parked else ExchangeFault.VENUE_DOWN)
    assert (await engine.step(rotation_id)).rotation.effective_state is State.ABORTING
    for ask in (engine.abort, engine.rollback):
        with pytest.raises(RefusedError, match="being undone already") as caught:
            await ask(NAME, "once more")
        assert caught.value.todo == f"keyturn {'resume' if parked else 'history'} {NAME}"
    if parked:
        await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    told = [e.event.type for e in await fake.journal.events(rotation_id)]
    assert EventType.ROLLBACK_REQUESTED not in told
    await fake.judge_rest()


async def test_a_roll_back_is_neither_asked_for_again_nor_aborted():
    fake = FakeWorld()
    engine, rotation_id = await at(fake, State.GRACE)
    await engine.rollback(NAME, "a test wants it")
    for ask in (engine.abort, engine.rollback):
        with pytest.raises(RefusedError, match="being undone already"):
            await ask(NAME, "once more")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED


async def silent(fake: FakeWorld) -> None:
    fake.bot.confirms = False


async def deaf(fake: FakeWorld) -> None:
    async def notify(_notice):
        raise ConsumerError(ConsumerFault.REFUSED, "The bot wants no notices.")

    fake.bot.notify = notify


@pytest.mark.parametrize(("mishap", "park"), [(silent, Park.UNCONFIRMED), (deaf, Park.CONSUMER)])
async def test_a_park_on_the_way_back_advises_what_leads_out_and_no_second_roll_back(mishap, park):
    fake = FakeWorld(confirm_within="60s")
    engine, rotation_id = await at(fake, State.GRACE)
    await engine.rollback(NAME, "a test wants it")
    await mishap(fake)
    stopped = await parked(fake, engine, rotation_id)
    assert (stopped.parked, stopped.parked_from) == (park, State.ROLLING_BACK)
    assert "keyturn rollback" not in stopped.parked_todo
    assert f"take it from the entry of {NAME} in the inventory" in stopped.parked_todo
    # What was advised leads out.
    entry = fake.inventory.credentials[NAME].model_copy(update={"consumers": ()})
    fake.inventory = fake.inventory.model_copy(update={"credentials": {NAME: entry}})
    engine = Engine(fake.world())
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED


@pytest.mark.parametrize(("mishap", "park"), [(silent, Park.UNCONFIRMED), (deaf, Park.CONSUMER)])
async def test_a_park_on_the_way_forward_advises_the_way_back(mishap, park):
    fake = FakeWorld(confirm_within="60s")
    engine, rotation_id = await at(fake, State.PROMOTED)
    await mishap(fake)
    stopped = await parked(fake, engine, rotation_id)
    assert stopped.parked is park
    assert f"keyturn rollback {NAME}" in stopped.parked_todo
    await engine.rollback(NAME, "as advised")


async def parked(fake: FakeWorld, engine: Engine, rotation_id: str) -> Rotation:
    for _ in range(60):
        progress = await engine.step(rotation_id)
        if progress.rotation.state is State.PARKED:
            return progress.rotation
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError("never parked")
