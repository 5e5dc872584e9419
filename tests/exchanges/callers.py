"""What the tests of calls share: who calls, what for, and a server that answers as a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from keyturn.domain.keys import KeySpec, Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller, ExchangeDriver

from .benches import BYBIT_ROUTES, DERIBIT_ROUTES, OKX_ROUTES

VENUES = [*catalog.manifests()]
ROUTES = {"bybit": BYBIT_ROUTES, "okx": OKX_ROUTES, "deribit": DERIBIT_ROUTES}
MANAGER = Caller(SecretMaterial("not-a-real-key", "not-a-real-secret", "not-a-real-pass"))


def spec_for(driver: ExchangeDriver, subaccount: str | None) -> KeySpec:
    label = driver.manifest.label.separator.join(("kt", "0123456789", "1"))
    return KeySpec(label, frozenset({Permission.READ}), frozenset(), subaccount)


def subaccount_for(code: str) -> str | None:
    return None if code == "deribit" else "12345678"


@asynccontextmanager
async def driver_at(code: str, url: str, timeout: float = 5.0) -> AsyncIterator[ExchangeDriver]:
    driver = catalog.build(code, url=url, rate_limit=False, timeout=timeout)
    try:
        yield driver
    finally:
        await driver.close()


@asynccontextmanager
async def server(answer: Callable[[web.BaseRequest], web.Response]) -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.Response:
        return answer(request)

    async with web_server(handle) as url:
        yield url


@asynccontextmanager
async def web_server(handle: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


GRANTS = {
    "bybit": '{"retCode":0,"retMsg":"OK","result":{},"time":0}',
    "okx": '{"code":"0","msg":"","data":[]}',
    "deribit": '{"jsonrpc":"2.0","result":{}}',
}
