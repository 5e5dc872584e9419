"""`keyturn status`: from the inventory and the journal alone, and fast."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from keyturn.cli import session, shapes
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out, clock, moment, span

if TYPE_CHECKING:
    from keyturn.engine.status import CredentialStatus
    from keyturn.ports.journal import Journal
    from keyturn.settings import LoadedInventory

_IDLE, _PARKED = "idle", "parked"


@dataclass(frozen=True, slots=True)
class Line:
    """A credential's status, judged at a moment."""

    status: CredentialStatus
    now: datetime

    @property
    def parked(self) -> bool:
        """Whether a person is needed."""
        return self.status.state == _PARKED

    @property
    def late(self) -> bool:
        """Whether the deadline has passed and no rotation is on its way."""
        s = self.status
        return s.due is not None and s.state in {_IDLE, _PARKED} and s.due.deadline < self.now

    @property
    def troubled(self) -> bool:
        """Whether somebody should look at it."""
        return self.parked or self.late or bool(self.status.problem or self.status.differences)

    @property
    def style(self) -> str:
        """The colour of the line."""
        if self.parked or self.late or self.status.due is None or self.status.differences:
            return "red"
        return "yellow" if self.status.problem else ""

    def next(self) -> str:
        """Say when something happens next."""
        s = self.status
        if s.due is None or (self.parked and not self.late):
            return "needs you"
        if self.late:
            return f"LATE by {span(self.now - s.due.deadline)}"
        if s.state != _IDLE:
            waits = s.wake_at is not None and s.wake_at > self.now
            return f"goes on in {span(s.wake_at - self.now)}" if waits and s.wake_at else "at the next sweep"
        return "due now" if s.due.is_due(self.now) else f"in {span(s.due.at - self.now)}"

    def note(self) -> str:
        """Say what a person should know."""
        s = self.status
        if s.differences and not s.problem:
            return s.differences[0].what
        if s.problem or s.due is None or not (self.late or s.due.outside_window):
            return s.problem
        return s.due.why

    def cells(self) -> tuple[str, ...]:
        """Give the line of the table."""
        s = self.status
        state = s.state.upper() if self.parked else s.state
        return (
            s.credential,
            s.exchange,
            state,
            s.fingerprint or "-",
            clock(s.last_rotated_at),
            self.next(),
            self.note(),
        )

    def document(self) -> dict[str, Any]:
        """Give the line for programs."""
        s = self.status
        return {
            "credential": s.credential,
            "exchange": s.exchange,
            "account": s.account,
            "state": s.state,
            "parked": self.parked,
            "late": self.late,
            "fingerprint": s.fingerprint,
            "rotation_id": s.rotation_id,
            "last_rotated_at": shapes.when(s.last_rotated_at),
            "wake_at": shapes.when(s.wake_at),
            "due": shapes.due(s.due) if s.due else None,
            "in_inventory": s.due is not None,
            "problem": s.problem,
            "todo": s.todo,
            "differences": [{"what": each.what, "todo": each.todo} for each in s.differences],
        }


def status(
    out: Out,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="These credentials only.", show_default=False)
    ] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Only what somebody should look at.")] = False,
    inventory: InventoryPath = None,
) -> None:
    """Show every credential: its state, its key, when it was rotated and when it will be."""
    with _no_garbage():
        loaded = session.load(inventory)
        statuses = session.run(_read(loaded))
        known = {each.credential for each in statuses}
        for name in names or ():
            if name not in known:
                session.known_credential(loaded, name)
    now = datetime.now(UTC)  # after the reading: what was due then is due now
    lines = [Line(each, now) for each in statuses]
    if names:
        lines = [line for line in lines if line.status.credential in names]
    _tell(out, now, lines, [line for line in lines if line.troubled] if problems else lines)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Do without the collector: all that is read stays in use, and searching it costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _tell(out: Out, now: datetime, lines: Sequence[Line], shown: Sequence[Line]) -> None:
    counts = {
        "credentials": len(lines),
        "in_rotation": sum(line.status.state not in {_IDLE, _PARKED} for line in lines),
        "parked": sum(line.parked for line in lines),
        "late": sum(line.late for line in lines),
    }
    if out.as_json:
        out.document(
            {"now": moment(now), "summary": counts, "credentials": [line.document() for line in shown]}
        )
        return
    if shown:
        heads = ("CREDENTIAL", "EXCHANGE", "STATE", "KEY", "ROTATED", "NEXT", "NOTE")
        out.table(heads, [line.cells() for line in shown], [line.style for line in shown])
    for line in shown:
        if line.status.todo:
            out.line(f"{line.status.credential}: {line.status.todo}", "yellow")
        for each in line.status.differences:
            out.line(f"{line.status.credential}: {each.what}. {each.todo}", "yellow")
    told = "Credentials {credentials}: in rotation {in_rotation}, parked {parked}, late {late}."
    out.line(told.format_map(counts))


async def _read(loaded: LoadedInventory) -> Sequence[CredentialStatus]:
    from keyturn.cli.glance import glance
    from keyturn.engine.status import status as of_world

    if (seen := glance(loaded)) is not None:
        return await of_world(session.offline_world(loaded, cast("Journal", seen)))
    async with session.world(loaded, reading=True) as world:
        return await of_world(world)
