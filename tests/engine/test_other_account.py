"""A manager key of another account: nothing is made over there, and nothing is believed of what it lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import Permission
from keyturn.domain.rotation import Fate, Origin, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from keyturn.testing.memory_exchange import NEUTRAL

from .walking import opened, until

ELSEWHERE = "203.0.113.7"


def elsewhere(fake: FakeWorld) -> None:
    """Let the manager key be another account's: it lists nothing of ours, and takes every revoke for done."""

    async def list_keys(manager, subaccount):
        return []

    async def revoke_key(manager, key):
        fake.exchange.calls.append(("revoke_key", "elsewhere"))

    fake.exchange.list_keys, fake.exchange.revoke_key = list_keys, revoke_key


def home(fake: FakeWorld) -> None:
    """Put the right manager key back."""
    del fake.exchange.list_keys, fake.exchange.revoke_key


async def prepared(**world) -> FakeWorld:
    fake = FakeWorld(grace="10s", **world)
    await fake.prepare()
    return fake


def made(fake: FakeWorld) -> int:
    return sum(method == "create_key" for method, _ in fake.exchange.calls)


async def stopped(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    """Run until the rotation is parked for its manager key, and see that it says why."""
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.MANAGER_KEY)
    assert "another account" in rotation.parked_why
    assert "put --manager" in rotation.parked_todo


@pytest.mark.parametrize("bound", [False, True], ids=["open", "bound to its bot"])
async def test_no_key_is_made_by_a_manager_key_that_does_not_list_the_living_one(bound):
    fake = await prepared()
    if bound:
        row = fake.exchange._rows[fake.old.key_ref]
        row.key = replace(row.key, ip_allowlist=frozenset({ELSEWHERE}))
    engine, rotation_id = await opened(fake)
    elsewhere(fake)
    await stopped(fake, engine, rotation_id)
    assert made(fake) == 0
    home(fake)
    if not bound:
        await engine.resume(NAME)
        assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
        await fake.judge_rest()


async def test_a_list_that_is_only_late_stops_nothing():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.serve_stale_list(changes=9, times=2)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_key_that_somebody_deleted_is_replaced_though_no_list_shows_it():
    fake = await prepared(judging=False)
    fake.exchange.kill_key(fake.old.key_ref)
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED


async def test_a_mint_without_an_answer_is_not_looked_for_in_another_account():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await until(fake, engine, rotation_id, State.MINTING)
    elsewhere(fake)
    await stopped(fake, engine, rotation_id)
    assert made(fake) == 1
    home(fake)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_an_abort_does_not_take_the_word_of_another_account_for_the_new_keys_end():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.VERIFIED)
    await engine.abort(NAME, "a test wants it")
    elsewhere(fake)
    await stopped(fake, engine, rotation_id)
    home(fake)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.judge_rest()


async def test_a_key_that_may_exist_is_not_settled_by_the_list_of_another_account():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await until(fake, engine, rotation_id, State.MINTING)
    fake.exchange.serve_stale_list(changes=1, times=1)
    await engine.abort(NAME, "a test wants it")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    elsewhere(fake)
    fake.clock.advance(7200)
    await sweep.sweep(Engine(fake.world()))
    (lost,) = [k for k in await fake.journal.keys(NAME) if k.origin is Origin.MINTED]
    assert lost.fate is Fate.INTENDED
    home(fake)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_refusal_that_nobody_can_be_sure_of_is_looked_into():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    # The venue made the key and answered with a code that no table has.
    fake.exchange.fail("create_key", ExchangeFault.REJECTED, effect=True)
    assert (await fake.run(engine, rotation_id)).parked is Park.REJECTED
    fake.exchange.serve_stale_list(changes=1, times=1)
    await engine.abort(NAME, "a test wants it")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    fake.clock.advance(7200)
    await fake.sweep_until_rest()
    await fake.judge_rest()


# The end of the old key.


async def in_grace(fake: FakeWorld) -> tuple[Engine, str]:
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    return engine, rotation_id


def bound(fake: FakeWorld) -> None:
    """Let the old key be bound to its bot's address: nobody here can try whether it is dead."""
    row = fake.exchange._rows[fake.old.key_ref]
    row.key = replace(row.key, ip_allowlist=frozenset({ELSEWHERE}))


async def test_the_list_of_another_account_is_no_proof_of_the_old_keys_death():
    fake = await prepared()
    engine, rotation_id = await in_grace(fake)
    bound(fake)
    elsewhere(fake)
    rotation = await fake.run(engine, rotation_id)
    assert (rotation.state, rotation.parked) == (State.PARKED, Park.NO_PROOF)
    assert "does not show the new key" in rotation.parked_why
    assert (await fake.store.peek(PATH, Slot.PREVIOUS)).meta.key_ref == fake.old.key_ref
    home(fake)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    assert fake.old.key_ref not in fake.exchange.truth()


async def test_a_revoke_without_an_answer_is_not_proved_by_a_key_that_is_only_disabled():
    fake = await prepared()
    engine, rotation_id = await in_grace(fake)
    row = fake.exchange._rows[fake.old.key_ref]
    row.live_from = fake.clock.now().replace(year=2999)  # refused at the door, and still in the books
    fake.exchange.fail("revoke_key", ExchangeFault.OUTCOME_UNKNOWN)
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.COMPLETED
    assert [method for method, _ in fake.exchange.calls].count("revoke_key") == 2
    assert fake.old.key_ref not in fake.exchange.truth()
    assert rotation.death_proof == "a call signed with it was refused: the exchange knows no such key"


# What the new key is.


async def test_a_new_key_of_another_account_is_revoked_again():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    facts_of = fake.exchange._facts
    fake.exchange._facts = lambda key: (
        replace(facts_of(key), account_uid="uid-other") if key.key_ref != fake.old.key_ref else facts_of(key)
    )
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.ABORTED
    assert "another account" in rotation.abort_reason
    await fake.judge_rest()


async def test_a_right_that_only_the_list_tells_counts():
    after = NEUTRAL.model_copy(update={"ip": NEUTRAL.ip.model_copy(update={"set_at": "after"})})
    fake = await prepared(manifest=after)
    engine, rotation_id = await opened(fake)
    original = fake.exchange.list_keys

    async def listed(manager, subaccount):
        withdraw = frozenset({Permission.WITHDRAW})
        return [
            replace(
                facts,
                permissions=facts.permissions | withdraw,
                grants=facts.grants | fake.exchange.manifest.grants_for(withdraw),
            )
            if facts.key_ref != fake.old.key_ref
            else facts
            for facts in await original(manager, subaccount)
        ]

    fake.exchange.list_keys = listed
    rotation = await fake.run(engine, rotation_id)
    assert rotation.state is State.ABORTED
    assert "It could withdraw" in rotation.abort_reason


async def test_a_key_is_not_replaced_by_one_of_another_sub_account_because_the_inventory_says_so():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    entry = fake.inventory.credentials[NAME].model_copy(update={"subaccount": "other"})
    fake.inventory = fake.inventory.model_copy(update={"credentials": {NAME: entry}})
    before = made(fake)
    engine, rotation_id = await opened(fake)
    await stopped(fake, engine, rotation_id)
    assert made(fake) == before
