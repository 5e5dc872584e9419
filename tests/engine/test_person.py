"""A person's word in the place of a consumer's proof: who may give it, when, and what it leads to."""

from __future__ import annotations

import pytest

from keyturn.domain.errors import RefusedError
from keyturn.domain.evidence import Evidence
from keyturn.domain.rotation import EventType, Mode, Park, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld

WHO, WHY = "Ada Lovelace", "its status page shows the new key"


async def parked(**world):
    """Give a world, and its rotation, which waits for a bot that proves nothing."""
    fake = FakeWorld(confirm_within="60s", grace="10m", **world)
    await fake.prepare()
    fake.bot.confirms = False
    engine = Engine(fake.world(actor="cli:ada"))
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    return fake, engine, await until(fake, engine, rotation.id, State.PARKED)


async def until(fake, engine, rotation_id, *states):
    for _ in range(100):
        progress = await engine.step(rotation_id)
        if progress.rotation.state in states:
            return progress.rotation
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError(progress)


async def confirm(engine, consumer="bot"):
    return await engine.confirm(NAME, consumer, by=WHO, reason=WHY)


async def test_a_parked_rotation_goes_on_by_a_persons_word_and_the_journal_keeps_who_and_why():
    fake, engine, rotation = await parked()
    assert (rotation.parked, rotation.parked_todo.count(f"keyturn confirm {NAME} --consumer bot")) == (
        Park.UNCONFIRMED,
        1,
    )
    assert (await confirm(engine)).state is State.CUTTING_OVER
    (proof,) = await fake.journal.confirmations(rotation.id)
    assert (proof.consumer, proof.evidence) == ("bot", Evidence.PERSON)
    assert (WHO in proof.detail, WHY in proof.detail) == (True, True)
    told = [e.event for e in await fake.journal.events(rotation.id)]
    (said,) = [event for event in told if event.type is EventType.CONSUMER_CONFIRMED]
    assert said.actor == "cli:ada"
    assert said.data["note"] == f"bot: person; by {WHO}: {WHY}"
    await until(fake, engine, rotation.id, State.GRACE)
    assert rotation.old_ref in fake.exchange.truth(), "grace is kept"
    await until(fake, engine, rotation.id, State.COMPLETED)
    assert rotation.old_ref not in fake.exchange.truth()
    assert not (await fake.journal.verify()).breaks


async def test_it_counts_before_the_time_is_up_too():
    fake = FakeWorld(confirm_within="2h", grace="10m")
    await fake.prepare()
    fake.bot.confirms = False
    engine = Engine(fake.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await until(fake, engine, rotation.id, State.CUTTING_OVER)
    await confirm(engine)
    assert (await until(fake, engine, rotation.id, State.GRACE)).state is State.GRACE


async def test_one_of_two_does_not_stand_for_the_other():
    fake, engine, rotation = await parked(consumers=("bot", "second"))
    await confirm(engine)
    after = await until(fake, engine, rotation.id, State.PARKED)
    assert "Not confirmed by second;" in after.parked_why
    assert "--consumer second" in after.parked_todo
    assert "--consumer bot" not in after.parked_todo
    await confirm(engine, "second")
    await until(fake, engine, rotation.id, State.GRACE)


async def test_the_word_on_a_roll_back_is_about_the_key_that_came_back():
    fake, engine, rotation = await parked()
    await engine.rollback(NAME, "a test wants it")
    with pytest.raises(RefusedError, match="No consumer's proof"):
        await confirm(engine)  # nobody was told to go back yet
    after = await until(fake, engine, rotation.id, State.PARKED)
    assert after.parked_from is State.ROLLING_BACK
    await confirm(engine)
    await until(fake, engine, rotation.id, State.ABORTED)
    (proof,) = await fake.journal.confirmations(rotation.id)
    assert proof.fingerprint == rotation.old_fingerprint
    assert rotation.new_ref not in fake.exchange.truth()


async def test_it_accepts_no_calls_that_are_refused_to_the_new_key():
    fake, engine, rotation = await parked()
    fake.bot.refused = ["POST v5/order/create"]
    await confirm(engine)
    after = await until(fake, engine, rotation.id, State.PARKED)
    assert after.parked is Park.REFUSED_CALLS
    assert rotation.old_ref in fake.exchange.truth()


async def test_it_is_refused_where_nothing_is_waited_for():
    fake, engine, rotation = await parked()
    with pytest.raises(RefusedError, match="does not wait for other") as caught:
        await confirm(engine, "other")
    assert "It waits for bot." in caught.value.todo
    await confirm(engine)
    with pytest.raises(RefusedError, match="does not wait for bot"):
        await confirm(engine)
    await until(fake, engine, rotation.id, State.GRACE)
    with pytest.raises(RefusedError, match="No consumer's proof is waited for now"):
        await confirm(engine)
    await until(fake, engine, rotation.id, State.COMPLETED)
    with pytest.raises(RefusedError, match="is open"):
        await confirm(engine)
    assert len(await fake.journal.confirmations(rotation.id)) == 1


@pytest.mark.parametrize("state", [State.MINTING, State.STAGED, State.VERIFIED, State.PROMOTED])
async def test_it_is_refused_before_the_consumers_were_told(state):
    fake = FakeWorld()
    await fake.prepare()
    engine = Engine(fake.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    for _ in range(10):
        if (await engine.step(rotation.id)).rotation.state is state:
            break
    with pytest.raises(RefusedError):
        await confirm(engine)


async def test_a_consumer_that_owes_nothing_needs_nobodys_word():
    fake = FakeWorld(evidence="timed", grace="10m")
    await fake.prepare()
    engine = Engine(fake.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await until(fake, engine, rotation.id, State.CUTTING_OVER)
    with pytest.raises(RefusedError, match="does not wait for bot"):
        await confirm(engine)
