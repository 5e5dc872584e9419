"""The crash injector: every port call of the engine, and what can go wrong around it.

`Tracer.wrap` puts itself between the engine and a port. It records each call as a row (the state of
the rotation, the port, the method) and can make one call of a run end badly:

* `BEFORE`: the process dies before the call has any effect;
* `AFTER`: the call has its effect, and the process dies before it learns of it;
* `UNKNOWN_DONE`, `UNKNOWN_NOT_DONE`: the caller is told that the outcome is unknown, and the effect
  happened or did not;
* `FAILED`: the caller is told that nothing happened, and nothing did.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keyturn.domain.errors import (
    ConsumerError,
    ConsumerFault,
    ExchangeError,
    ExchangeFault,
    JournalError,
    JournalFault,
    KeyturnError,
    StoreError,
    StoreFault,
)


class Killed(BaseException):
    """The process is gone."""


class Mishap(StrEnum):
    """How a call ends badly."""

    BEFORE = "before"
    AFTER = "after"
    UNKNOWN_DONE = "unknown, and done"
    UNKNOWN_NOT_DONE = "unknown, and not done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One port call, as the crash suite names it."""

    state: str
    port: str
    method: str

    def __str__(self) -> str:
        return f"{self.state}: {self.port}.{self.method}"

    @property
    def changes(self) -> bool:
        """Whether the call changes something outside."""
        return self.method in CHANGING.get(self.port, ())


#: The methods that change something outside; the others only look.
CHANGING = {
    "exchange": {"create_key", "edit_key", "revoke_key"},
    "store": {"claim", "stage", "promote", "restore_previous", "discard", "put", "vacate", "spread"},
    "mirror": {"put", "discard", "vacate", "spread"},
    "journal": {"open", "commit", "record_keys", "record_findings"},
    "consumer": {"notify", "request_probe"},
}
# A call that only looks has no effect: to die before it is to die after it, and no outcome of it is unknown.
_OF_A_LOOK = (Mishap.BEFORE, Mishap.FAILED)
_STORES = frozenset({"store", "mirror"})
_IGNORED = {"grants_for", "close", "check"}


def shape(row: Row) -> tuple[Mishap, ...]:
    """Give the mishaps at a call that leave different worlds, or tell the engine different things."""
    return tuple(Mishap) if row.changes else _OF_A_LOOK


def failure(port: str, method: str, mishap: Mishap) -> KeyturnError:
    """Build the error that a port gives for a mishap that the caller survives."""
    unknown = mishap in {Mishap.UNKNOWN_DONE, Mishap.UNKNOWN_NOT_DONE} and method in CHANGING[port]
    what = f"injected: {port}.{method}: {mishap}."
    if port == "exchange":
        return ExchangeError(ExchangeFault.OUTCOME_UNKNOWN if unknown else ExchangeFault.VENUE_DOWN, what)
    if port in {"store", "mirror"}:
        return StoreError(StoreFault.OUTCOME_UNKNOWN if unknown else StoreFault.UNAVAILABLE, what)
    if port == "consumer":
        return ConsumerError(ConsumerFault.OUTCOME_UNKNOWN if unknown else ConsumerFault.UNREACHABLE, what)
    return JournalError(JournalFault.OUTCOME_UNKNOWN if unknown else JournalFault.UNAVAILABLE, what)


class Tracer:
    """Counts the port calls of a run and lets one of them end badly."""

    def __init__(self, state: Callable[[], str], *, check: Callable[[], None] = lambda: None) -> None:
        self._state = state
        self._check = check
        self.rows: list[Row] = []
        self.at: int | None = None
        self.mishap: Mishap | None = None
        #: What happens in place of `Killed`; a test with real processes sends SIGKILL.
        self.die: Callable[[], None] | None = None

    def arm(self, at: int, mishap: Mishap) -> None:
        """Let the call number `at` (from 0, counted from now) end badly."""
        self.rows, self.at, self.mishap = [], at, mishap

    def disarm(self) -> None:
        """Let everything go well from here."""
        self.at = self.mishap = None

    def wrap(self, port: str, target: Any) -> Any:
        """Put the tracer between the engine and a port."""
        return _Wrapped(self, port, target)

    async def call(self, port: str, method: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Make a traced call."""
        number = len(self.rows)
        row = Row(self._state(), port, method)
        self.rows.append(row)
        mishap = self.mishap if number == self.at else None
        if mishap is Mishap.BEFORE:
            self._die()
        if mishap in {Mishap.FAILED, Mishap.UNKNOWN_NOT_DONE}:
            raise failure(port, method, mishap)
        result = await effect()
        # A look at a store may be one that repairs; no other look can change what the check is about.
        if row.changes or port in _STORES:
            self._check()
        if mishap is Mishap.AFTER:
            self._die()
        if mishap is Mishap.UNKNOWN_DONE:
            raise failure(port, method, mishap)
        return result

    def _die(self) -> None:
        if self.die:
            self.die()
        raise Killed


class _Wrapped:
    def __init__(self, tracer: Tracer, port: str, target: Any) -> None:
        self._tracer, self._port, self._target = tracer, port, target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name in _IGNORED or not inspect.iscoroutinefunction(value):
            return value

        async def traced(*args: Any, **kwargs: Any) -> Any:
            return await self._tracer.call(
                self._port, name, lambda: getattr(self._target, name)(*args, **kwargs)
            )

        self.__dict__[name] = traced
        return traced
