"""Let ccxt sign and send, and nothing more.

ccxt reads `self.apiKey` only after it has waited for its throttler, when another call may have set another
key. So each call has a ccxt object to itself while it lasts: a shallow copy that shares tables and throttler,
gets its key for that call, loses it after, and is kept for a later one. (A copy costs 45 microseconds in use,
a third of a call; a new object 5 milliseconds. Measured with ccxt 4.5.90.)
"""

from __future__ import annotations

import copy
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType, SimpleNamespace
from typing import Any

import aiohttp
import certifi

from keyturn.bodies import VENUE_LIMIT, Body, BodyError, read_json
from keyturn.domain.errors import ExchangeFault
from keyturn.exchanges._ccxt import BaseError, venue_class
from keyturn.exchanges._pace import Departure, Pace
from keyturn.exchanges._reasons import NO_ROOTS, TOO_LATE, UNUSABLE_PROXY, Break, what_broke
from keyturn.machine import usable_proxy
from keyturn.ports.exchange import Caller

# ccxt logs requests and responses, headers and bodies, at DEBUG. This logger belongs to no tree and is off.
_SILENCE = logging.Logger("ccxt")  # noqa: LOG001 - on purpose outside the tree
_SILENCE.disabled = True
# Seconds for which an idle connection is kept: well under what load balancers allow (60 and more), so that
# a call that changes something rarely meets a connection that is just being closed.
_KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call of a venue's API."""

    #: What it does, in words that follow "could not".
    action: str
    path: str
    method: str = "GET"
    private: bool = True
    #: Whether a call may change something, whatever its HTTP method says.
    changes: bool = False
    #: Documented calls a second of this endpoint for one account; None: the venue's general rate alone.
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names in lower case. The body may hold a secret and is not shown."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    #: As JSON; None where it is none, or longer than an answer of a venue is.
    body: Any = field(repr=False)


class UnansweredError(Exception):
    """No answer came. `sent` tells whether the request may have reached the venue."""

    def __init__(self, broken: Break, *, sent: bool) -> None:
        super().__init__(broken.words)
        self.reason = broken.words
        self.sent = sent
        self.fault = ExchangeFault.OUTCOME_UNKNOWN if sent else broken.fault
        self.todo = "" if sent else broken.todo


class CannotSignError(Exception):
    """The key could not sign the call; nothing was sent."""


class _TooLateError(Exception):
    """The time in which the call had to leave is over."""


class Wire:
    """Stands in for ccxt's session during one call: sends what ccxt signed, and keeps what came back.

    A redirect is not followed: signed headers are for the host that was asked. ccxt sees no body, so that
    it reads none: it would unpack and parse whatever comes, however long.
    """

    __slots__ = ("_departure", "_leave_by", "_session", "content", "headers", "sent", "status")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        leave_by: float | None = None,
        departure: Departure | None = None,
    ) -> None:
        self._session = session
        self._leave_by = leave_by
        self._departure = departure
        self.sent = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        #: The body's bytes; None where it cannot be had within bounds.
        self.content: bytes | None = None

    def get(self, url: Any, **options: Any) -> Any:
        """Send a GET as aiohttp's session would."""
        return self._send("GET", url, options)

    def post(self, url: Any, **options: Any) -> Any:
        """Send a POST as aiohttp's session would."""
        return self._send("POST", url, options)

    def left(self) -> None:
        """Note that the request may have reached the venue from now on."""
        self.sent = True
        if self._departure is not None:
            self._departure.left()

    @asynccontextmanager
    async def _send(self, method: str, url: Any, options: Mapping[str, Any]) -> AsyncIterator[_Silent]:
        # ccxt has signed and waited for its throttler: the call leaves now.
        if self._leave_by is not None and time.monotonic() >= self._leave_by:
            raise _TooLateError
        async with self._session.request(
            method, url, allow_redirects=False, trace_request_ctx=self, **options
        ) as response:
            self.status = response.status
            self.headers = {name.lower(): value for name, value in response.headers.items()}
            try:
                body = Body(VENUE_LIMIT, self.headers.get("content-encoding", ""))
                async for chunk in response.content.iter_any():
                    body.feed(chunk)
                self.content = body.whole()
            except BodyError:
                # What is still to come is not waited for.
                response.close()
            yield _Silent()


