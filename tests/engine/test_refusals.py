"""Calls that the exchange refuses to the new key hold the old key's revoke, until a person accepts them."""

import pytest

from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.rotation import EventType, Mode, Park, State
from keyturn.engine import refusals, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.work import Work
from keyturn.testing.fake_world import NAME, FakeWorld

ORDER, CANCEL = "POST v5/order/create", "POST v5/order/cancel"


async def in_grace(fake: FakeWorld, mode: Mode = Mode.MANUAL) -> Engine:
    """Bring a rotation into its grace, or to its end where there is none."""
    await fake.prepare()
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=mode, reason="a test")
    await engine.advance(opened.id)
    return engine


async def latest(fake: FakeWorld):
    """Give the rotation as it stands."""
    (found,) = await fake.journal.latest()
    return found


def both_live(fake: FakeWorld, rotation) -> bool:
    """Look into the exchange's books."""
    return {rotation.old_ref, rotation.new_ref} <= set(fake.exchange.truth())


async def test_a_refused_call_holds_the_revoke_and_is_named_with_its_consumer():
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)
    fake.bot.refused = [ORDER]
    fake.clock.advance(3600)
    rotation = (await engine.advance((await latest(fake)).id)).rotation
    assert (rotation.state, rotation.parked, rotation.parked_from) == (
        State.PARKED,
        Park.REFUSED_CALLS,
        State.GRACE,
    )
    assert f"bot: {ORDER} (a right is missing)" in rotation.parked_why
    assert f"keyturn resume {NAME}" in rotation.parked_todo
    assert f"keyturn rollback {NAME}" in rotation.parked_todo
    assert both_live(fake, rotation)
    fake.clock.advance(7 * 86400)
    await fake_sweep(fake)
    assert both_live(fake, await latest(fake))


async def fake_sweep(fake: FakeWorld) -> None:
    """Sweep once, as another process."""
    await sweep.sweep(Engine(fake.world(actor="sweep")))


async def test_a_sweep_in_the_grace_tells_a_refused_call_long_before_its_end():
    fake = FakeWorld(grace="24h")
    await in_grace(fake)
    fake.clock.advance(300)
    await fake_sweep(fake)
    assert (await latest(fake)).state is State.GRACE
    fake.bot.refused = [ORDER]
    await fake_sweep(fake)
    assert (await latest(fake)).parked is Park.REFUSED_CALLS


async def test_a_consumer_that_does_not_answer_holds_up_no_sweep_and_is_asked_once_in_it(monkeypatch):
    fake = FakeWorld(grace="24h")
    await in_grace(fake)
    asked = []

    async def away(notice):
        asked.append(notice)
        raise ConsumerError(ConsumerFault.OUTCOME_UNKNOWN, "bot gave no whole answer.")

    monkeypatch.setattr(fake.bot, "refusals", away)
    await fake_sweep(fake)
    rotation = await latest(fake)
    assert (rotation.state, rotation.failures) == (State.GRACE, 0)
    asked.clear()
    silent: set[str] = set()
    for _ in range(3):
        assert (await refusals.told(Work(fake.world(), rotation), silent)).calls == ()
    assert len(asked) == 1


async def test_a_bot_that_does_nothing_but_be_refused_is_named_while_it_is_waited_for():
    fake = FakeWorld(confirm_within="2h")
    fake.bot.confirms, fake.bot.refused = False, [ORDER]
    await in_grace(fake)
    rotation = await latest(fake)
    assert (rotation.parked, rotation.parked_from) == (Park.REFUSED_CALLS, State.CUTTING_OVER)


async def test_an_incident_rotation_is_held_too():
    fake = FakeWorld()
    fake.bot.refused = [ORDER]
    await in_grace(fake, Mode.INCIDENT)
    rotation = await latest(fake)
    assert rotation.parked is Park.REFUSED_CALLS
    assert both_live(fake, rotation)


