"""Who goes on next, how late an answer comes, and what breaks: decided at every port call, by a seed.

Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): each process has a priority, the highest
that can go on does, and at a few points of the run, drawn beforehand, something happens: the process at hand
falls behind all others, or sleeps, or dies, or its call is lost on the way there or back. Runs between these
points are long, because races want one worker to get far while another stands still.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
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
from keyturn.testing.crash import CHANGING, Mishap, failure

from .loop import Loop, at_once
from .world import SimulatedWorld, ViolationError

#: A call takes this long where nothing makes it late.
_CALL = timedelta(milliseconds=20)
# A run that takes more calls than this does not come to an end by itself.
_MOST_STEPS = 20_000


class Kind(StrEnum):
    """What can happen at a point."""

    YIELD = "falls behind"
    SLEEP_BEFORE = "sleeps before it"
    SLEEP_AFTER = "done; sleeps before the answer"
    LOST_DONE = "done; answer lost"
    LOST_NOT_DONE = "lost on the way"
    FAILED = "failed"
    REFUSED = "refused"
    DIE_BEFORE = "dies before it"
    DIE_AFTER = "done; dies"
    STALE = "an old list"
    START = "starts"


@dataclass(frozen=True)
class Point:
    """Something that is to happen at a step of the run."""

    step: int
    kind: Kind
    #: How long a sleep takes; also after a lost answer, which the caller learns of by a time-out.
    seconds: float = 0.0
    #: Waits for a call that changes something.
    changing: bool = False
    #: Chooses among several faults.
    draw: int = 0
    #: For START: the process that begins.
    process: str = ""
    #: What befalls the same call when its process wakes up.
    then: Kind | None = None


@dataclass(eq=False)
class Process:
    """A process: a worker, a command line, a person."""

    name: str
    priority: int
    task: asyncio.Task[Any] | None = None
    alive: bool = True


@dataclass(eq=False)
class Call:
    """A port call that waits for its turn, or whose answer does."""

    process: Process
    port: str
    method: str
    args: tuple[Any, ...]
    effect: Callable[[], Coroutine[Any, Any, Any]] | None
    future: asyncio.Future[Any]
    at: datetime
    then: Point | None = None
    answered: bool = False
    answer: Any = None
    error: BaseException | None = None

    @property
    def changes(self) -> bool:
        return self.method in CHANGING.get(self.port, ())


@dataclass
class Scheduler:
    """Runs processes over a world."""

    fake: SimulatedWorld
    points: list[Point]
    start: Callable[[str], None] = lambda process: None
    loop: Loop = field(default_factory=Loop)
    waiting: list[Call] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    trace: list[tuple[float, str, str, str]] = field(default_factory=list)
    steps: int = 0
    _lowest: int = 0

    def __post_init__(self) -> None:
        self._began = self.fake.clock.now()
        self._due = sorted(self.points, key=lambda p: p.step, reverse=True)
        self._armed: list[Point] = []

    # -- processes ---------------------------------------------------------------------------

    def spawn(self, name: str, priority: int, body: Callable[[Process], Coroutine[Any, Any, Any]]) -> Process:
        """Start a process."""
        process = Process(name, priority)
        process.task = self.loop.create_task(body(process))
        self.processes.append(process)
        return process

    def wrap(self, process: Process, port: str, target: Any) -> Any:
        """Give a port whose every call waits for its turn."""
        return _Gate(self, process, port, target)

    async def ask(
        self,
        process: Process,
        port: str,
        method: str,
        args: tuple[Any, ...] = (),
        effect: Callable[[], Coroutine[Any, Any, Any]] | None = None,
        at: datetime | None = None,
    ) -> Any:
        """Wait for a call's turn, and for its answer."""
        future = self.loop.create_future()
        if process.alive:
            now = self.fake.clock.now()
            self.waiting.append(Call(process, port, method, args, effect, future, at or now))
        return await future

    def kill(self, process: Process) -> None:
        """End a process: it learns nothing, and cleans nothing up."""
        process.alive = False
        self.waiting = [call for call in self.waiting if call.process is not process]

    def calm(self) -> None:
        """Let nothing happen any more; what sleeps wakes up in its time."""
        self._due, self._armed = [], []

    # -- the run -----------------------------------------------------------------------------

    def run(self, most: int) -> None:
        """Let the processes go on until each has ended, or for so many steps more.

        Raises:
            ViolationError: a rule does not hold.
        """
        until = self.steps + most
        self._settle()
        while self.waiting and self.steps < until:
            self._step()
            self._settle()
        if self.steps >= _MOST_STEPS:
            raise ViolationError("rest", f"{self.steps} calls, and no end")

    def _settle(self) -> None:
        """Let every process come to its next call, and look at those that ended."""
        self.loop.drain()
        for process in self.processes:
            task = process.task
            if task is not None and task.done():
                process.task = None
                error = None if task.cancelled() else task.exception()
                if isinstance(error, ViolationError):
                    raise error
                if error is not None and process.alive:
                    raise ViolationError("own mistakes", f"{process.name}: {error!r}") from error
                process.alive = False

    def _step(self) -> None:
        self.steps += 1
        while self._due and self._due[-1].step <= self.steps:
            point = self._due.pop()
            if point.kind is Kind.START:
                self._note(point.process, "", point.kind)
                self.start(point.process)
            else:
                self._armed.append(point)
        call = self._choose()
        if call.answered:
            self._deliver(call)
            return
        point = self._point_for(call)
        if point is None:
            self._carry(call)
            self._deliver(call)
        else:
            self._befall(call, point)

    def _choose(self) -> Call:
        """Give the call of the process that goes on: the highest priority that is not asleep."""
        now = self.fake.clock.now()
        ready = [call for call in self.waiting if call.at <= now]
        if not ready:
            self.fake.clock.travel_to(min(call.at for call in self.waiting))
            return self._choose()
        return max(ready, key=lambda call: call.process.priority)

    def _point_for(self, call: Call) -> Point | None:
        if call.then is not None:
            point, call.then = call.then, None
            return point
        for point in self._armed:
            suits = call.changes or not point.changing
            if point.kind is Kind.STALE:
                suits = call.method == "list_keys"
            if suits and call.effect is not None:
                self._armed.remove(point)
                return point
        return None

    def _carry(self, call: Call) -> None:
        """Let a call have its effect, and look whether the world is still in order."""
        self.fake.clock._now += _CALL
        if call.effect is None:
            call.answered = True
            return
        if call.method == "revoke_key":
            self._judge_revoke(call)
        try:
            call.answer = at_once(call.effect())
        except KeyturnError as error:
            call.error = error
        call.answered = True
        self._note(call.process.name, f"{call.port}.{call.method}", call.error.fault if call.error else "")
        if call.changes:
            # What the judge looks at is as it was after a call that only looks.
            self.fake.judge_call()

    def _judge_revoke(self, call: Call) -> None:
        try:
            self.fake.judge_revoke(call.args[1].key_ref)
        except ViolationError:
            self._note(call.process.name, f"{call.port}.{call.method}", "has no licence")
            raise

    def _deliver(self, call: Call) -> None:
        self.waiting.remove(call)
        if call.future.done():
            return
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.answer)

    def _befall(self, call: Call, point: Point) -> None:
        kind, now = point.kind, self.fake.clock.now()
        late = now + timedelta(seconds=point.seconds)
        what = f"{kind} {point.seconds:g} s" if point.seconds else str(kind)
        self._note(call.process.name, f"{call.port}.{call.method}", what)
        if kind in {Kind.YIELD, Kind.SLEEP_BEFORE, Kind.SLEEP_AFTER}:
            self._lowest -= 1
            call.process.priority = self._lowest
        if kind is Kind.YIELD:
            return
        if kind is Kind.SLEEP_BEFORE:
            call.at = late
            call.then = Point(point.step, point.then) if point.then else None
            return
        if kind is Kind.DIE_BEFORE:
            self.kill(call.process)
            return
        if kind is Kind.STALE:
            self._serve_stale_list()
        if kind in {Kind.SLEEP_AFTER, Kind.LOST_DONE, Kind.DIE_AFTER, Kind.STALE}:
            self._carry(call)
        if kind is Kind.DIE_AFTER:
            self.kill(call.process)
            return
        self._answer(call, point)
        if point.seconds:
            call.at = late
        else:
            self._deliver(call)

    def _answer(self, call: Call, point: Point) -> None:
        """Put in place of the answer what the caller gets to hear."""
        mishap = {
            Kind.LOST_DONE: Mishap.UNKNOWN_DONE,
            Kind.LOST_NOT_DONE: Mishap.UNKNOWN_NOT_DONE,
            Kind.FAILED: Mishap.FAILED,
        }.get(point.kind)
        if mishap is not None:
            call.error = failure(call.port, call.method, mishap)
        elif point.kind is Kind.REFUSED:
            call.error = refusal(call.port, point.draw)
        call.answered = True

    def _serve_stale_list(self) -> None:
        """Let the list be out of date, for as long as a venue may take."""
        newest = max((k.created_at for k in self.fake.exchange.truth().values()), default=None)
        if newest and self.fake.clock.now() - newest < timedelta(seconds=30):
            self.fake.exchange.serve_stale_list()

    def _note(self, who: str, call: str, what: Any) -> None:
        at = (self.fake.clock.now() - self._began).total_seconds()
        self.trace.append((at, who, call, str(what)))


