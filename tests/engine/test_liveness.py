"""Proof of death: "no such key", beside what has shown that key; nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import Revocation
from keyturn.domain.rotation import Fate, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .walking import opened, until


async def in_grace(fake: FakeWorld) -> tuple[Engine, str]:
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    return engine, rotation_id


async def prepared(**world) -> FakeWorld:
    fake = FakeWorld(grace="10s", **world)
    await fake.prepare()
    return fake


async def forget_sightings(fake: FakeWorld) -> None:
    """Let the journal know nothing of where the keys were seen, as one of an older keyturn."""
    known = await fake.journal.keys(NAME)
    await fake.journal.record_keys([replace(k, known_at=None, listed_by=None) for k in known])


async def old_record(fake: FakeWorld):
    assert fake.old is not None
    return await fake.journal.key("memory", "main", fake.old.key_ref)


async def test_what_has_shown_a_key_is_kept_with_its_record():
    fake = await prepared()
    assert (await old_record(fake)).known_at == "memory"
    assert (await old_record(fake)).listed_by is None
    engine, rotation_id = await in_grace(fake)
    shown = (await old_record(fake)).listed_by
    assert shown is not None
    new = await fake.journal.key("memory", "main", (await engine.get(rotation_id)).new_ref)
    assert (new.known_at, new.listed_by) == ("memory", shown)


@pytest.mark.parametrize("fault", [ExchangeFault.KEY_REFUSED, ExchangeFault.MISSING_PERMISSION])
async def test_a_refusal_that_venues_give_to_keys_that_they_know_is_never_a_death(fault):
    fake = await prepared()
    engine, rotation_id = await in_grace(fake)
    fake.clock.advance(20)
    fake.exchange.fail("private_read", fault, times=1000)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.NO_PROOF)
    assert "still knows the old key. Memory said no" in rotation.parked_why
    problems = [str(told.event.data.get("problem")) for told in await fake.journal.events(rotation_id)]
    assert any("look in its console" in text for text in problems)
    assert (await old_record(fake)).fate is Fate.REVOKING
    assert (await fake.store.peek(PATH, Slot.PREVIOUS)).meta.key_ref == fake.old.key_ref


async def test_a_venue_that_does_not_tell_apart_has_its_list_decide():
    fake = await prepared()
    engine, rotation_id = await in_grace(fake)
    fake.exchange.tells_apart = False
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.COMPLETED
    assert rotation.death_proof == "the exchange no longer lists it"


async def test_not_there_is_no_proof_where_nothing_has_ever_shown_the_key():
    fake = await prepared()
    engine, rotation_id = await in_grace(fake)
    await forget_sightings(fake)
    fake.exchange.kill_key(fake.old.key_ref)  # as if it lived in another account: the revoke finds nothing
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.NO_PROOF)
    assert "ever shown" in rotation.parked_why


async def test_a_key_that_another_site_does_not_know_is_not_replaced_there():
    """Also when a person has said that the keys lie there: what that site says is no proof."""
    fake = await prepared(judging=False)
    account = fake.inventory.accounts["main"].model_copy(update={"url": "https://elsewhere.invalid"})
    fake.inventory = fake.inventory.model_copy(update={"accounts": {"main": account}})
    fake.exchange.kill_key(fake.old.key_ref)
    engine, rotation_id = await opened(fake)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MOVED)
    await engine.resume(NAME)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MANAGER_KEY)
    assert "last seen at memory, and elsewhere.invalid was asked" in rotation.parked_why
    assert "create_key" not in [method for method, _ in fake.exchange.calls]


async def test_a_dead_key_of_a_venue_that_does_not_tell_apart_is_replaced_when_its_own_list_lacks_it():
    fake = await prepared(judging=False)
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    fake.exchange.tells_apart = False
    current = await fake.store.peek(PATH, Slot.CURRENT)
    fake.exchange.kill_key(current.meta.key_ref)
    engine, rotation_id = await opened(fake)
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.COMPLETED


async def test_a_refused_key_that_no_list_of_this_manager_key_has_shown_is_not_replaced():
    fake = await prepared(judging=False)
    fake.exchange.tells_apart = False
    fake.exchange.kill_key(fake.old.key_ref)
    engine, rotation_id = await opened(fake)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MANAGER_KEY)
    assert "not clear" in rotation.parked_why


async def test_an_abort_does_not_take_not_there_for_the_end_of_a_key_that_another_account_made():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.VERIFIED)
    await forget_sightings(fake)
    await engine.abort(NAME, "a test wants it")
    new = (await engine.get(rotation_id)).new_ref

    async def revoke_key(manager, key):
        return Revocation.ALREADY_ABSENT

    async def list_keys(manager, subaccount):
        return []

    fake.exchange.revoke_key, fake.exchange.list_keys = revoke_key, list_keys
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.PARKED
    assert (await fake.journal.key("memory", "main", new)).fate is not Fate.REVOKED
    assert new in fake.exchange.truth()


async def test_a_new_key_that_cannot_sign_is_given_up_at_once():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("introspect", ExchangeFault.CANNOT_SIGN, times=1000)
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.ABORTED
    await fake.judge_rest()


async def test_a_manager_key_that_cannot_sign_is_told_as_a_fault_of_the_key_with_the_command():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("list_keys", ExchangeFault.CANNOT_SIGN, times=1000)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MANAGER_KEY)
    assert "put --manager main" in rotation.parked_todo
