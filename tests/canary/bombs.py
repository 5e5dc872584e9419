"""Failures at any port call of a flow run, each with a secret wherever an exception can carry one.

Two families. What keyturn's adapters raise is clean by contract (texts of codes and ids), so the secret
hangs on it as cause, context, note and attribute. What nobody expected (a bug, a library's error) quotes the
secret in its own text. The secret is a real one: of the key that the call was made with or has made.
"""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import ccxt
import sqlalchemy.exc
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import BaseModel, ValidationError
from yarl import URL

from keyturn import wiring
from keyturn.domain.errors import (
    ConsumerError,
    ConsumerFault,
    ExchangeError,
    ExchangeFault,
    JournalError,
    JournalFault,
    RefusedError,
    StoreError,
    StoreFault,
)
from keyturn.domain.material import SecretMaterial
from keyturn.engine import sweep
from keyturn.testing.crash import CHANGING

#: Ends the process.
Die = Callable[[], Awaitable[None]]
#: A failure that begins with this is met by the store's own adapter, at a gate of `remote`.
WIRE = "wire "


class PanicError(BaseException):
    """What a library written in Rust raises when it panics: no `Exception` (pyo3's PanicException)."""


class StubbornError(Exception):
    """An exception that cannot be pickled, and whose repr tells everything."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text, self.lock = text, asyncio.Event()

    def __reduce__(self) -> Any:
        raise TypeError(self.text)


class _Model(BaseModel):
    secret: int


def _validation(text: str) -> Exception:
    try:
        _Model.model_validate({"secret": text})
    except ValidationError as error:
        return error
    raise AssertionError


def _chained(text: str) -> Exception:
    outer = RuntimeError(f"while handling {text}")
    outer.__context__ = KeyError(text)
    outer.__cause__ = OSError(errno.EIO, text)
    outer.add_note(f"the request was {text}")
    return outer


def _interrupted(text: str) -> BaseException:
    """Give a cancellation that arrives while another error is on its way out."""
    cancelled = asyncio.CancelledError()
    cancelled.__context__ = ccxt.AuthenticationError(f"bybit {text}")
    return cancelled


def _answered(text: str) -> Exception:
    headers = CIMultiDictProxy(CIMultiDict({"OK-ACCESS-PASSPHRASE": text}))
    request = aiohttp.RequestInfo(URL("http://127.0.0.1/").with_query(key=text), "POST", headers)
    return aiohttp.ClientResponseError(request, (), status=400, message=text)


#: What nobody expected.
SURPRISES: dict[str, Callable[[str], BaseException]] = {
    "KeyError": KeyError,
    "ValueError": lambda text: ValueError("not a number", text, {"secret": text}),
    "AssertionError": AssertionError,
    "chain": _chained,
    "pydantic": _validation,
    "ccxt refusal": lambda text: ccxt.AuthenticationError(f'bybit {{"retCode": 0, "secret": "{text}"}}'),
    "ccxt network": lambda text: ccxt.RequestTimeout(f"okx POST https://127.0.0.1/?secret={text}"),
    "ccxt exchange": lambda text: ccxt.ExchangeError(f"deribit {text}"),
    "aiohttp answer": _answered,
    "aiohttp payload": lambda text: aiohttp.ClientPayloadError(f"incomplete: {text}"),
    "OSError": lambda text: OSError(errno.ENOENT, "No such file or directory", text),
    "timeout": lambda text: TimeoutError(f"no answer to {text}"),
    "JSON": lambda text: json.JSONDecodeError(f"Expecting value in {text}", text, 0),
    "unicode": lambda text: UnicodeDecodeError("utf-8", text.encode(), 0, 1, text),
    "SQL": lambda text: sqlalchemy.exc.StatementError(text, "INSERT INTO t VALUES (?)", {"x": text}, None),
    "command": lambda text: subprocess.CalledProcessError(1, ["curl", text], text, text),
    "group": lambda text: ExceptionGroup(text, [ValueError(text), _chained(text)]),
    "unpicklable": StubbornError,
    "panic": PanicError,
    "cancelled": _interrupted,
}


def _family(error: type[Any], faults: Any) -> dict[str, Callable[[str], BaseException]]:
    def maker(fault: Any) -> Callable[[str], BaseException]:
        return lambda text: _soiled(error(fault, f"injected: {fault}.", todo="Do nothing."), text)

    return {f"{error.__name__} {fault}": maker(fault) for fault in faults}


def _soiled(error: Exception, text: str) -> Exception:
    """Hang a secret on an error that is clean in its own words."""
    error.__cause__, error.__context__ = ccxt.AuthenticationError(text), KeyError(text)
    error.add_note(text)
    error.__dict__["response"] = text
    return error


#: Port -> what its contract allows it to raise.
FAULTS: dict[str, dict[str, Callable[[str], BaseException]]] = {
    "exchange": _family(ExchangeError, ExchangeFault),
    "store": _family(StoreError, StoreFault),
    "consumer": _family(ConsumerError, ConsumerFault),
    "journal": {
        **_family(JournalError, JournalFault),
        "RefusedError": lambda text: _soiled(RefusedError("injected."), text),
    },
}
#: Every failure by name, whatever the port.
KINDS = SURPRISES | {name: make for family in FAULTS.values() for name, make in family.items()}


@dataclass
class Plan:
    """What shall happen to the port calls of one flow run."""

    #: Number of the call, from 0 -> the name of the failure; `kill` ends the process.
    at: dict[int, str] = field(default_factory=dict)
    #: Or every call of this `port.method`.
    always: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)

    def next(self, call: str) -> str | None:
        """Count a call and give the failure that it meets."""
        number = len(self.calls)
        self.calls.append(call)
        kind = self.at.get(number) or self.always.get(call)
        if kind:
            self.met.append(f"{call}: {kind}")
        return kind


#: The plan of the flow run that goes on in this context.
plan: ContextVar[Plan | None] = ContextVar("plan", default=None)


def secrets_in(value: object) -> Iterator[str]:
    """Give the secret values of whatever a port takes or gives."""
    if isinstance(value, SecretMaterial):
        values = value.reveal()
        yield from (text for name, text in values.items() if name != "api_key")
    elif material := getattr(value, "material", None):
        yield from secrets_in(material)


class Wrapped:
    """A port whose calls may fail."""

    def __init__(
        self,
        port: str,
        target: Any,
        canary: str,
        die: Die,
        behind: Callable[[str], Any] = lambda gate: None,
    ) -> None:
        self._port, self._target, self._canary, self._die = port, target, canary, die
        #: Gives the same store as it is seen through a gate.
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(value) or name in {"close", "check"}:
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            current = plan.get()
            kind = current.next(f"{self._port}.{name}") if current else None
            if kind is None:
                return await value(*args, **kwargs)
            if kind.startswith(WIRE):
                return await getattr(self._behind(kind.removeprefix(WIRE)), name)(*args, **kwargs)
            known = [s for arg in (*args, *kwargs.values()) for s in secrets_in(arg)]
            if kind == "kill" or name in {"create_key", "read"} or name not in CHANGING.get(self._port, ()):
                # After the effect: the secret that the call has made or fetched is in hand.
                known += secrets_in(await value(*args, **kwargs))
            if kind == "kill":
                await self._die()
            raise KINDS[kind](" and ".join([*known, self._canary]))

        return call


class _Adapters:
    def __init__(self, adapters: Any, canary: str, die: Die) -> None:
        self._adapters, self._rest = adapters, (canary, die)

    def driver(self, account: str) -> Any:
        return Wrapped("exchange", self._adapters.driver(account), *self._rest)

    def store(self, name: str) -> Any:
        def behind(gate: str) -> Any:
            return self._adapters.store(f"{name}-{gate}")

        return Wrapped("store", self._adapters.store(name), *self._rest, behind)

    def consumer(self, name: str, credential: str) -> Any:
        return Wrapped("consumer", self._adapters.consumer(name, credential), *self._rest)


class _Clock:
    """A clock that fails in the hands of a flow, outside of every task."""

    def __init__(self, clock: Any, canary: str) -> None:
        self._clock, self._canary = clock, canary

    def now(self) -> Any:
        current = plan.get()
        if current and (kind := current.always.get("clock.now")) and current.calls:
            current.met.append(f"clock.now: {kind}")
            raise KINDS[kind](self._canary)
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def plan_items() -> dict[str, Plan]:
    """Let a sweep work on each credential under the plan that the mapping given here has for it."""
    plans: dict[str, Plan] = {}
    whole = sweep.do

    async def do(engine: Any, item: sweep.WorkItem, **more: Any) -> sweep.Outcome:
        plan.set(plans.get(item.credential))
        return await whole(engine, item, **more)

    sweep.do = do
    return plans


def lay(canary: str, die: Die) -> None:
    """Put the failures between every world that this process opens and its ports."""
    whole = wiring.open_world

    @asynccontextmanager
    async def open_world(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        current = plan.get()
        if current and (kind := current.always.get("open")):
            current.met.append(f"open: {kind}")
            raise KINDS[kind](canary)
        async with whole(*args, **{"rate_limit": False} | kwargs) as world:
            yield replace(
                world,
                adapters=_Adapters(world.adapters, canary, die),
                journal=Wrapped("journal", world.journal, canary, die),
                clock=_Clock(world.clock, canary),
            )

    wiring.open_world = open_world
