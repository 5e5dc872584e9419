"""Journal, store and exchange are compared: a living key that no slot names is not lost, and dies by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.domain.errors import ExchangeFault, RefusedError
from keyturn.domain.keys import MintedKey, Permission
from keyturn.domain.rotation import EventType, Fate, KeyRecord, Mode, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, books, sweep
from keyturn.engine.doctor import doctor
from keyturn.engine.engine import Engine
from keyturn.engine.forget import forget
from keyturn.engine.plan import plan
from keyturn.engine.status import status
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from keyturn.testing.roads import empty

from .test_by_hand import named
from .walking import opened, until


async def prepared(**world) -> FakeWorld:
    fake = FakeWorld(**({"grace": "1h"} | world))
    await fake.prepare()
    return fake


def by_hand(fake: FakeWorld) -> MintedKey:
    return fake.exchange.add_key([Permission(p) for p in fake.permissions], label="made by hand")


async def record_of(fake: FakeWorld, key_ref: str) -> KeyRecord:
    (record,) = [k for k in await fake.journal.keys(NAME) if k.key_ref == key_ref]
    return record


async def mark(fake: FakeWorld, key_ref: str) -> str:
    return (await record_of(fake, key_ref)).fingerprint or ""


async def two_forgotten(fake: FakeWorld) -> tuple[str, str]:
    """Let two keys live that no slot names."""
    second = by_hand(fake)
    await empty(fake)
    await adopt.put_credential(fake.world(), NAME, second.material)
    await empty(fake)
    return fake.old.key_ref, second.key_ref


# A living key that no slot names becomes the old key.


async def test_the_key_of_an_emptied_slot_lives_through_the_grace_and_then_dies():
    fake = await prepared()
    await empty(fake)
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    rotation = await engine.get(rotation_id)
    assert rotation.old_ref == fake.old.key_ref
    assert (rotation.grace_until - rotation.confirmed_at).total_seconds() == 3600
    assert fake.exchange.accepts(fake.old.material), "bots may use it still"
    assert (await fake.run(engine, rotation_id)).death_proof == "the exchange no longer lists it"
    await fake.judge_rest()


@pytest.mark.parametrize("mode", [Mode.MANUAL, Mode.INCIDENT])
async def test_each_living_key_that_no_slot_names_is_revoked(mode):
    fake = await prepared()
    refs = await two_forgotten(fake)
    engine, rotation_id = await opened(fake, mode)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    assert [(await record_of(fake, ref)).fate for ref in refs] == [Fate.REVOKED] * 2
    await fake.judge_rest()


async def test_an_older_store_that_is_restored_makes_no_living_key_forgotten():
    fake = await prepared(judging=False)
    older = fake.store._shelves[PATH].ledger, dict(fake.store._shelves[PATH].contents)
    engine, rotation_id = await opened(fake)
    new = (await fake.run(engine, rotation_id)).new_ref
    fake.store._shelves[PATH].ledger, fake.store._shelves[PATH].contents = older
    engine, rotation_id = await opened(fake, Mode.INCIDENT)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    assert new not in fake.exchange.truth()
    await fake.judge_rest()


async def test_an_incident_is_not_over_while_a_forgotten_key_lives():
    fake = await prepared()
    await two_forgotten(fake)
    engine, rotation_id = await opened(fake, Mode.INCIDENT)
    fake.exchange.fail("revoke_key", ExchangeFault.OUTCOME_UNKNOWN, skip=1, times=200)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.NO_PROOF)
    assert "still lists" in rotation.parked_why
    fake.exchange._faults.clear()
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_the_manager_key_and_foreign_keys_are_no_old_keys():
    fake = await prepared()
    manager = await fake.store.peek("managers/main", Slot.CURRENT)
    taken = replace(await record_of(fake, fake.old.key_ref), key_id="adopted-x", key_ref=manager.meta.key_ref)
    await fake.journal.record_keys([taken])
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()
    (told,) = [f for f in await doctor(fake.world()) if not f.ok and f.subject.startswith("credential")]
    assert "keyturn forget" in told.todo


async def test_a_key_of_our_ref_under_somebody_elses_label_is_not_touched():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    new = (await fake.run(engine, rotation_id)).new_ref
    await empty(fake)
    row = fake.exchange._rows[new]
    row.key = replace(row.key, label="desk 3")
    second = by_hand(fake)
    await adopt.put_credential(fake.world(), NAME, second.material)
    engine, rotation_id = await opened(fake)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.NOT_OURS)
    assert new in fake.exchange.truth()


async def test_where_no_list_shows_the_key_a_person_says_whether_it_is_gone():
    fake = await prepared(judging=False)
    old = fake.old.key_ref
    record = replace(await record_of(fake, old), account_uid=None)
    await fake.journal.record_keys([record])
    await empty(fake)
    fake.exchange.kill_key(old)
    engine, rotation_id = await opened(fake)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MANAGER_KEY)
    assert f"keyturn forget {NAME} {record.fingerprint}" in rotation.parked_todo
    assert "create_key" not in [method for method, _ in fake.exchange.calls]
    await forget(fake.world(), NAME, record.fingerprint)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED


async def test_a_key_of_another_account_of_the_inventory_dies_there_too():
    fake = await prepared()
    entry = fake.inventory.accounts["main"]
    fake.inventory = fake.inventory.model_copy(update={"accounts": {"main": entry, "second": entry}})
    old = await record_of(fake, fake.old.key_ref)
    await fake.journal.record_keys([replace(old, account="second")])
    await empty(fake)
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    rotation = await engine.get(rotation_id)
    assert (rotation.grace_until - rotation.confirmed_at).total_seconds() == 3600
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_the_plan_shows_each_key_that_will_die():
    fake = await prepared()
    refs = await two_forgotten(fake)
    (line,) = await plan(fake.world(), NAME)
    for dying in [await mark(fake, ref) for ref in refs]:
        assert any(f"revoke the key {dying} 1h after that" in step for step in line.steps)
    assert not any("no key before" in step for step in line.steps)


# The first key.


async def first() -> FakeWorld:
    fake = FakeWorld(grace="1h")
    await fake.prepare(old_key=False)
    return fake


async def test_a_first_rotation_says_so_and_keeps_no_grace():
    fake = await first()
    (line,) = await plan(fake.world(), NAME)
    assert "there is no key before this one, so no grace is needed" in line.steps[-1]
    engine, rotation_id = await opened(fake)
    before = fake.clock.now()
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    assert (fake.clock.now() - before).total_seconds() < 60
    told = [e.event for e in await fake.journal.events(rotation_id)]
    assert told[-1].type is EventType.COMPLETED
    assert "no key before" in told[-1].data["note"]


@pytest.mark.parametrize("state", [State.PLANNED, State.STAGED, State.VERIFIED])
async def test_a_first_rotation_is_aborted_before_its_promotion(state):
    fake = await first()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, state)
    await engine.abort(NAME, "a test wants it")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    assert not [key for key in fake.exchange.truth().values() if key.minted]


@pytest.mark.parametrize("way", ["abort", "rollback"])
async def test_a_first_rotation_past_its_promotion_says_what_leads_on(way):
    fake = await first()
    fake.bot.confirms = False
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.CUTTING_OVER)
    with pytest.raises(RefusedError, match="nothing to go back to") as caught:
        await getattr(engine, way)(NAME, "a test wants it")
    assert "rollback" not in caught.value.todo
    assert "abort" not in caught.value.todo
    fake.clock.advance(7201)
    await until(fake, engine, rotation_id, State.PARKED)
    with pytest.raises(RefusedError) as caught:
        await getattr(engine, way)(NAME, "a test wants it")
    assert "take it from the entry" in caught.value.todo
    fake.bot.confirms = True
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED


# What doctor, status and the sweep name.


async def told(fake: FakeWorld) -> list[str]:
    """Give what a sweep, doctor and status say of the credential, which must be the same."""
    world = fake.world()
    fake.clock.advance(3601)
    outcomes = [o.difference for o in await sweep.sweep(Engine(world)) if o.difference]
    (line, *_) = await status(world)
    findings = [f for f in await doctor(world) if not f.ok and f.subject.startswith("credential")]
    assert [each.what for each in outcomes] == [each.what for each in line.differences]
    assert [each.what for each in outcomes] == [f.detail for f in findings]
    assert all(each.todo for each in outcomes)
    return [f"{each.what}: {each.todo}" for each in outcomes]


async def test_where_the_books_agree_nothing_is_named():
    fake = await prepared()
    assert await told(fake) == []


async def test_a_living_key_that_no_slot_names_is_named():
    fake = await prepared()
    await empty(fake)
    (what,) = await told(fake)
    assert await mark(fake, fake.old.key_ref) in what
    assert f"keyturn rotate {NAME}" in what
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    assert (await status(fake.world()))[0].differences == (), "what was mended since is not named"
    assert await told(fake) == []


async def test_a_current_key_that_the_exchange_does_not_know_is_named():
    fake = await prepared(judging=False)
    fake.exchange.kill_key(fake.old.key_ref)
    (what,) = await told(fake)
    assert "does not know the key that is current" in what
    assert f"keyturn rotate {NAME}" in what


async def test_a_key_of_another_sub_account_than_the_inventory_says_is_named():
    fake = await prepared()
    moved = named(fake.world(), NAME, subaccount="sub-b")
    comparison = await books.compare(moved)
    (difference,) = comparison.differences
    assert "account main, and the inventory says account main, sub-account sub-b" in difference.what
    assert "Correct `subaccount`" in difference.todo


async def test_a_key_in_the_slot_that_the_journal_does_not_own_is_named():
    fake = await prepared()
    await forget(fake.world(), NAME)
    key = by_hand(fake)
    meta = await adopt._meta(fake.world(), "main", key.material, None)
    await fake.store.put(PATH, key.material, meta, expect_current=None)
    (difference,) = (await books.compare(fake.world())).differences
    assert difference.todo == f"keyturn adopt {NAME}"


async def test_a_key_of_a_name_that_left_the_inventory_is_named():
    fake = await prepared()
    comparison = await books.compare(named(fake.world(), "renamed"))
    assert any(NAME in d.what and "keyturn adopt" in d.todo for d in comparison.differences)


async def test_a_sweep_compares_once_an_hour_and_names_what_stands_in_between():
    fake = await prepared()
    await empty(fake)
    engine = Engine(fake.world())

    async def lists() -> int:
        assert [o.difference is not None for o in await sweep.sweep(engine)] == [True]
        return [method for method, _ in fake.exchange.calls].count("list_keys")

    once = await lists()
    assert await lists() == once
    fake.clock.advance(3601)
    assert await lists() > once


# Ways in and out.


async def test_a_key_that_was_put_by_mistake_is_forgotten_and_lives_on():
    fake = await prepared()
    with pytest.raises(RefusedError, match="another current key") as caught:
        await adopt.put_credential(fake.world(), NAME, by_hand(fake).material)
    assert f"keyturn forget {NAME}" in caught.value.todo
    gone = await forget(fake.world(), NAME)
    assert gone.emptied == (f"s:{PATH}",)
    right = by_hand(fake)
    await adopt.put_credential(fake.world(), NAME, right.material)
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    assert right.key_ref not in fake.exchange.truth()
    assert fake.exchange.accepts(fake.old.material), "it is somebody else's"
    again = named(fake.world(), NAME, "second", path="bots/second")
    await adopt.put_credential(again, "second", fake.old.material)


async def test_a_forgotten_key_is_the_credentials_again_when_it_is_put_again():
    fake = await prepared()
    await forget(fake.world(), NAME)
    await adopt.put_credential(fake.world(), NAME, fake.old.material)
    assert (await record_of(fake, fake.old.key_ref)).fate is Fate.LIVE
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_key_that_keyturn_minted_and_that_is_in_use_is_not_forgotten():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    with pytest.raises(RefusedError, match="minted") as caught:
        await forget(fake.world(), NAME)
    assert f"keyturn rotate {NAME}" in caught.value.todo


async def test_what_a_rotation_has_in_hand_is_not_forgotten():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    with pytest.raises(RefusedError, match="in hand"):
        await forget(fake.world(), NAME, await mark(fake, fake.old.key_ref))


async def test_a_key_of_another_sub_account_is_not_put():
    fake = await prepared()
    await forget(fake.world(), NAME)
    elsewhere = fake.exchange.add_key([Permission.READ, Permission.TRADE], subaccount="sub-b")
    with pytest.raises(RefusedError, match="no key of account main") as caught:
        await adopt.put_credential(fake.world(), NAME, elsewhere.material)
    assert "Correct `subaccount`" in caught.value.todo
    assert await fake.store.peek(PATH, Slot.CURRENT) is None


async def test_a_key_that_counts_as_dead_and_stands_in_the_store_alive_is_adopted_again():
    fake = await prepared()
    await fake.journal.record_keys([replace(await record_of(fake, fake.old.key_ref), fate=Fate.REVOKED)])
    assert (await adopt.adopt(fake.world(), NAME)).fate is Fate.LIVE
    assert len(await fake.journal.keys(NAME)) == 1