_REFUSALS: dict[str, tuple[type[KeyturnError], tuple[Any, ...]]] = {
    "exchange": (
        ExchangeError,
        (
            ExchangeFault.RATE_LIMITED,
            ExchangeFault.MISSING_PERMISSION,
            ExchangeFault.REJECTED,
            ExchangeFault.KEY_QUOTA,
            ExchangeFault.WRONG_IP,
        ),
    ),
    "store": (StoreError, (StoreFault.DENIED, StoreFault.MISCONFIGURED, StoreFault.NO_SPACE)),
    "journal": (JournalError, (JournalFault.UNAVAILABLE, JournalFault.NO_SPACE)),
    "consumer": (ConsumerError, (ConsumerFault.REFUSED, ConsumerFault.MISCONFIGURED)),
}


def refusal(port: str, draw: int) -> KeyturnError:
    """Build the error of a call that had no effect, and was understood."""
    kind, faults = _REFUSALS["store" if port == "mirror" else port]
    fault = faults[draw % len(faults)]
    return kind(fault, f"simulated: {port} says {fault}.")  # type: ignore[call-arg, arg-type]


@lru_cache
def _is_call(kind: type, name: str) -> bool:
    return inspect.iscoroutinefunction(getattr(kind, name, None))


class _Gate:
    def __init__(self, scheduler: Scheduler, process: Process, port: str, target: Any) -> None:
        self._scheduler, self._process, self._port, self._target = scheduler, process, port, target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not _is_call(type(self._target), name):
            return value

        async def gated(*args: Any, **kwargs: Any) -> Any:
            return await self._scheduler.ask(
                self._process, self._port, name, args, lambda: value(*args, **kwargs)
            )

        self.__dict__[name] = gated
        return gated


class Time:
    """A process's clock: it waits for its turn, too."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler, self._process = scheduler, process

    def now(self) -> datetime:
        return self._scheduler.fake.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self.until(self.now() + timedelta(seconds=seconds))

    async def until(self, moment: datetime) -> None:
        await self._scheduler.ask(self._process, "clock", "sleep", at=moment)
