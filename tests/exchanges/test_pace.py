"""The rate of an endpoint is kept, whatever delays a call on its way to the venue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from keyturn.domain.errors import ExchangeFault
from keyturn.exchanges import _pace, catalog
from keyturn.exchanges._client import Client, Endpoint, Quiet, Wire
from keyturn.ports.exchange import KeyHandle
from keyturn.simulator import SimBybit
from keyturn.testing.driver_contract_support import refused

from .benches import caller_of
from .callers import GRANTS, MANAGER, VENUES, driver_at, server, spec_for, subaccount_for, web_server


async def test_documented_rates_are_kept_by_waiting() -> None:
    sim = SimBybit(enforce_rate_limits=True)
    async with sim:
        sim.add_account("main")
        uid = sim.add_account("bot", parent="main").uid
        manager = caller_of(sim.add_key("main", ["Wallet.SubMemberTransfer"]))
        driver = catalog.build("bybit", url=sim.base_url)
        try:
            spec = spec_for(driver, uid)
            minted = await asyncio.gather(*(driver.create_key(manager, spec) for _ in range(3)))
            handles = [KeyHandle(key.key_ref, subaccount=uid) for key in minted]
            await asyncio.gather(*(driver.revoke_key(manager, handle) for handle in handles))
        finally:
            await driver.close()


@asynccontextmanager
async def paced(*seconds: float) -> AsyncIterator[tuple[Client, list[float]]]:
    """A client of a server that counts calls as they come, each after so many seconds on its way."""
    counted: list[float] = []
    late = iter(seconds)

    async def handle(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(next(late, 0.0))
        counted.append(time.monotonic())
        return web.Response(text="{}", content_type="application/json")

    async with web_server(handle) as url:
        client = Client("bybit", Quiet, url=url, testnet=False, timeout=5.0, rate_limit=True)
        try:
            yield client, counted
        finally:
            await client.close()


FIVE_A_SECOND = Endpoint("edit the key", "v5/user/update-sub-api", "POST", changes=True, per_second=5)


@pytest.mark.parametrize("where", ["before they leave", "on the way"])
async def test_a_call_that_is_late_makes_the_next_one_wait(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, busy = Wire.post, iter([0.18])

    def post(wire: Wire, url: Any, **options: Any) -> Any:
        # A busy machine: nothing of this process goes on, and by then the turn of the next has come.
        time.sleep(next(busy, 0.0))
        return request(wire, url, **options)

    if where == "before they leave":
        monkeypatch.setattr(Wire, "post", post)
    async with paced(0.18 if where == "on the way" else 0.0) as (client, counted):
        await client.await_turn(FIVE_A_SECOND)
        calls = [client.send(FIVE_A_SECOND, {}, MANAGER, within) for within in (5.0, None, None)]
        await asyncio.gather(*calls)
    first, second, third = counted
    assert second - first >= 0.2
    assert third - second >= 0.2


async def test_a_call_that_has_its_turn_waits_for_no_slow_answer_to_another() -> None:
    """Between turn and call the engine writes its intent: what takes long then looks like a dead worker."""

    async def call(client: Client) -> float:
        await client.await_turn(FIVE_A_SECOND)
        began = time.monotonic()
        await client.send(FIVE_A_SECOND, {}, MANAGER, 5.0)
        return time.monotonic() - began

    async with paced(*[0.4] * 4) as (client, _):
        took = await asyncio.gather(*(call(client) for _ in range(4)))
    assert max(took) < 2 * 0.4


async def test_a_call_without_an_answer_makes_the_next_one_wait_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pace, "_LONGEST_WAY_SECONDS", 0.1)
    async with paced(3.0) as (client, counted):
        hung = asyncio.create_task(client.send(FIVE_A_SECOND, {}, MANAGER))
        await asyncio.sleep(0)
        await client.send(FIVE_A_SECOND, {}, MANAGER)
        assert len(counted) == 1
        assert not hung.done()
        hung.cancel()


@pytest.mark.parametrize("code", VENUES)
async def test_a_create_that_cannot_leave_in_time_is_not_sent(code: str) -> None:
    seen: list[str] = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.path)
        return web.Response(text=GRANTS[code], content_type="application/json")

    async with server(answer) as url, driver_at(code, url) as driver:
        spec = spec_for(driver, subaccount_for(code))
        await refused(driver.create_key(MANAGER, spec, within=0), ExchangeFault.VENUE_DOWN)
    assert seen == []


async def test_a_create_whose_turn_was_waited_for_waits_for_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[str] = []

    async def turn(_client: Client, endpoint: Endpoint) -> None:
        turns.append(endpoint.action)

    monkeypatch.setattr(Client, "await_turn", turn)
    async with SimBybit() as sim:
        sim.add_account("main")
        uid = sim.add_account("bot", parent="main").uid
        manager = caller_of(sim.add_key("main", ["Wallet.SubMemberTransfer"]))
        driver = catalog.build("bybit", url=sim.base_url)
        try:
            await driver.await_turn()
            await driver.create_key(manager, spec_for(driver, uid), within=5)
            assert turns == ["create a key"]
            await driver.create_key(manager, spec_for(driver, uid))
            assert turns == ["create a key"] * 2
        finally:
            await driver.close()