class _Silent:
    """The answer that ccxt gets to see."""

    status = 200
    reason = ""
    headers: Mapping[str, str] = MappingProxyType({})
    content = b""

    async def text(self, **_: Any) -> str:
        """Give no body."""
        return ""


class Quiet:
    """Mixed into a ccxt class: it judges nothing, keeps nothing and logs nothing of what it sends and gets.

    ccxt's own error classes carry the response body, its log the headers and bodies, its objects the last
    request and response. The driver judges instead, by code.
    """

    def sign(self, *args: Any, **kwargs: Any) -> Any:
        """Sign a call, or tell that this key cannot."""
        # Each library has errors of its own, and some quote the key.
        with suppress(Exception):
            return super().sign(*args, **kwargs)  # type: ignore[misc] # of the ccxt class it is mixed into
        raise CannotSignError

    def handle_errors(self, *_: Any) -> None:
        """Leave the judgement to the driver."""

    def handle_http_status_code(self, *_: Any) -> None:
        """Leave the judgement to the driver."""

    def set_last_request(self, _request: Any) -> None:
        """Keep nothing: a request can hold a passphrase."""

    def __del__(self) -> None:
        """Say nothing: the session is not ccxt's to close."""


class Client:
    """Sends signed calls to one venue for one account.

    Args:
        ccxt_id: the venue in ccxt.
        mixin: `Quiet`, or what a venue derives from it.
        url: another base URL of the API.
        testnet: take the venue's test environment.
        timeout: seconds to wait for an answer.
        rate_limit: keep to the venue's documented rates.
    """

    def __init__(
        self,
        ccxt_id: str,
        mixin: type[Quiet],
        *,
        url: str | None,
        testnet: bool,
        timeout: float,
        rate_limit: bool,
    ) -> None:
        exchange = copy.copy(_template(ccxt_id, mixin, testnet))  # type: ignore[arg-type] # a class is hashable
        exchange.init_throttler()
        exchange.timeout = round(timeout * 1000)
        exchange.enableRateLimit = rate_limit
        if url is not None:
            base = url.rstrip("/")
            exchange.urls = {**exchange.urls, "api": dict.fromkeys(exchange.urls["api"], base)}
        self._exchange = exchange
        self._idle: list[Any] = []
        self._rate_limit = rate_limit
        self._paces: dict[Endpoint, Pace] = {}
        self._reading: aiohttp.ClientSession | None = None
        self._changing: aiohttp.ClientSession | None = None

    async def await_turn(self, endpoint: Endpoint) -> None:
        """Wait until the endpoint may be called, and take that turn for a `send` with `within`."""
        if (pace := self._pace(endpoint)) is not None:
            await pace.turn()

    async def send(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Any],
        caller: Caller | None = None,
        within: float | None = None,
    ) -> Answer:
        """Make one call and give what came back, whatever it is.

        Args:
            endpoint: what to call.
            params: its parameters.
            caller: who signs.
            within: seconds in which the call must leave, ccxt's throttler included; its turn was taken.

        Raises:
            CannotSignError: the key cannot sign.
            UnansweredError: nothing came back.
        """
        leave_by = None if within is None else time.monotonic() + within
        if within is None:
            await self.await_turn(endpoint)
        if caller is not None and caller.egress_proxy and not usable_proxy(caller.egress_proxy):
            raise UnansweredError(UNUSABLE_PROXY, sent=False)
        pace = self._pace(endpoint)
        async with nullcontext() if pace is None else pace.departure() as departure:
            wire = Wire(self._session(changes=endpoint.changes), leave_by, departure)
            broken = await self._ask(endpoint, params, caller, wire)
        # Raised here and not above, so that no exception of ccxt, which quotes the URL, hangs on it.
        if broken is not None:
            raise UnansweredError(broken, sent=wire.sent)
        return Answer(wire.status, wire.headers, _parsed(wire.content))

    async def _ask(
        self, endpoint: Endpoint, params: Mapping[str, Any], caller: Caller | None, wire: Wire
    ) -> Break | None:
        """Make one call; say what broke it."""
        call = self._borrow()
        call.session = wire
        try:
            if caller is not None:
                _arm(call, caller)
            section = "private" if endpoint.private else "public"
            await call.request(endpoint.path, [section], endpoint.method, dict(params), {"cost": 1})
        except _TooLateError:
            return TOO_LATE
        except (BaseError, aiohttp.ClientError, OSError, ValueError, TypeError) as error:
            return what_broke(error, proxied=call.aiohttp_proxy is not None)
        finally:
            self.give_back(call)
        return None

    def _pace(self, endpoint: Endpoint) -> Pace | None:
        if not self._rate_limit or endpoint.per_second is None:
            return None
        if endpoint not in self._paces:
            self._paces[endpoint] = Pace(endpoint.per_second)
        return self._paces[endpoint]

    def borrow(self, caller: Caller) -> Any:
        """Give a ccxt object that signs as the caller; `give_back` it when done."""
        call = self._borrow()
        _arm(call, caller)
        return call

    def give_back(self, call: Any) -> None:
        """Take the key out of a borrowed object and keep it for another call."""
        call.apiKey = call.secret = call.password = ""
        call.aiohttp_proxy = call.last_request_headers = call.session = None
        self._idle.append(call)

    async def close(self) -> None:
        """Close the connections."""
        for session in (self._changing, self._reading):
            if session is not None:
                await session.close()
        self._changing = self._reading = None

    def _borrow(self) -> Any:
        return self._idle.pop() if self._idle else copy.copy(self._exchange)

    def _session(self, *, changes: bool) -> aiohttp.ClientSession:
        if self._reading is None or self._changing is None:
            secure = any(str(url).startswith("https:") for url in self._exchange.urls["api"].values())
            connector = aiohttp.TCPConnector(
                ssl=_trust() if secure else True, keepalive_timeout=_KEEP_ALIVE_SECONDS
            )
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_note_sent)
            self._reading = _new_session(connector, trace, owner=True)
            self._changing = _new_session(connector, trace, owner=False)
            # aiohttp repeats a GET whose connection broke, and Deribit creates keys by GET: two keys.
            self._changing._retry_connection = False  # noqa: SLF001 - aiohttp has no public switch
        return self._changing if changes else self._reading


