"""How the engine goes on from half-done work, and what it refuses to do on the way."""

from datetime import timedelta

import pytest

from keyturn.domain.errors import ExchangeFault, JournalError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.rotation import Fate, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.testing.crash import Killed, Mishap
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from keyturn.testing.memory_exchange import NEUTRAL
from keyturn.testing.roads import ROADS, walk

from .walking import opened, until


def mints(fake: FakeWorld) -> int:
    return sum(method == "create_key" for method, _ in fake.exchange.calls)


async def kill_at(fake: FakeWorld, engine: Engine, rotation_id: str, call: str, mishap: Mishap) -> None:
    """Let the process die at the first call of a port method."""
    fake.tracer.arm(10**9, mishap)
    original = fake.tracer.call

    async def watched(port, method, effect):
        if f"{port}.{method}" == call:
            fake.tracer.at = len(fake.tracer.rows)
        return await original(port, method, effect)

    fake.tracer.call = watched
    try:
        await fake.run(engine, rotation_id)
        raise AssertionError("it did not die")
    except Killed:
        fake.tracer.disarm()
        fake.tracer.call = original


async def test_continues_from_minting_without_a_second_key_when_the_secret_was_staged():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await kill_at(fake, engine, rotation_id, "store.stage", Mishap.AFTER)
    done = await fake.run(Engine(fake.world()), rotation_id)
    assert (done.state, done.attempt, mints(fake)) == (State.COMPLETED, 1, 1)
    await fake.judge_rest()


async def test_a_key_whose_secret_was_lost_is_revoked_by_its_label_and_another_is_minted():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await kill_at(fake, engine, rotation_id, "exchange.create_key", Mishap.AFTER)
    done = await fake.run(Engine(fake.world()), rotation_id)
    assert (done.state, done.attempt, mints(fake)) == (State.COMPLETED, 2, 2)
    fates = {k.key_id: k.fate for k in await fake.journal.keys(NAME)}
    assert fates[f"{rotation_id}-1"] is Fate.REVOKED
    assert fates[f"{rotation_id}-2"] is Fate.LIVE
    await fake.judge_rest()


async def test_a_worker_that_is_still_minting_is_not_overtaken_at_once():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await kill_at(fake, engine, rotation_id, "exchange.create_key", Mishap.BEFORE)
    progress = await Engine(fake.world()).step(rotation_id)
    assert progress.rotation.state is State.MINTING
    assert progress.rest.until - fake.clock.now() == timedelta(seconds=30)


async def test_a_mint_without_an_answer_is_never_repeated_before_the_lost_key_was_looked_for():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    done = await fake.run(engine, rotation_id)
    assert done.state is State.COMPLETED
    methods = [m for m, _ in fake.exchange.calls]
    first, second = (i for i, m in enumerate(methods) if m == "create_key")
    assert "list_keys" in methods[first:second]
    assert "revoke_key" in methods[first:second]
    await fake.judge_rest()


async def test_a_lost_key_that_a_stale_list_hides_is_revoked_once_it_shows():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await engine.step(rotation_id)
    fake.clock.advance(5)
    fake.exchange.serve_stale_list(times=3)  # in recovery, then in two sweeps
    while (await engine.get(rotation_id)).state is State.MINTING:
        await engine.step(rotation_id)
    assert len(fake.exchange.truth()) == 5  # manager, foreign, old, the lost one, the new one
    await sweep.sweep(Engine(fake.world()))
    assert (await fake.journal.keys(NAME))[1].fate is Fate.INTENDED, "absence was believed too early"
    await fake.sweep_until_rest()
    fake.clock.advance(4000)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_nothing_is_revoked_when_the_store_names_the_old_key_again():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    current = await fake.store.peek(PATH, Slot.CURRENT)
    await fake.store.restore_previous(PATH, expect_current=current.version)  # somebody, behind our back
    fake.clock.advance(7200)
    progress = await engine.step(rotation_id)
    assert progress.rotation.parked is Park.NOT_OURS
    assert fake.old.key_ref in fake.exchange.truth()


async def test_an_abort_that_lost_the_race_against_the_promotion_becomes_a_roll_back():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.VERIFIED)
    await engine.abort(NAME, "a person")
    old = await fake.store.peek(PATH, Slot.CURRENT)
    await fake.store.promote(PATH, Attempt(rotation_id, 1), expect_current=old.version)  # the slow worker
    progress = await engine.step(rotation_id)
    assert progress.rotation.state is State.ROLLING_BACK
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    assert fake.old.key_ref in fake.exchange.truth()
    await fake.judge_rest()


async def test_a_key_that_somebody_else_made_current_is_kept_and_the_rotation_undone():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.VERIFIED)
    theirs = fake.exchange.add_key([*map(type(NEUTRAL.manager_any_of[0]), fake.permissions)], label="theirs")
    old = await fake.store.read(PATH, Slot.CURRENT)
    meta = old.info.meta
    await fake.store.put(PATH, theirs.material, meta, expect_current=old.info.version)
    done = await fake.run(engine, rotation_id)
    assert done.state is State.ABORTED
    assert done.new_ref not in fake.exchange.truth()
    assert (await fake.store.read(PATH, Slot.CURRENT)).material == theirs.material


async def test_a_key_that_the_journal_does_not_know_is_not_rotated():
    fake = FakeWorld()
    await fake.prepare(old_key=False)
    somebodys = fake.exchange.add_key([], label="somebody's")
    manager = await fake.store.read("managers/main", Slot.CURRENT)
    await fake.store.put(PATH, somebodys.material, manager.info.meta, expect_current=None)
    engine, rotation_id = await opened(fake)
    done = await fake.run(engine, rotation_id)
    assert done.parked is Park.NOT_OURS
    assert "keyturn adopt" in done.parked_todo
    assert mints(fake) == 0


async def test_a_full_quota_parks_and_no_key_is_deleted_to_make_room():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    fake.exchange.max_keys = len(fake.exchange.truth())
    before = set(fake.exchange.truth())
    engine, rotation_id = await opened(fake)
    done = await fake.run(engine, rotation_id)
    assert done.parked is Park.KEY_QUOTA
    assert set(fake.exchange.truth()) == before
    fake.exchange.max_keys += 2
    await engine.resume(NAME)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_store_that_is_down_when_the_secret_must_be_staged_costs_the_key_and_nothing_else():
    fake = FakeWorld(grace="10s")
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    real = fake.store.stage

    async def down(*_args, **_kwargs):
        raise StoreError(StoreFault.UNAVAILABLE, "The store is down.")

    fake.store.stage = down
    progress = await engine.step(rotation_id)
    assert progress.rotation.state is State.MINTING
    assert len(fake.exchange.truth()) == 3, "the key without a home lives on"
    fake.store.stage = real
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_journal_that_is_down_stops_the_work_and_nothing_outside_changes():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.tracer.arm(0, Mishap.FAILED)
    try:
        await engine.step(rotation_id)
        raise AssertionError("it went on without a journal")
    except JournalError:
        pass
    assert mints(fake) == 0


@pytest.mark.parametrize("mishap", Mishap)
async def test_the_abort_of_a_first_key_that_dies_at_its_revoke_is_finished_by_the_next_sweep(mishap):
    """Nobody but the list had named the key, and no other key shows that the account is the right one."""
    road = ROADS["the first key is aborted after a death in its mint"]
    (at,) = [n for n, row in enumerate(await walk(road)) if row.method == "revoke_key"]
    await walk(road, at, mishap)
