"""One venue with one account for one test: the simulators behind their drivers, and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller, ExchangeDriver
from keyturn.simulator import Fault, FaultKind, IssuedKey, SimBybit, SimDeribit, SimOkx
from keyturn.simulator.core import SimExchange
from keyturn.simulator.proxy import EgressProxy
from keyturn.simulator.wire import Call, Reply
from keyturn.testing.driver_contract_support import DriverBench, Mishap
from keyturn.testing.memory_exchange import MemoryExchange

HOME = "127.0.0.1"
# RFC 5737: an address that nobody has.
ELSEWHERE = "203.0.113.7"
# More than a page of Bybit's and than the contract makes.
KEY_LIMIT = 60

# In the form of every venue at once.
UNLISTED_BODY = {
    "retCode": 987654,
    "retMsg": "new",
    "result": {},
    "code": "987654",
    "msg": "new",
    "data": [],
    "error": {"code": 987654, "message": "new"},
}

_FAULTS: Mapping[Mishap, Fault] = {
    Mishap.CUT_BEFORE: Fault(kind=FaultKind.CUT_BEFORE),
    Mishap.CUT_AFTER: Fault(kind=FaultKind.CUT_AFTER),
    Mishap.SERVER_ERROR: Fault(kind=FaultKind.SERVER_ERROR),
    Mishap.SERVER_ERROR_AFTER: Fault(kind=FaultKind.SERVER_ERROR, after_effect=True),
    Mishap.RATE_LIMITED: Fault(kind=FaultKind.RATE_LIMITED),
    Mishap.QUOTA: Fault(kind=FaultKind.QUOTA_REACHED),
}


@dataclass
class SimBench:
    """A driver against its simulator."""

    sim: SimExchange
    driver: ExchangeDriver
    manager: Caller
    powerless: Caller
    account: str
    subaccount: str | None
    egress_proxy: str
    #: Method of the port -> the call that it makes, as the simulator names it.
    routes: Mapping[str, str]
    home: str = HOME
    elsewhere: str = ELSEWHERE

    def arm(self, mishap: Mishap, method: str) -> None:
        if mishap is Mishap.UNLISTED:
            self._answer_unlisted(self.routes[method])
            return
        times = 1
        # aiohttp itself repeats a read over a connection that broke; only a second cut reaches the driver.
        if mishap is Mishap.CUT_BEFORE and method in {"list_keys", "introspect", "private_read"}:
            times = 2
        fault = _FAULTS[mishap].model_copy(update={"match": self.routes[method], "times": times})
        self.sim.faults.add(fault)

    def _answer_unlisted(self, route: str) -> None:
        """Let the next call of a route do its work and be answered with a code that no table has."""
        real = self.sim.answer

        def answer(call: Call) -> Reply:
            reply = real(call)
            if route not in f"{call.method} {call.path}":
                return reply
            del self.sim.answer
            return Reply(UNLISTED_BODY, code="987654", outcome="failed")

        self.sim.answer = answer  # type: ignore[method-assign]

    def skew(self, seconds: float) -> None:
        self.sim.clock_offset_s = seconds

    def truth(self) -> Mapping[str, str]:
        return {key.key_ref: key.label for key in self.sim.truth()[self.account]}


def caller_of(key: IssuedKey) -> Caller:
    return Caller(SecretMaterial(key.key_ref, key.secret, key.passphrase or None))


Routes = Mapping[str, str]
BYBIT_ROUTES: Routes = {
    "create_key": "/v5/user/create-sub-api",
    "edit_key": "/v5/user/update-sub-api",
    "revoke_key": "/v5/user/delete-sub-api",
    "list_keys": "/v5/user/sub-apikeys",
    "introspect": "/v5/user/query-api",
    "private_read": "/v5/account/wallet-balance",
    "server_time": "/v5/market/time",
}
OKX_ROUTES: Routes = {
    "create_key": "POST /api/v5/users/subaccount/apikey",
    "edit_key": "/api/v5/users/subaccount/modify-apikey",
    "revoke_key": "/api/v5/users/subaccount/delete-apikey",
    "list_keys": "GET /api/v5/users/subaccount/apikey",
    "introspect": "/api/v5/account/config",
    "private_read": "/api/v5/account/balance",
    "server_time": "/api/v5/public/time",
}
DERIBIT_ROUTES: Routes = {
    "create_key": "/private/create_api_key",
    "edit_key": "/private/edit_api_key",
    "revoke_key": "/private/remove_api_key",
    "list_keys": "/private/list_api_keys",
    "introspect": "/public/auth",
    "private_read": "/private/get_account_summary",
    "server_time": "/public/get_time",
}


@asynccontextmanager
async def _serve(sim: SimExchange) -> AsyncIterator[tuple[ExchangeDriver, EgressProxy]]:
    async with sim, EgressProxy(forwarded_for=ELSEWHERE) as proxy:
        driver = catalog.build(sim.venue, url=sim.base_url, rate_limit=False, timeout=5.0)
        try:
            yield driver, proxy
        finally:
            await driver.close()


@asynccontextmanager
async def bybit() -> AsyncIterator[SimBench]:
    sim = SimBybit(key_limit=KEY_LIMIT, trust_forwarded=True)
    async with _serve(sim) as (driver, proxy):
        sim.add_account("main")
        subaccount = sim.add_account("bot", parent="main")
        manager = sim.add_key("main", ["Wallet.SubMemberTransfer"], ips=[HOME])
        weak = sim.add_key("main", ["Wallet.SubMemberTransfer"], read_only=True)
        yield SimBench(
            sim,
            driver,
            caller_of(manager),
            caller_of(weak),
            "bot",
            subaccount.uid,
            proxy.url,
            BYBIT_ROUTES,
        )


@asynccontextmanager
async def okx() -> AsyncIterator[SimBench]:
    sim = SimOkx(key_limit=KEY_LIMIT, trust_forwarded=True)
    async with _serve(sim) as (driver, proxy):
        sim.add_account("main")
        sim.add_account("botsub", parent="main")
        manager = sim.add_key("main", ["read_only", "trade"], ips=[HOME], passphrase=sim.new_passphrase())
        weak = sim.add_key("main", ["read_only"], ips=[HOME], passphrase=sim.new_passphrase())
        yield SimBench(
            sim, driver, caller_of(manager), caller_of(weak), "botsub", "botsub", proxy.url, OKX_ROUTES
        )


@asynccontextmanager
async def deribit() -> AsyncIterator[SimBench]:
    sim = SimDeribit(trust_forwarded=True)
    async with _serve(sim) as (driver, proxy):
        sim.add_account("main")
        manager = sim.add_key("main", ["account:read_write"], ips=[HOME])
        weak = sim.add_key("main", ["account:read"])
        yield SimBench(
            sim, driver, caller_of(manager), caller_of(weak), "main", None, proxy.url, DERIBIT_ROUTES
        )


@dataclass
class MemoryBench:
    """The fake."""

    driver: MemoryExchange
    manager: Caller
    powerless: Caller
    subaccount: str | None = "bot"
    home: str = HOME
    elsewhere: str = ELSEWHERE
    egress_proxy: str = "http://proxy.invalid:3128"

    def arm(self, mishap: Mishap, method: str) -> None:
        lost = (
            ExchangeFault.OUTCOME_UNKNOWN
            if method in {"create_key", "edit_key", "revoke_key"}
            else ExchangeFault.VENUE_DOWN
        )
        faults = {Mishap.RATE_LIMITED: ExchangeFault.RATE_LIMITED, Mishap.QUOTA: ExchangeFault.KEY_QUOTA}
        if mishap is Mishap.UNLISTED and lost is ExchangeFault.VENUE_DOWN:
            lost = ExchangeFault.REJECTED
        effect = mishap in {Mishap.CUT_AFTER, Mishap.SERVER_ERROR_AFTER, Mishap.UNLISTED}
        self.driver.fail(method, faults.get(mishap, lost), effect=effect)

    def skew(self, seconds: float) -> None:
        self.driver.clock_offset = seconds

    def truth(self) -> Mapping[str, str]:
        return {ref: key.label for ref, key in self.driver.truth(self.subaccount).items()}


@asynccontextmanager
async def memory() -> AsyncIterator[MemoryBench]:
    exchange = MemoryExchange(egress={MemoryBench.egress_proxy: ELSEWHERE}, max_keys=KEY_LIMIT)
    manager = exchange.add_key({Permission.MANAGE_KEYS}, ips={HOME})
    weak = exchange.add_key({Permission.READ})
    yield MemoryBench(exchange, Caller(manager.material), Caller(weak.material))


BENCHES: Mapping[str, Callable[[], AbstractAsyncContextManager[DriverBench]]] = {
    "bybit": bybit,
    "okx": okx,
    "deribit": deribit,
    "memory": memory,
}
