from __future__ import annotations

import aiohttp
import pytest

from keyturn.simulator import Fault
from keyturn.simulator.proxy import EgressProxy

QUERY = "/v5/user/query-api"


@pytest.fixture
async def proxy():
    async with EgressProxy(forwarded_for="203.0.113.7") as running:
        yield running


async def test_calls_come_from_the_proxys_address_whatever_the_caller_claims(bybit, proxy):
    headers = {**bybit.manager._headers("", 5000), "X-Forwarded-For": "203.0.113.99"}
    async with bybit.http.get(bybit.sim.base_url + QUERY, headers=headers, proxy=proxy.url) as response:
        assert (await response.json())["retCode"] == 0
    (call,) = bybit.sim.calls(match=QUERY)
    assert call.ip == "203.0.113.7"


async def test_the_proxy_reaches_loopback_only(bybit, proxy):
    async with bybit.http.get("http://192.0.2.1/", proxy=proxy.url) as response:
        assert response.status == 403
    async with bybit.http.get(proxy.url + "/") as response:
        assert response.status == 501
    assert proxy.calls == 0


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
async def test_what_is_cut_behind_the_proxy_is_cut_before_it(bybit, proxy, kind):
    bybit.sim.faults.add(Fault(kind=kind, times=None))
    with pytest.raises(aiohttp.ClientError):
        await bybit.http.post(bybit.sim.base_url + "/v5/x", data=b"{}", proxy=proxy.url)


async def test_errors_pass_through_unchanged(bybit, proxy):
    bybit.sim.faults.add(Fault(kind="server_error", status=503))
    async with bybit.http.get(bybit.sim.base_url + QUERY, proxy=proxy.url) as response:
        assert response.status == 503
        assert response.content_type == "text/html"
