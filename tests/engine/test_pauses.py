"""The pause that a person is told is the pause that is kept, and no answer puts a rotation off for ever."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.inventory import Inventory
from keyturn.domain.rotation import State
from keyturn.engine import barring, sweep
from keyturn.engine.trouble import handle
from keyturn.engine.work import Work
from keyturn.exchanges import catalog
from keyturn.testing.fake_world import NAME, FakeWorld
from tests.hostile import answering, page

from .walking import opened, until

ASKED = 600.0
PASSING = (ExchangeFault.BARRED_REGION, ExchangeFault.RATE_LIMITED, ExchangeFault.VENUE_DOWN)


async def work_in(fake: FakeWorld, state: State) -> Work:
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, state)
    return Work(fake.world(), await engine.get(rotation_id))


@pytest.mark.parametrize("state", [State.PLANNED, State.STAGED, State.PROMOTED, State.GRACE])
@pytest.mark.parametrize("fault", PASSING)
async def test_a_rotation_stays_away_for_as_long_as_the_venue_asks(fault, state):
    fake = FakeWorld()
    work = await work_in(fake, state)
    rest = await handle(work, ExchangeError(fault, "no", retry_after=ASKED))
    assert rest.until >= fake.clock.now() + timedelta(seconds=ASKED)
    assert (await fake.journal.get(work.rotation.id)).wake_at == rest.until


@pytest.mark.parametrize("state", [State.PLANNED, State.MINTING, State.STAGED])
@pytest.mark.parametrize("method", ["list_keys", "create_key", "introspect"])
async def test_no_call_leaves_before_the_pause_is_over(method, state):
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    unknown = ExchangeFault.OUTCOME_UNKNOWN
    fake.exchange.fail(
        method, unknown if method == "create_key" else ExchangeFault.BARRED_REGION, retry_after=ASKED
    )
    start = fake.clock.now()
    rested = await engine.advance(rotation_id)
    assert rested.wake_at >= start + timedelta(seconds=ASKED)
    again = await engine.advance(rotation_id)
    assert (again.rotation.state, again.wake_at) == (rested.rotation.state, rested.wake_at)


@pytest.mark.parametrize("asked", [math.inf, math.nan, 1e30, -5.0, 0.0])
async def test_no_pause_that_is_asked_for_is_longer_than_an_hour(asked):
    fake = FakeWorld()
    work = await work_in(fake, State.PLANNED)
    rest = await handle(work, ExchangeError(ExchangeFault.RATE_LIMITED, "no", retry_after=asked))
    assert fake.clock.now() < rest.until <= fake.clock.now() + timedelta(hours=1)


@pytest.mark.parametrize("status", [403, 451])
@pytest.mark.parametrize("code", catalog.manifests())
async def test_the_advice_of_a_barred_region_is_another_region_and_the_pause_is_the_told_one(code, status):
    async with answering(page(status)) as url:
        driver = catalog.build(code, url=url, rate_limit=False)
        with pytest.raises(ExchangeError) as caught:
            await driver.server_time()
        await driver.close()
    assert "region" in caught.value.what
    assert "in a region that" in caught.value.todo
    assert "10 minutes" in caught.value.todo or "ten minutes" in caught.value.todo
    fake = FakeWorld()
    work = await work_in(fake, State.PLANNED)
    rest = await handle(work, caught.value)
    assert rest.until >= fake.clock.now() + timedelta(minutes=10)


async def due_of_others(fake: FakeWorld) -> list[str]:
    """Name what a sweep of another process would do for another credential of the account."""
    raw = fake.inventory.model_dump(mode="json", exclude_none=True)
    raw["credentials"]["second"] = raw["credentials"][NAME] | {"path": "bots/second"}
    world = replace(fake.world(), inventory=Inventory.model_validate(raw))
    return [item.kind for item in await sweep.due_work(world) if item.credential == "second"]


async def test_a_ban_that_one_credential_was_told_keeps_the_others_of_its_account_waiting():
    fake = FakeWorld()
    await fake.prepare()
    assert await due_of_others(fake) == [sweep.Kind.OPEN]
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("list_keys", ExchangeFault.BARRED_REGION, retry_after=ASKED)
    await engine.advance(rotation_id)
    assert await due_of_others(fake) == []
    fake.clock.advance(ASKED - 1)
    assert await due_of_others(fake) == []
    fake.clock.advance(2)
    assert await due_of_others(fake) == [sweep.Kind.OPEN]


async def test_a_ban_does_not_keep_consumers_from_being_told():
    fake = FakeWorld()
    work = await work_in(fake, State.PROMOTED)
    await handle(work, ExchangeError(ExchangeFault.BARRED_REGION, "no", retry_after=ASKED))
    assert not any(barring.holds(replace(work.rotation, state=s)) for s in (State.PROMOTED, State.PARKED))
    assert all(barring.holds(replace(work.rotation, state=s)) for s in (State.PLANNED, State.MINTING))


async def test_a_pause_that_one_credential_is_asked_for_is_kept_by_its_account_and_no_longer():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    # Its own pause is longer by now than the one that the exchange asks for.
    for _ in range(8):
        fake.exchange.fail("list_keys", ExchangeFault.RATE_LIMITED, retry_after=20.0)
        start, rested = fake.clock.now(), await engine.advance(rotation_id)
        assert await due_of_others(fake) == []
        fake.clock.advance(19)
        assert await due_of_others(fake) == []
        fake.clock.advance(2)
        assert await due_of_others(fake) == [sweep.Kind.OPEN]
        fake.clock.advance(max(0.0, (rested.wake_at - fake.clock.now()).total_seconds()))
    assert rested.wake_at - start > timedelta(seconds=60)


@pytest.mark.parametrize(
    ("fault", "asked"), [(ExchangeFault.VENUE_DOWN, ASKED), (ExchangeFault.RATE_LIMITED, None)]
)
async def test_another_fault_of_one_credential_keeps_nobody_else_waiting(fault, asked):
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    fake.exchange.fail("list_keys", fault, retry_after=asked)
    await engine.advance(rotation_id)
    assert await due_of_others(fake) == [sweep.Kind.OPEN]
