"""Serve one simulated exchange over HTTP: the part that all venues share.

A venue derives from :class:`SimExchange` and says how a call is authenticated and what it answers. A call is
carried out in one go, without waiting in the middle, so that it either happened or did not; faults wait and
cut around that.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from types import TracebackType
from typing import ClassVar, Self

from aiohttp import web

from keyturn.simulator import control
from keyturn.simulator.books import Books, real_ms
from keyturn.simulator.faults import Fault, FaultKind, FaultPlan, Faults
from keyturn.simulator.records import CallBook, CallRecord, KeyCalls
from keyturn.simulator.state import KeyRules, SimKey, ip_allowed
from keyturn.simulator.wire import Call, Refusal, Reply

# A stop must not wait for calls that a "hang" fault holds.
_SHUTDOWN_SECONDS = 0.2
# How long "hang" holds a call when the fault names no time: longer than any client waits.
_HANG_SECONDS = 3600.0
# Up to this status the exchange itself speaks; gateways answer 502 to 504 with a page of HTML.
_LAST_OWN_STATUS = 501


class SimExchange(Books):
    """A simulated exchange: accounts and keys in memory, an HTTP server on loopback, faults on demand.

    ``async with SimBybit() as sim`` serves at ``sim.base_url``. ``key_limit`` is how many keys one account
    may have. ``trust_forwarded`` takes the caller's address from ``X-Forwarded-For``, so that "bound to
    another machine" can be tried on one machine. ``enforce_rate_limits`` applies the documented rates of the
    key endpoints. ``clock_offset_s`` is how far the exchange's clock is ahead of the real one.
    """

    # Of the three venues only Deribit answers an API call with a demand for a second factor.
    unsupported_faults: ClassVar[frozenset[FaultKind]] = frozenset({FaultKind.SECOND_FACTOR})
    # Route -> calls a second, for one master account.
    documented_rates: ClassVar[dict[str, float]] = {}

    def __init__(
        self,
        *,
        key_limit: int | None = None,
        trust_forwarded: bool = False,
        enforce_rate_limits: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(key_limit)
        self.faults = FaultPlan(self.unsupported_faults)
        self.book = CallBook()
        self.clock_offset_s = 0.0
        self._trust_forwarded = trust_forwarded
        self._enforce_rate_limits = enforce_rate_limits
        self._last_use: dict[tuple[str, str], float] = {}
        self._host, self._port = host, port
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Bind and serve until :meth:`stop`."""
        server = web.Server(self._serve, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving; calls that a fault holds are cut. The state stays, for a new :meth:`start`."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """Where this exchange is served; the port stays the same over a stop and a new start."""
        return f"http://{self._host}:{self._port}"

    def calls(self, *, key_ref: str | None = None, match: str = "", after: int = 0) -> list[CallRecord]:
        """Return the remembered calls (see :meth:`CallBook.calls`)."""
        return self.book.calls(key_ref=key_ref, match=match, after=after)

    def calls_by(self, key_ref: str) -> KeyCalls:
        """Return how often a key was used and how that ended."""
        return self.book.by_key(key_ref)

    # ---- what a venue says --------------------------------------------------------------------

    @abstractmethod
    def presented_key(self, call: Call) -> str | None:
        """Return the key ref that the request claims, or ``None`` for an unsigned one."""

    @abstractmethod
    def answer(self, call: Call) -> Reply:
        """Carry the call out.

        Raises:
            Refusal: with the exchange's own error.
        """

    @abstractmethod
    def rate_limited_reply(self, status: int | None) -> Reply:
        """Return the exchange's answer to a caller that is too fast."""

    @abstractmethod
    def server_error_reply(self, status: int) -> Reply:
        """Return the exchange's own words for an internal error."""

    # ---- for venues ---------------------------------------------------------------------------

    def clock_ms(self) -> int:
        """Return the exchange's own time in milliseconds since the epoch."""
        return real_ms() + round(self.clock_offset_s * 1000)

    def ip_matches(self, call: Call, rules: KeyRules) -> bool:
        """Say whether the caller's address is one that the key may be used from."""
        return ip_allowed(rules.ips, call.ip)

    def too_fast(self, call: Call, key: SimKey) -> bool:
        """Say whether this call is above the documented rate of its endpoint (when rates are enforced)."""
        rate = self.documented_rates.get(call.route) if self._enforce_rate_limits else None
        if rate is None:
            return False
        slot = ((key.account.parent or key.account).uid, call.route)
        now = time.monotonic()
        if now - self._last_use.get(slot, 0.0) < 1.0 / rate:
            return True
        self._last_use[slot] = now
        return False

    # ---- inside -------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if path.startswith("/_sim/"):
            return await control.answer(self, request, path)
        body = await request.read() if request.can_read_body else b""
        call = self._open(request, path, query, body)
        claimed = self.presented_key(call)
        call.faults = self.faults.take(call.route, claimed)
        reply = await self._carry_out(call)
        decides = call.faults.decides
        self.book.add(
            at=call.now_ms / 1000,
            key_ref=claimed,
            method=call.method,
            path=call.path,
            ip=call.ip,
            status=0 if reply is None else reply.status,
            code="" if reply is None else reply.code,
            outcome="lost" if reply is None else reply.outcome,
            effect=call.effect,
            fault=None if decides is None else decides.kind.value,
        )
        if reply is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(body=reply.encode(), status=reply.status, content_type=reply.content_type)

    def _open(self, request: web.BaseRequest, path: str, query: str, body: bytes) -> Call:
        ip = request.remote or ""
        if self._trust_forwarded:
            ip = request.headers.get("X-Forwarded-For", ip).partition(",")[0].strip()
        now = real_ms()
        return Call(request.method, path, query, request.headers, body, ip, now, now, Faults())

    async def _carry_out(self, call: Call) -> Reply | None:
        """Answer, or return ``None`` when the connection shall be cut instead."""
        faults, decides = call.faults, call.faults.decides
        if faults.delay_before_s:
            await asyncio.sleep(faults.delay_before_s)
        if decides is not None and decides.kind in _INSTEAD and not decides.after_effect:
            return await self._instead(decides)
        # A call that waited is judged by the time at which it is carried out.
        call.now_ms = real_ms()
        call.clock_ms = self.clock_ms() + faults.skew_ms
        try:
            reply = self.answer(call)
        except Refusal as refusal:
            reply = refusal.reply
        if faults.delay_after_s:
            await asyncio.sleep(faults.delay_after_s)
        if decides is not None and (decides.kind is FaultKind.CUT_AFTER or decides.after_effect):
            return await self._instead(decides)
        return reply

    async def _instead(self, fault: Fault) -> Reply | None:
        """Do what the fault says in place of an honest answer."""
        match fault.kind:
            case FaultKind.RATE_LIMITED:
                return self.rate_limited_reply(fault.status)
            case FaultKind.SERVER_ERROR:
                return self._server_error(fault.status or 502)
            case FaultKind.HANG:
                await asyncio.sleep(fault.seconds or _HANG_SECONDS)
        return None

    def _server_error(self, status: int) -> Reply:
        if status <= _LAST_OWN_STATUS:
            return self.server_error_reply(status)
        page = f"<html><head><title>{status}</title></head><body>upstream error</body></html>"
        return Reply(page.encode(), status, str(status), "failed", "text/html")


# What replaces the call altogether unless it says "after the effect".
_INSTEAD = frozenset({FaultKind.CUT_BEFORE, FaultKind.HANG, FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR})
