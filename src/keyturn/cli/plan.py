"""`keyturn plan`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import session, shapes
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out, clock, moment, span
from keyturn.domain.difference import names_text

if TYPE_CHECKING:
    from keyturn.engine.compare import Compared
    from keyturn.engine.plan import PlanLine
    from keyturn.settings import LoadedInventory


def plan(
    out: Out,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One credential. Default: all.", show_default=False)
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Tell all of each credential, also where there are many.")
    ] = False,
    inventory: InventoryPath = None,
) -> None:
    """Compare each living key with the new one; say what would be minted, restarted and revoked, and when."""
    loaded = session.load(inventory, warn=True)
    if name is not None:
        session.known_credential(loaded, name)
    lines = session.run(of_world(loaded, name))
    now = datetime.now(UTC)
    out.document({"now": moment(now), "plan": [document(line) for line in lines]})
    in_short = len(lines) > 1 and not steps
    for line in lines:
        if in_short:
            out.line(_in_short(line, now), "yellow" if line.obstacles else "")
        else:
            tell(out, line, now)
    if in_short:
        out.line("All of one: keyturn plan NAME; all of each: keyturn plan --steps")


async def of_world(
    loaded: LoadedInventory, name: str | None, *, incident: bool = False
) -> Sequence[PlanLine]:
    """Plan over the world of an inventory; changes nothing."""
    from keyturn.engine.plan import plan as plan_of

    async with session.world(loaded, reading=True) as world:
        return await plan_of(world, name, incident=incident)


def document(line: PlanLine) -> dict[str, Any]:
    """Give one credential's plan for programs."""
    return {
        "credential": line.credential,
        "is_due": line.is_due,
        "due": shapes.due(line.due),
        "open_rotation": line.open_rotation,
        "state": str(line.open_state) if line.open_state else None,
        "difference": shapes.compared(line.compared),
        "steps": list(line.steps),
        "obstacles": list(line.obstacles),
    }


def tell(out: Out, line: PlanLine, now: datetime) -> None:
    """Tell one credential's plan to people."""
    out.line(f"{line.credential}: {_when(line, now)}", "bold")
    told = line.compared
    if told.difference is None:
        out.line(f"  Nothing is compared: {told.missing}.", "" if line.open_rotation else "yellow")
    else:
        out.line(f"  The living key and the new one, by {told.told_by}:")
        for sign, text, style in shapes.difference_lines(told.difference):
            out.line(f"    {sign} {text}", style)
        if not told.difference.addresses_known:
            out.line("    (what addresses the living key is bound to is not known)", "yellow")
        out.line(f"  {summary(told)}")
    for text in told.may_add:
        out.line(f"  Note: {text}", "yellow")
    for number, step in enumerate(line.steps, 1):
        out.line(f"  {number}. {step}")
    for obstacle in line.obstacles:
        out.line(f"  In the way: {obstacle}", "yellow")


def summary(told: Compared) -> str:
    """Say in a sentence how a new key differs from the living one."""
    found = told.difference
    if found is None:
        return f"Nothing is compared: {told.missing}."
    if found.is_empty:
        return "No difference." if found.addresses_known else "No difference of rights."
    text = f"{len(found.removed)} to take away, {len(found.added)} to add, {len(found.changed)} to change."
    text += f" Accepted: {names_text(told.accepted)}." if told.accepted else ""
    return text + (f" To be accepted: {names_text(told.unaccepted)}." if told.unaccepted else "")


def _when(line: PlanLine, now: datetime) -> str:
    if line.open_rotation:
        return f"rotation {line.open_rotation} is open ({line.open_state}); still to come:"
    when = "now" if line.is_due else f"{clock(line.due.at)}, in {span(line.due.at - now)}"
    return f"due {when} ({line.due.why})"


def _in_short(line: PlanLine, now: datetime) -> str:
    told = f"{line.credential}: {_when(line, now).removesuffix('; still to come:')}; {summary(line.compared)}"
    return told + (f" In the way: {len(line.obstacles)}." if line.obstacles else "")
