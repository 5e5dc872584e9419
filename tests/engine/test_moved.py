"""The inventory names another site than the one where a credential's keys lie: nothing is done there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.inventory import Inventory
from keyturn.domain.rotation import Fate, Mode, Park, State
from keyturn.engine import doctor, plan
from keyturn.engine.engine import Engine
from keyturn.engine.place import left_behind
from keyturn.testing.fake_world import NAME, FakeWorld

from .walking import opened, until

ELSEWHERE = "https://elsewhere.example"
BEFORE_THE_END = [
    State.MINTING,
    State.STAGED,
    State.VERIFIED,
    State.PROMOTED,
    State.CUTTING_OVER,
    State.GRACE,
    State.ABORTING,
]


def moved(fake: FakeWorld, url: str | None = ELSEWHERE, **fields: str) -> Engine:
    """Change the account in the inventory, and begin a process that has read it."""
    plain = fake.inventory.model_dump(mode="json", exclude_unset=True)
    entry = {k: v for k, v in plain["accounts"]["main"].items() if k not in {"url", "environment"}}
    plain["accounts"]["main"] = entry | ({"url": url} if url else {}) | fields
    fake.inventory = Inventory.model_validate(plain)
    return Engine(fake.world(traced=True))


def asked(fake: FakeWorld) -> int:
    return len(fake.exchange.calls)


async def prepared() -> FakeWorld:
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    return fake


@pytest.mark.parametrize("change", [{"url": ELSEWHERE}, {"url": None, "environment": "testnet"}])
async def test_no_key_is_made_at_another_place_than_the_living_ones(change):
    fake = await prepared()
    engine = moved(fake, **change)
    before = asked(fake)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    parked = await fake.run(engine, rotation.id)
    assert (parked.state, parked.parked, asked(fake)) == (State.PARKED, Park.MOVED, before)
    assert "memory" in parked.parked_why
    (line,) = await plan.plan(fake.world(), NAME)
    assert parked.parked_why in line.obstacles
    assert f"keyturn resume {NAME}" in parked.parked_todo


async def test_doctor_names_keys_that_lie_elsewhere():
    fake = await prepared()
    moved(fake)
    told = [f for f in await doctor.doctor(fake.world()) if "lie at memory" in f.detail]
    assert [(f.subject, f.ok) for f in told] == [(f"credential {NAME}", False)]
    assert f"keyturn resume {NAME}" in told[0].todo


async def test_a_person_who_says_that_it_is_the_same_place_lets_the_rotation_go_on():
    fake = await prepared()
    engine = moved(fake)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await fake.run(engine, rotation.id)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation.id)).state is State.COMPLETED
    assert not await left_behind(fake.world(), NAME)
    assert {key.place for key in await fake.journal.keys(NAME)} == {"elsewhere.example"}
    await fake.judge_rest()


async def test_a_place_that_is_put_back_needs_nobody_to_say_more():
    fake = await prepared()
    engine = moved(fake)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await fake.run(engine, rotation.id)
    engine = moved(fake, None)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation.id)).state is State.COMPLETED
    assert {key.place for key in await fake.journal.keys(NAME)} == {"memory"}
    await fake.judge_rest()


@pytest.mark.parametrize("state", BEFORE_THE_END)
async def test_a_rotation_under_way_asks_nothing_at_another_place(state):
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    if state is State.MINTING:
        fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await until(fake, engine, rotation_id, State.STAGED if state is State.ABORTING else state)
    if state is State.ABORTING:
        await engine.abort(NAME, "a test")
    engine, before = moved(fake), asked(fake)
    parked = await fake.run(engine, rotation_id)
    assert (parked.state, parked.parked, asked(fake)) == (State.PARKED, Park.MOVED, before)
    engine = moved(fake, None)
    await engine.resume(NAME)
    ended = await fake.run(engine, rotation_id)
    assert ended.state is (State.ABORTED if state is State.ABORTING else State.COMPLETED)
    await fake.judge_rest()


async def test_a_revoke_under_way_is_not_called_dead_at_another_place():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("revoke_key", ExchangeFault.OUTCOME_UNKNOWN)
    await until(fake, engine, rotation_id, State.REVOKING)
    engine, before = moved(fake), asked(fake)
    parked = await fake.run(engine, rotation_id)
    assert (parked.parked, asked(fake)) == (Park.MOVED, before)
    assert fake.old is not None
    record = await fake.journal.key("memory", "main", fake.old.key_ref)
    assert record is not None
    assert record.fate is Fate.REVOKING


async def test_an_orphan_of_another_place_is_neither_looked_for_nor_revoked_here():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.STAGED)
    await engine.abort(NAME, "a test")
    await fake.run(engine, rotation_id)
    (given_up,) = [key for key in await fake.journal.keys(NAME) if key.rotation_id == rotation_id]
    await fake.journal.record_keys([replace(given_up, fate=Fate.LIVE)])
    engine, before = moved(fake), asked(fake)
    assert await engine.settle(NAME) == []
    assert asked(fake) == before
    engine = moved(fake, None)
    assert [key.fate for key in await engine.settle(NAME)] == [Fate.REVOKED]


async def test_a_key_of_a_journal_that_does_not_say_where_it_lies_stops_nothing():
    fake = await prepared()
    records = [replace(key, place=None) for key in await fake.journal.keys(NAME)]
    await fake.journal.record_keys(records)
    engine = moved(fake)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    assert (await fake.run(engine, rotation.id)).state is State.COMPLETED
    # From then on it is known.
    engine = moved(fake, None)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    assert (await fake.run(engine, rotation.id)).parked is Park.MOVED
