"""The ten invariants, each the name of a test; the crash suite holds them in every state besides."""

import asyncio
import json
import pickle

import pytest

from keyturn.domain.errors import ExchangeFault, RefusedError, StoreError
from keyturn.domain.labels import parse_label
from keyturn.domain.machine import TRANSITIONS, allowed
from keyturn.domain.rotation import EventType, Fate, Mode, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.testing.crash import Killed, Mishap
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .walking import opened, until


async def test_1_current_always_names_a_live_verified_key():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.STAGED)
    pending = await fake.store.read(PATH, Slot.PENDING)
    fake.exchange.kill_key(pending.material.key_ref)  # it dies before it is verified
    done = await fake.run(engine, rotation_id)  # the judge looks after every call
    assert done.state is State.ABORTED
    current = await fake.store.read(PATH, Slot.CURRENT)
    assert current.material == fake.old.material
    assert fake.exchange.accepts(current.material)


async def test_2_nothing_that_is_current_and_nothing_without_our_record_is_revoked():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    ours_by_look = fake.exchange.add_key([], label="kt-0123456789-1")  # our label, not in our journal
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    await fake.sweep_until_rest()
    assert {fake.foreign.key_ref, ours_by_look.key_ref} <= fake.exchange.truth().keys()


async def test_3_before_the_pivot_undo_after_it_forward_or_an_explicit_roll_back():
    before = {State.PLANNED, State.MINTING, State.STAGED, State.VERIFIED}
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    for state in (*sorted(before), State.PROMOTED, State.CUTTING_OVER, State.GRACE, State.REVOKING):
        rotation = await engine.get(rotation_id)
        stands = type(rotation)(**{**_fields(rotation), "state": state, "old_ref": "an old key"})
        assert allowed(stands, EventType.ABORT_REQUESTED) is (state in before)
        reversible = state in {State.PROMOTED, State.CUTTING_OVER, State.GRACE}
        assert allowed(stands, EventType.ROLLBACK_REQUESTED) is reversible
    await until(fake, engine, rotation_id, State.GRACE)
    with pytest.raises(RefusedError, match="past the pivot"):
        await engine.abort(NAME, "too late")


def _fields(rotation):
    return {name: getattr(rotation, name) for name in rotation.__dataclass_fields__}


@pytest.mark.parametrize(("call", "fate"), [("create_key", Fate.INTENDED), ("revoke_key", Fate.REVOKING)])
async def test_4_the_intent_is_in_the_journal_before_a_mint_or_a_revoke(call, fate):
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    traced = fake.tracer.call
    fates = []

    async def watched(port, method, effect):
        if method == call:
            fates.extend(k.fate for k in await fake.journal.keys(NAME))
            raise Killed
        return await traced(port, method, effect)

    fake.tracer.call = watched
    with pytest.raises(Killed):
        await fake.run(engine, rotation_id)
    assert fate in fates


async def test_5_no_create_without_a_claim_no_stage_without_it_and_promote_names_the_attempt():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    methods = [row.method for row in fake.tracer.rows]
    assert methods.index("claim") < methods.index("create_key") < methods.index("stage")

    await fake.judge_rest()
    engine, second = await opened(fake)
    await until(fake, engine, second, State.VERIFIED)
    rotation = await engine.get(second)
    stale = rotation.current_attempt
    later = type(stale)(second, stale.number + 1)
    claim = await fake.store.claim(PATH, later)
    assert claim.attempt == later
    current = await fake.store.peek(PATH, Slot.CURRENT)
    with pytest.raises(StoreError, match="not staged"):
        await fake.store.promote(PATH, stale, expect_current=current.version)


async def test_6_one_open_rotation_a_credential_and_each_step_a_compare_and_set():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    with pytest.raises(RefusedError, match="being rotated already"):
        await Engine(fake.world()).open(NAME, mode=Mode.MANUAL, reason="a second one")
    other = Engine(fake.world())
    await until(fake, engine, rotation_id, State.STAGED)
    both = await asyncio.gather(engine.step(rotation_id), other.step(rotation_id))
    assert {p.rotation.state for p in both} == {State.VERIFIED}
    events = [e.event.type for e in await fake.journal.events(rotation_id)]
    assert events.count(EventType.VERIFIED) == 1


async def test_7_no_revoke_before_grace_has_passed_and_every_consumer_has_confirmed():
    assert TRANSITIONS[EventType.REVOKE_INTENDED].sources == {State.GRACE}
    fake = FakeWorld(grace="1h", confirm_within="60s")
    await fake.prepare()
    fake.bot.confirms = False
    engine, rotation_id = await opened(fake)
    parked = await _park(fake, engine, rotation_id)
    assert parked.parked is Park.UNCONFIRMED
    assert "bot" in parked.parked_why
    fake.clock.advance(30 * 86400)
    await engine.step(rotation_id)
    assert fake.old.key_ref in fake.exchange.truth(), "time alone revoked a key that the bot may use"
    fake.bot.confirms = True
    await until(fake, engine, rotation_id, State.GRACE)
    fake.clock.advance(3500)
    await engine.step(rotation_id)
    assert fake.old.key_ref in fake.exchange.truth(), "the grace was cut short"
    fake.clock.advance(200)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def _park(fake, engine, rotation_id):
    for _ in range(200):
        progress = await engine.step(rotation_id)
        if progress.rotation.state is State.PARKED:
            return progress.rotation
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError("it never parked")


async def test_8_every_live_key_is_current_previous_pending_foreign_or_being_swept():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    for _ in range(3):  # three workers die with a key in their hands
        engine, rotation_id = await opened(fake)
        for at in range(60):
            fake.tracer.arm(at, Mishap.AFTER)
            try:
                await fake.run(engine, rotation_id)
            except Killed:
                if fake.tracer.rows[-1].method == "create_key":
                    break
        fake.tracer.disarm()
        await fake.sweep_until_rest()
    ours = [k for k in fake.exchange.truth().values() if parse_label(k.label)]
    assert len(ours) == 1
    await fake.judge_rest()


async def test_9_secret_material_is_never_in_the_journal_and_never_leaves_its_type():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    stored = await fake.store.read(PATH, Slot.CURRENT)
    secret = stored.material.reveal()["secret"]
    everything = repr(await fake.journal.events(rotation_id)) + repr(await fake.journal.latest())
    everything += repr(await fake.journal.keys(NAME)) + repr(stored) + f"{stored.material}"
    assert secret not in everything
    with pytest.raises(TypeError):
        pickle.dumps(stored.material)
    with pytest.raises(TypeError):
        json.dumps(stored.material)


async def test_10_an_unknown_outcome_is_reconciled_by_label_and_never_repeated_blindly():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await engine.step(rotation_id)
    events = [e.event.type for e in await fake.journal.events(rotation_id)]
    assert EventType.MINT_UNKNOWN in events
    await fake.run(engine, rotation_id)
    calls = [method for method, _ in fake.exchange.calls]
    first = calls.index("create_key")
    second = calls.index("create_key", first + 1)
    assert "list_keys" in calls[first:second]
    await fake.judge_rest()
