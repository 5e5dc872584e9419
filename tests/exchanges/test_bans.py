"""A venue that bars the address, or asks for a pause, is asked once for an account until that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.exchanges import catalog
from keyturn.exchanges._bans import Ban, Bans
from keyturn.ports.exchange import Caller, ExchangeDriver
from tests.exchanges.test_hostile_answers import MANAGER
from tests.hostile import Reply, answering, json, page

VENUES = sorted(catalog.manifests())


@asynccontextmanager
async def counted(code: str, reply: Reply) -> AsyncIterator[tuple[ExchangeDriver, list[str]]]:
    """Give a driver of a venue that answers always the same, and the calls that reached it."""
    heads: list[str] = []

    def answer(head: str) -> Reply:
        heads.append(head)
        return reply

    async with answering(answer) as url:
        driver = catalog.build(code, url=url, rate_limit=False)
        try:
            yield driver, heads
        finally:
            await driver.close()


async def fault_of(driver: ExchangeDriver, caller: Caller = MANAGER) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        await driver.private_read(caller)
    return caught.value


@pytest.mark.parametrize("status", [403, 451])
@pytest.mark.parametrize("code", VENUES)
async def test_many_credentials_at_once_ask_a_venue_that_bars_them_once(code, status):
    async with counted(code, page(status)) as (driver, heads):
        errors = await asyncio.gather(*(fault_of(driver) for _ in range(20)))
    assert len(heads) == 1
    assert {error.fault for error in errors} == {ExchangeFault.BARRED_REGION}
    assert all(540 < (error.retry_after or 0) <= 600 for error in errors)
    unasked = errors[-1].diagnostics()
    assert "was not asked" in unasked
    assert "in a region that" in unasked


async def test_a_pause_that_the_venue_asks_for_is_kept_for_the_account_and_no_longer_than_an_hour():
    async with counted("okx", page(403, **{"Retry-After": "86400"})) as (driver, heads):
        await fault_of(driver)
        assert 3540 < ((await fault_of(driver)).retry_after or 0) <= 3600
    assert len(heads) == 1


@pytest.mark.parametrize("code", VENUES)
async def test_fewer_calls_for_a_time_that_is_said_are_kept_for_the_whole_account(code):
    async with counted(code, page(429, **{"Retry-After": "30"})) as (driver, heads):
        errors = await asyncio.gather(*(fault_of(driver) for _ in range(20)))
    assert len(heads) == 1
    assert {error.fault for error in errors} == {ExchangeFault.RATE_LIMITED}
    assert all(25 < (error.retry_after or 0) <= 30 for error in errors)
    unasked = errors[-1].diagnostics()
    assert "was not asked" in unasked
    assert "tries again by itself" in unasked
    assert "region" not in unasked


@pytest.mark.parametrize(
    "headers", [{}, {"Retry-After": "0.2"}, {"Retry-After": "-5"}, {"Retry-After": "soon"}]
)
async def test_fewer_calls_without_a_time_worth_keeping_hold_nobody_back(headers):
    async with counted("okx", page(429, **headers)) as (driver, heads):
        await asyncio.gather(*(fault_of(driver) for _ in range(5)))
    assert len(heads) >= 5


async def test_another_way_out_is_not_held_for_the_ban_of_the_first():
    async with counted("okx", page(403)) as (driver, heads):
        await fault_of(driver)
        elsewhere = await fault_of(driver, Caller(MANAGER.material, "http://127.0.0.1:9"))
    assert elsewhere.fault is not ExchangeFault.BARRED_REGION
    assert len(heads) == 1


@pytest.mark.parametrize("code", VENUES)
async def test_a_refusal_of_another_kind_holds_nobody_back(code):
    async with counted(code, json('{"retCode": 99999, "code": "99999", "error": {"code": 99999}}')) as (
        driver,
        heads,
    ):
        await asyncio.gather(*(fault_of(driver) for _ in range(5)))
    assert len(heads) >= 5


class Venue:
    """Bars calls while it is told to; counts seconds and calls."""

    def __init__(self) -> None:
        self.seconds, self.calls, self.bars = 0.0, 0, True
        self.bans = Bans(lambda e: e.fault is ExchangeFault.BARRED_REGION, time_now=lambda: self.seconds)

    async def _answer(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if self.bars:
            raise ExchangeError(ExchangeFault.BARRED_REGION, "barred", code="no", retry_after=600.0)
        return "in"

    @staticmethod
    def _held(ban: Ban) -> ExchangeError:
        return ExchangeError(ExchangeFault.BARRED_REGION, "held", code=ban.code, retry_after=ban.seconds)

    async def ask(self) -> str:
        try:
            return await self.bans.send(self._answer, self._held)
        except ExchangeError as error:
            return error.what


async def test_after_the_pause_one_call_goes_alone_and_opens_the_way_for_the_others():
    venue = Venue()
    assert await venue.ask() == "barred"
    venue.seconds = 599
    assert [await venue.ask() for _ in range(3)] == ["held"] * 3
    venue.seconds = 601
    told = await asyncio.gather(*(venue.ask() for _ in range(4)))
    assert sorted(told) == ["barred", "held", "held", "held"]
    assert venue.calls == 2
    venue.seconds, venue.bars = 1300, False
    assert await asyncio.gather(*(venue.ask() for _ in range(4))) == ["in"] * 4


async def test_a_call_that_left_before_the_ban_does_not_lift_it():
    venue = Venue()
    venue.bars = False
    assert await venue.ask() == "in"
    slow = asyncio.create_task(venue.bans.send(lambda: asyncio.sleep(0.01, "in"), venue._held))
    await asyncio.sleep(0)
    venue.bars = True
    assert await venue.ask() == "barred"
    assert await slow == "in"
    assert await venue.ask() == "held"


async def test_what_the_first_call_asks_besides_does_not_wait_for_itself():
    venue = Venue()
    venue.bars = False

    async def first() -> str:
        return await venue.bans.send(venue._answer, venue._held)

    assert await asyncio.wait_for(venue.bans.send(first, venue._held), 5) == "in"
