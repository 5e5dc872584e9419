"""Say which faults a simulated exchange shall show, and hand them out call by call, counted.

Nothing is random: a fault fires on the calls that it matches, after ``skip`` of them, ``times`` times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FaultKind(StrEnum):
    """What can go wrong with one call."""

    LATENCY = "latency"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    HANG = "hang"
    SLOW_PROPAGATION = "slow_propagation"
    STALE_LIST = "stale_list"
    QUOTA_REACHED = "quota_reached"
    CLOCK_SKEW = "clock_skew"
    SECOND_FACTOR = "second_factor"


# At most one of these decides a call; a second one waits for the next matching call.
_DECIDING = frozenset(
    {
        FaultKind.RATE_LIMITED,
        FaultKind.SERVER_ERROR,
        FaultKind.CUT_BEFORE,
        FaultKind.CUT_AFTER,
        FaultKind.HANG,
        FaultKind.QUOTA_REACHED,
        FaultKind.SECOND_FACTOR,
    }
)
_MAY_COME_AFTER = frozenset({FaultKind.LATENCY, FaultKind.HANG, FaultKind.SERVER_ERROR})


class Fault(BaseModel):
    """One fault on demand.

    ``match`` is a part of ``"METHOD /path"`` (empty: every call); ``key_ref`` narrows it to one caller.
    ``times`` is how often it fires (``None``: until it is removed), after ``skip`` matching calls passed.

    ``seconds`` is the delay of ``latency``, how long ``hang`` holds the call before it cuts the connection,
    how long ``slow_propagation`` keeps the old state in force, how old the answer of ``stale_list`` is, and
    how far the server's clock is off for ``clock_skew`` (positive: the server is ahead). ``changes`` makes
    ``stale_list`` answer as before the last so many changes of the account instead.

    ``status`` is the HTTP status of ``server_error`` and ``rate_limited``, where the default does not fit.
    ``after_effect`` lets ``latency``, ``hang`` and ``server_error`` happen when the effect is already done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    match: str = ""
    key_ref: str | None = None
    times: int | None = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)
    seconds: float = 0.0
    changes: int = Field(default=0, ge=0)
    status: int | None = Field(default=None, ge=400, le=599)
    after_effect: bool = False

    @model_validator(mode="after")
    def _only_some_come_after_the_effect(self) -> Self:
        if self.after_effect and self.kind not in _MAY_COME_AFTER:
            raise ValueError(f"after_effect does not go with {self.kind.value}")
        return self


@dataclass(slots=True)
class Faults:
    """The faults of one call."""

    decides: Fault | None = None
    delay_before_s: float = 0.0
    delay_after_s: float = 0.0
    propagation_ms: int = 0
    stale: Fault | None = None
    skew_ms: int = 0

    def decided_by(self, kind: FaultKind) -> Fault | None:
        """Return the deciding fault if it is of this kind."""
        return self.decides if self.decides is not None and self.decides.kind is kind else None


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None
    skip: int


_NO_FAULTS = Faults()


class FaultPlan:
    """The faults that are still to come, in the order in which they were added."""

    def __init__(self, unsupported: frozenset[FaultKind] = frozenset()) -> None:
        self._armed: list[_Armed] = []
        self._unsupported = unsupported

    def add(self, *faults: Fault) -> None:
        """Arm faults.

        Raises:
            ValueError: this exchange has no such behaviour (a second factor where no API call asks for one).
        """
        for fault in faults:
            if fault.kind in self._unsupported:
                raise ValueError(f"this exchange never answers an API call with {fault.kind.value}")
            self._armed.append(_Armed(fault, fault.times, fault.skip))

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def pending(self) -> list[Fault]:
        """Return the faults that will still fire, with ``times`` and ``skip`` as they stand now."""
        return [
            armed.fault.model_copy(update={"times": armed.left, "skip": armed.skip}) for armed in self._armed
        ]

    def take(self, call: str, key_ref: str | None) -> Faults:
        """Use up and return the faults for one call, given as ``"METHOD /path"``."""
        if not self._armed:
            return _NO_FAULTS
        taken = Faults()
        for armed in list(self._armed):
            fault = armed.fault
            if fault.match not in call or (fault.key_ref is not None and fault.key_ref != key_ref):
                continue
            if fault.kind in _DECIDING and taken.decides is not None:
                continue
            if armed.skip:
                armed.skip -= 1
                continue
            self._use_up(armed)
            _apply(fault, taken)
        return taken

    def _use_up(self, armed: _Armed) -> None:
        if armed.left is None:
            return
        armed.left -= 1
        if not armed.left:
            self._armed.remove(armed)


def _apply(fault: Fault, taken: Faults) -> None:
    match fault.kind:
        case FaultKind.LATENCY if fault.after_effect:
            taken.delay_after_s += fault.seconds
        case FaultKind.LATENCY:
            taken.delay_before_s += fault.seconds
        case FaultKind.SLOW_PROPAGATION:
            taken.propagation_ms = max(taken.propagation_ms, round(fault.seconds * 1000))
        case FaultKind.STALE_LIST:
            taken.stale = fault
        case FaultKind.CLOCK_SKEW:
            taken.skew_ms += round(fault.seconds * 1000)
        case _:
            taken.decides = fault
