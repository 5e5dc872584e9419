"""Moving one rotation on while a person watches: how long to wait, when to stop, what to say at the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from keyturn.cli import session, shapes
from keyturn.cli.codes import ExitCode
from keyturn.cli.output import Out, clock, complain
from keyturn.cli.progress import Show
from keyturn.domain.rotation import Rotation, State

if TYPE_CHECKING:
    from keyturn.engine.engine import Engine, Progress
    from keyturn.settings import LoadedInventory

# A rest longer than this is no matter of patience (a grace period, a long back-off): the sweep takes over. So
# is a failure that stays in the way as long: the person is told what is true and what to do.
_LONGEST_REST = timedelta(minutes=1)
# Consumers that take longer than this to confirm are restarted by people; nobody watches a spinner for it.
_PATIENCE = timedelta(minutes=10)


class Outcome(StrEnum):
    """Where a command left a rotation."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    #: It goes on by itself at a known time, as planned.
    WAITING = "waiting"
    #: A failure is in the way; it is tried again.
    IN_THE_WAY = "in_the_way"
    PARKED = "parked"
    INTERRUPTED = "interrupted"


_CODES = {
    Outcome.COMPLETED: ExitCode.OK,
    Outcome.WAITING: ExitCode.OK,
    Outcome.IN_THE_WAY: ExitCode.IN_THE_WAY,
    Outcome.PARKED: ExitCode.NEEDS_A_PERSON,
    Outcome.INTERRUPTED: ExitCode.INTERRUPTED,
}


@dataclass(frozen=True, slots=True)
class _Left:
    """How a command left a rotation."""

    progress: Progress
    interrupted: bool
    #: What is true after it was undone; empty otherwise.
    undone: str


class Patience:
    """How long a command waits in place for one rotation."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._since = self._well = datetime.min.replace(tzinfo=UTC)

    def ends(self, rotation: Rotation, until: datetime, now: datetime) -> bool:
        """Tell whether a rest until then is the sweep's: it, or what is in the way, has lasted long enough.

        Asked at each rest, in the order in which they come.
        """
        if rotation.state is not self._state:
            self._state, self._since, self._well = rotation.state, now, now
        if not rotation.failures:
            self._well = now
        parked = rotation.state is State.PARKED
        return parked or until > self._well + _LONGEST_REST or now > self._since + _PATIENCE


def outcome_of(rotation: Rotation) -> Outcome:
    """Say where a rotation that rests has been left."""
    if rotation.state is State.PARKED:
        return Outcome.PARKED
    if not rotation.is_open:
        return Outcome.COMPLETED if rotation.state is State.COMPLETED else Outcome.ABORTED
    return Outcome.IN_THE_WAY if rotation.failures else Outcome.WAITING


def conduct(
    out: Out,
    loaded: LoadedInventory,
    begin: Callable[[Engine], Awaitable[Rotation]],
    *,
    wait: bool,
    undoing: bool = False,
) -> ExitCode:
    """Begin something and see it as far as it goes; tell the end.

    Args:
        out: where to tell it.
        loaded: the inventory.
        begin: records what the person asked for, and gives the rotation to move on.
        wait: wait in place for rests that are short.
        undoing: the person asked for a way back, so that ABORTED is what they wanted.

    Raises:
        KeyturnError: it could not be recorded.
    """
    left = session.run(_conduct(out, loaded, begin, wait=wait))
    outcome = Outcome.INTERRUPTED if left.interrupted else outcome_of(left.progress.rotation)
    out.document(document(left.progress, outcome))
    _tell(out, left, outcome)
    if outcome is Outcome.ABORTED:
        return ExitCode.OK if undoing else ExitCode.UNDONE
    return _CODES[outcome]


def document(progress: Progress, outcome: Outcome) -> dict[str, Any]:
    """Give the result for programs."""
    return {
        "outcome": str(outcome),
        "waiting_for": progress.rest.waiting_for if progress.rest and progress.rotation.is_open else "",
        "resume_at": shapes.when(progress.wake_at),
        "rotation": shapes.rotation(progress.rotation),
    }


async def _conduct(
    out: Out, loaded: LoadedInventory, begin: Callable[[Engine], Awaitable[Rotation]], *, wait: bool
) -> _Left:
    from keyturn.engine.aftermath import aftermath
    from keyturn.engine.engine import Engine

    async with session.world(loaded) as world:
        engine, show = Engine(world), Show(out, loaded.inventory)
        with _first_interrupt() as stop:
            rotation = await begin(engine)
            with show.live(f"{rotation.credential}: rotation {rotation.id}"):
                show.opened(rotation)
                progress = await _advance(engine, rotation.id, show, stop, wait=wait)
        # What had come to its end when Ctrl-C arrived was not interrupted.
        over = progress.rest is not None and progress.wake_at is None
        undone = progress.rotation.state is State.ABORTED
        now = await aftermath(world, progress.rotation) if undone else ""
        return _Left(progress, stop.is_set() and not over, now)


async def _advance(
    engine: Engine, rotation_id: str, show: Show, stop: asyncio.Event, *, wait: bool
) -> Progress:
    now = engine.world.clock.now
    patience = Patience()
    while True:
        progress = await engine.step(rotation_id)
        show.step(progress)
        if stop.is_set():
            return progress
        if progress.rest is None:
            continue
        until = progress.rest.until
        if until is None or not wait or patience.ends(progress.rotation, until, now()):
            return progress
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, (until - now()).total_seconds()))


@contextmanager
def _first_interrupt() -> Iterator[asyncio.Event]:
    """Let the first Ctrl-C end the work after the step in hand, and the second one at once.

    Between two steps nothing is half done; in the middle of one the sweep would have to find out.
    """
    loop, task, stop = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def interrupted() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
            return
        stop.set()
        complain(
            "Stopping after this step; Ctrl-C again stops at once, and the sweep mends what that leaves."
        )

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _tell(out: Out, left: _Left, outcome: Outcome) -> None:
    progress, r = left.progress, left.progress.rotation
    waits = progress.rest.waiting_for if progress.rest else ""
    again = f" It is looked at again after {clock(progress.wake_at)}." if progress.wake_at else ""
    goes_on = "It goes on with the next sweep (`keyturn up`, or `keyturn sweep`)."
    match outcome:
        case Outcome.COMPLETED:
            proof = f" The old one ({r.old_fingerprint}) is dead: {r.death_proof}." if r.death_proof else ""
            out.line(f"{r.credential} runs on {r.new_fingerprint}.{proof}", "green")
        case Outcome.ABORTED:
            complain(f"Rotation {r.id} of {r.credential} was undone: {r.abort_reason}")
            complain(f"Now: {left.undone}")
        case Outcome.WAITING:
            waits = waits or "the next sweep"
            out.line(f"Rotation {r.id} of {r.credential} is in {r.state}: waiting for {waits}.{again}")
            out.line(goes_on)
        case Outcome.IN_THE_WAY:
            complain(f"Rotation {r.id} of {r.credential} is {r.state}; in the way: {r.problem}")
            complain(f"Now: nothing is lost.{again}")
            complain(f"Do: mend what is in the way. {goes_on}")
        case Outcome.PARKED:
            complain(f"Rotation {r.id} of {r.credential} is parked: {r.parked_why}")
            complain(f"Now: it stays {r.parked_from}; nothing is revoked.")
            complain(f"Do: {r.parked_todo}")
        case Outcome.INTERRUPTED:
            complain(f"Interrupted. Rotation {r.id} of {r.credential} stays {r.state}; nothing is lost.")
            complain(f"Do: nothing. {goes_on}")