async def test_a_person_accepts_what_was_named_and_nothing_else():
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)
    fake.bot.refused = [ORDER]
    await fake_sweep(fake)
    await engine.resume(NAME)
    fake.bot.refused = [ORDER, CANCEL]
    await fake_sweep(fake)
    rotation = await latest(fake)
    assert rotation.parked is Park.REFUSED_CALLS
    assert CANCEL in rotation.parked_why
    assert ORDER not in rotation.parked_why
    assert both_live(fake, rotation)
    await engine.resume(NAME)
    done = await fake.run(engine, rotation.id)
    assert done.state is State.COMPLETED
    fake.bot.refused = []
    await fake.judge_rest()


async def test_the_journal_tells_what_was_accepted_and_by_whom():
    fake = FakeWorld(grace="10s")
    await in_grace(fake)
    fake.bot.refused = [ORDER]
    await fake_sweep(fake)
    await Engine(fake.world(actor="anna@desk")).resume(NAME)
    rotation = await latest(fake)
    resumed = [e.event for e in await fake.journal.events(rotation.id) if e.event.type is EventType.RESUMED]
    assert [(e.actor, ORDER in e.data["note"]) for e in resumed] == [("anna@desk", True)]


async def test_a_report_that_came_between_the_park_and_the_resume_is_not_accepted_with_it():
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)
    fake.bot.refused = [ORDER]
    await fake_sweep(fake)
    fake.bot.refused = [ORDER, CANCEL]
    await engine.resume(NAME)
    await fake_sweep(fake)
    assert (await latest(fake)).parked is Park.REFUSED_CALLS


async def test_a_rotation_that_was_resumed_from_another_park_has_accepted_nothing():
    fake = FakeWorld(confirm_within="5s", grace="10s")
    fake.bot.confirms = False
    engine = await in_grace(fake)
    fake.clock.advance(60)
    await fake_sweep(fake)
    assert (await latest(fake)).parked is Park.UNCONFIRMED
    fake.bot.confirms, fake.bot.refused = True, [ORDER]
    await engine.resume(NAME)
    await fake_sweep(fake)
    assert (await latest(fake)).parked is Park.REFUSED_CALLS


async def test_going_back_is_open_while_calls_are_refused():
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)
    fake.bot.refused = [ORDER]
    await fake_sweep(fake)
    await engine.rollback(NAME, "the bot needs that right")
    rotation = await fake.run(engine, (await latest(fake)).id)
    assert rotation.state is State.ABORTED
    assert set(fake.exchange.truth()) >= {rotation.old_ref}
    assert rotation.new_ref not in fake.exchange.truth()


@pytest.mark.parametrize("fault", [ConsumerFault.UNREACHABLE, ConsumerFault.OUTCOME_UNKNOWN])
async def test_a_consumer_that_cannot_be_asked_holds_the_revoke_until_it_can(monkeypatch, fault):
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)

    async def away(_):
        raise ConsumerError(fault, "The mailbox of bot cannot be used.")

    with monkeypatch.context() as patch:
        patch.setattr(fake.bot, "refusals", away)
        fake.clock.advance(60)
        progress = await engine.advance((await latest(fake)).id)
        assert progress.rotation.state is State.GRACE
        assert "mailbox of bot" in progress.rotation.problem
        assert both_live(fake, progress.rotation)
    assert (await fake.run(engine, progress.rotation.id)).state is State.COMPLETED


async def test_a_consumer_that_knows_no_such_question_holds_nothing_up(monkeypatch):
    fake = FakeWorld(grace="10s")
    engine = await in_grace(fake)

    async def unknown(_):
        raise ConsumerError(ConsumerFault.REFUSED, "bot answered with HTTP status 404.")

    monkeypatch.setattr(fake.bot, "refusals", unknown)
    assert (await fake.run(engine, (await latest(fake)).id)).state is State.COMPLETED
