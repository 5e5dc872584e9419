"""What leaves, whose signature it bears, and what is known when no answer comes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeySpec, Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.exchanges._base import CcxtDriver
from keyturn.ports.exchange import Caller, ExchangeDriver
from keyturn.simulator import Fault, FaultKind, SimDeribit
from keyturn.testing.driver_contract_support import DriverBench, find, handle_of, mint, refused

from .benches import BENCHES, SimBench, bybit, caller_of, deribit
from .callers import GRANTS, MANAGER, VENUES, driver_at, server, spec_for, subaccount_for


@pytest.fixture(params=VENUES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[DriverBench]:
    async with BENCHES[request.param]() as bench:
        yield bench


@pytest.mark.parametrize("rate_limit", [True, False])
@pytest.mark.parametrize("code", VENUES)
async def test_fifty_keys_at_once_never_mix_signatures(code: str, rate_limit: bool) -> None:
    async with BENCHES[code]() as bench:
        assert isinstance(bench, SimBench)
        rights = {"bybit": "Spot.SpotTrade", "okx": "read_only", "deribit": "account:read"}[code]
        sim, keys = bench.sim, []
        for number in range(50):
            passphrase = f"Aa1-pass-{number}" if code == "okx" else ""
            keys.append(sim.add_key(bench.account, [rights], label=f"kt_{number}", passphrase=passphrase))
        driver = catalog.build(code, url=sim.base_url, rate_limit=rate_limit)
        try:
            calls = [driver.private_read(caller_of(key)) for key in keys]
            if not rate_limit:
                calls += [driver.introspect(caller_of(key)) for key in keys]  # type: ignore[misc]
            await asyncio.gather(*calls)
        finally:
            await driver.close()
        for key in keys:
            totals = sim.calls_by(key.key_ref)
            assert totals.signed == totals.ok >= 1
            assert totals.refused == 0


async def test_a_driver_keeps_no_key_after_a_call(bench: SimBench) -> None:
    await mint(bench, spec_for(bench.driver, bench.subaccount))
    assert isinstance(bench.driver, CcxtDriver)
    client = bench.driver._client
    for exchange in (client._exchange, *client._idle):
        held = repr(vars(exchange))
        for value in bench.manager.material.reveal().values():
            assert value not in held


async def test_each_method_makes_one_call_or_says_why(bench: SimBench) -> None:
    spec, driver, book = spec_for(bench.driver, bench.subaccount), bench.driver, bench.sim.book

    async def cost(call: object) -> int:
        before = book.count
        result = await call  # type: ignore[misc]
        if hasattr(result, "material"):
            minted.append(result)
        return book.count - before

    minted: list[object] = []
    assert await cost(driver.create_key(bench.manager, spec)) == 1
    key = minted[0]
    caller, handle = Caller(key.material), handle_of(bench, key)  # type: ignore[attr-defined, arg-type]
    # Deribit's second call is for whose the key is.
    assert await cost(driver.introspect(caller)) == (2 if driver.manifest.code == "deribit" else 1)
    assert await cost(driver.private_read(caller)) == 1
    assert await cost(driver.list_keys(bench.manager, bench.subaccount)) == 1
    # Deribit's second call looks whether the number is still the key's.
    named = 2 if driver.manifest.code == "deribit" else 1
    assert await cost(driver.edit_key(bench.manager, handle, spec)) == named
    assert await cost(driver.revoke_key(bench.manager, handle)) == named
    assert await cost(driver.server_time()) == 1


@pytest.mark.parametrize("code", VENUES)
async def test_a_refused_connection_is_down_also_for_a_change(code: str) -> None:
    async with server(lambda _: web.Response()) as url:
        pass
    async with driver_at(code, url) as driver:
        spec = spec_for(driver, subaccount_for(code))
        await refused(driver.create_key(MANAGER, spec), ExchangeFault.VENUE_DOWN)
        await refused(driver.introspect(MANAGER), ExchangeFault.VENUE_DOWN)
        await refused(driver.server_time(), ExchangeFault.VENUE_DOWN)


@pytest.mark.parametrize("code", VENUES)
async def test_a_failed_tls_handshake_is_down_also_for_a_change(code: str) -> None:
    async with (
        server(lambda _: web.Response()) as url,
        driver_at(code, url.replace("http:", "https:")) as driver,
    ):
        spec = spec_for(driver, subaccount_for(code))
        await refused(driver.create_key(MANAGER, spec), ExchangeFault.VENUE_DOWN)


@pytest.mark.parametrize("code", VENUES)
async def test_a_dead_egress_proxy_is_no_fault_of_the_venue_also_for_a_change(code: str) -> None:
    async with server(lambda _: web.Response()) as dead:
        pass
    async with server(lambda _: web.Response()) as url, driver_at(code, url) as driver:
        spec = spec_for(driver, subaccount_for(code))
        through = Caller(MANAGER.material, dead)
        error = await refused(driver.create_key(through, spec), ExchangeFault.MACHINE)
        assert "proxy" in error.what
        assert "egress_proxy" in error.todo


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_timeout_is_unknown_for_a_change_and_down_for_a_read(
    bench: SimBench, after_effect: bool
) -> None:
    spec = spec_for(bench.driver, bench.subaccount)
    before = len(bench.truth())
    code = bench.driver.manifest.code
    async with driver_at(code, bench.sim.base_url, timeout=0.8) as driver:
        for method in ("create_key", "list_keys"):
            fault = Fault(kind=FaultKind.HANG, match=bench.routes[method], after_effect=after_effect)
            bench.sim.faults.add(fault)
        await refused(driver.create_key(bench.manager, spec), ExchangeFault.OUTCOME_UNKNOWN)
        await refused(driver.list_keys(bench.manager, bench.subaccount), ExchangeFault.VENUE_DOWN)
    assert len(bench.truth()) == before + after_effect


@pytest.mark.parametrize("status", [200, 302, 404, 500, 504])
@pytest.mark.parametrize("code", VENUES)
async def test_an_answer_that_is_not_the_api_is_unknown_for_a_change(code: str, status: int) -> None:
    asked = []

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status, text="<html>", content_type="text/html", headers=headers)

    async with server(answer) as url, driver_at(code, url) as driver:
        spec = spec_for(driver, subaccount_for(code))
        await refused(driver.create_key(MANAGER, spec), ExchangeFault.OUTCOME_UNKNOWN)
        await refused(driver.private_read(MANAGER), ExchangeFault.VENUE_DOWN)
    assert len(asked) == 2, "a redirect is not followed"


@pytest.mark.parametrize("code", VENUES)
async def test_a_grant_that_lacks_the_key_is_unknown(code: str) -> None:
    body = GRANTS[code]
    async with (
        server(lambda _: web.Response(text=body, content_type="application/json")) as url,
        driver_at(code, url) as driver,
    ):
        spec = spec_for(driver, subaccount_for(code))
        await refused(driver.create_key(MANAGER, spec), ExchangeFault.OUTCOME_UNKNOWN)
        await refused(driver.introspect(MANAGER), ExchangeFault.VENUE_DOWN)
        await refused(driver.server_time(), ExchangeFault.VENUE_DOWN)


@pytest.mark.parametrize("code", VENUES)
async def test_a_rate_limit_tells_how_long_to_wait(code: str) -> None:
    def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=429, text="slow down", headers={"Retry-After": "7"})

    async with server(answer) as url, driver_at(code, url) as driver:
        spec = spec_for(driver, subaccount_for(code))
        error = await refused(driver.create_key(MANAGER, spec), ExchangeFault.RATE_LIMITED)
        assert error.retry_after == 7.0


async def test_bybit_bars_an_address_with_an_empty_403() -> None:
    async with bybit() as bench:
        bench.sim.faults.add(Fault(kind=FaultKind.RATE_LIMITED, status=403))
        await refused(bench.driver.private_read(bench.manager), ExchangeFault.BARRED_REGION)


BYBIT_ROW = {"apiKey": "not-a-real-key", "ips": ["*"], "permissions": {}, "readOnly": 0}


@asynccontextmanager
async def bybit_pages(pages: dict[str, tuple[list[object], str]]) -> AsyncIterator[ExchangeDriver]:
    """Answer each cursor with its rows and the cursor that goes on; what is not there is no API."""

    def answer(request: web.BaseRequest) -> web.Response:
        rows, following = pages[request.query.get("cursor", "")]
        result = {"result": rows, "nextPageCursor": following}
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": result, "time": 1})

    async with server(answer) as url, driver_at("bybit", url) as driver:
        yield driver


@pytest.mark.parametrize("again", ["a", "b"])
async def test_a_list_whose_pages_go_round_is_never_complete(again: str) -> None:
    pages = {"": ([BYBIT_ROW], "a"), "a": ([BYBIT_ROW], "b"), "b": ([BYBIT_ROW], again)}
    async with bybit_pages({**pages}) as driver:
        await refused(driver.list_keys(MANAGER, "12345678"), ExchangeFault.VENUE_DOWN)


@pytest.mark.parametrize("last", ["", "a"])
async def test_an_empty_last_page_ends_the_list(last: str) -> None:
    async with bybit_pages({"": ([BYBIT_ROW], "a"), "a": ([], last)}) as driver:
        assert len(await driver.list_keys(MANAGER, "12345678")) == 1


@pytest.mark.parametrize("change", [{"ips": ["", "127.0.0.1"]}, {"ips": [None]}, {"permissions": []}])
async def test_a_list_with_a_row_that_cannot_be_read_is_no_list(change: dict[str, object]) -> None:
    async with bybit_pages({"": ([{**BYBIT_ROW, **change}], "")}) as driver:
        await refused(driver.list_keys(MANAGER, "12345678"), ExchangeFault.VENUE_DOWN)


@pytest.mark.parametrize(
    ("key", "secret"), [("not-a-real-key\r\nX: 1", "not-a-real-secret"), ("", "x"), ("x", "")]
)
async def test_a_key_that_no_request_can_carry_is_refused_unsent(
    bench: SimBench, key: str, secret: str
) -> None:
    broken = Caller(SecretMaterial(key, secret, "not-a-real-pass"))
    before = bench.sim.book.count
    spec = spec_for(bench.driver, bench.subaccount)
    await refused(bench.driver.create_key(broken, spec), ExchangeFault.CANNOT_SIGN)
    assert bench.sim.book.count == before


async def test_deribit_s_second_factor_is_not_taken_for_success() -> None:
    async with SimDeribit() as sim:
        sim.add_account("main", totp_secret="JBSWY3DPEHPK3PXP")
        manager = caller_of(sim.add_key("main", ["account:read_write"]))
        async with driver_at("deribit", sim.base_url) as driver:
            await refused(driver.create_key(manager, spec_for(driver, None)), ExchangeFault.SECOND_FACTOR)
            await refused(driver.list_keys(manager, None), ExchangeFault.SECOND_FACTOR)
        assert len(sim.truth()["main"]) == 1


async def test_deribit_s_secret_is_in_no_request() -> None:
    seen: list[str] = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append(f"{request.raw_path} {request.headers}")
        return web.Response(text=GRANTS["deribit"], content_type="application/json")

    async with server(answer) as url, driver_at("deribit", url) as driver:
        await refused(driver.introspect(MANAGER), ExchangeFault.VENUE_DOWN)
        await driver.private_read(MANAGER)
    assert len(seen) == 2
    assert not any("not-a-real-secret" in text for text in seen)


async def test_deribit_never_takes_a_wrong_address_for_a_dead_key() -> None:
    async with deribit() as bench:
        minted = await mint(bench, spec_for(bench.driver, None))
        await bench.driver.edit_key(
            bench.manager,
            handle_of(bench, minted),
            KeySpec("kt_bound", frozenset({Permission.READ}), frozenset({bench.elsewhere})),
        )
        # The probe that tells the two apart does not answer: what is not known is not a dead key.
        bench.sim.faults.add(Fault(kind=FaultKind.CUT_BEFORE, match="/public/auth", times=2))
        await refused(bench.driver.private_read(Caller(minted.material)), ExchangeFault.WRONG_IP)
        assert await find(bench, minted.key_ref) is not None


@pytest.mark.parametrize("method", ["list_keys", "introspect"])
async def test_deribit_s_wrong_clock_is_no_wrong_address_when_the_call_is_slow(method: str) -> None:
    async with deribit() as bench:
        bench.skew(59.5)
        bench.sim.faults.add(Fault(kind=FaultKind.LATENCY, match=bench.routes[method], seconds=1, times=2))
        call = (
            bench.driver.introspect(bench.manager)
            if method == "introspect"
            else bench.driver.list_keys(bench.manager, None)
        )
        await refused(call, ExchangeFault.CLOCK_SKEW)


async def test_deribit_s_wrong_address_is_told_where_the_clock_is_right_enough() -> None:
    async with deribit() as bench:
        bench.skew(25.0)
        key = bench.sim.add_key("main", ["account:read"], ips=[bench.elsewhere])
        await refused(bench.driver.list_keys(caller_of(key), None), ExchangeFault.WRONG_IP)


SCRIPT = """
import asyncio, gc
from keyturn.domain.errors import ExchangeError
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import _pace, catalog
from keyturn.ports.exchange import Caller
from keyturn.simulator import SimBybit

async def main():
    async with SimBybit() as sim:
        driver = catalog.build("bybit", url=sim.base_url)
        await driver.server_time()
        try:
            await driver.introspect(Caller(SecretMaterial("a", "b")))
        except ExchangeError:
            pass
        await driver.close()
        await driver.close()
        unused = catalog.build("okx")
        await unused.close()
        del driver, unused
        gc.collect()

asyncio.run(main())
"""


def test_closing_leaves_no_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