def _new_session(
    connector: aiohttp.TCPConnector, trace: aiohttp.TraceConfig, *, owner: bool
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        connector_owner=owner,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[trace],
        # Unpacked within bounds by `Body`.
        auto_decompress=False,
    )


def _parsed(content: bytes | None) -> Any:
    try:
        return read_json(content or b"")
    except BodyError:
        return None


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.left()


def _arm(call: Any, caller: Caller) -> None:
    values = caller.material.reveal()
    call.apiKey = values["api_key"]
    call.secret = values["secret"]
    call.password = values.get("passphrase")
    call.aiohttp_proxy = caller.egress_proxy


@cache
def _trust() -> ssl.SSLContext:
    # The same roots that ccxt takes; one context for all drivers, since loading them takes 20 ms.
    try:
        return ssl.create_default_context(cafile=certifi.where())
    except OSError:  # ssl.SSLError is one, too
        raise UnansweredError(NO_ROOTS, sent=False) from None


@cache
def _template(ccxt_id: str, mixin: type[Quiet], testnet: bool) -> Any:
    """Build a venue's ccxt object once; drivers and calls take shallow copies."""
    exchange = type(f"quiet_{ccxt_id}", (mixin, venue_class(ccxt_id)), {})(
        {
            "enableLastHttpResponse": False,
            "enableLastJsonResponse": False,
            "enableLastResponseHeaders": False,
            "returnResponseHeaders": False,
            "verbose": False,
            "logger": _SILENCE,
            # Not None, or each copy would load root certificates: the session has its own context.
            "ssl_context": False,
        }
    )
    exchange.options["maxRetriesOnFailure"] = 0
    if testnet:
        exchange.set_sandbox_mode(True)
    return exchange
