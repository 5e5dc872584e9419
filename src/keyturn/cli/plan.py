"""`keyturn plan`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import session, shapes
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out, clock, moment, span

if TYPE_CHECKING:
    from keyturn.engine.plan import PlanLine
    from keyturn.settings import LoadedInventory


def plan(
    out: Out,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One credential. Default: all.", show_default=False)
    ] = None,
    inventory: InventoryPath = None,
) -> None:
    """Say what would be minted, restarted and revoked, and when; changes nothing."""
    loaded = session.load(inventory, warn=True)
    if name is not None:
        session.known_credential(loaded, name)
    lines = session.run(_plan(loaded, name))
    now = datetime.now(UTC)
    out.document({"now": moment(now), "plan": [document(line) for line in lines]})
    for line in lines:
        tell(out, line, now)


async def _plan(loaded: LoadedInventory, name: str | None) -> Sequence[PlanLine]:
    from keyturn.engine.plan import plan as of_world

    async with session.world(loaded, reading=True) as world:
        return await of_world(world, name)


def document(line: PlanLine) -> dict[str, Any]:
    """Give one credential's plan for programs."""
    return {
        "credential": line.credential,
        "is_due": line.is_due,
        "due": shapes.due(line.due),
        "steps": list(line.steps),
        "obstacles": list(line.obstacles),
    }


def tell(out: Out, line: PlanLine, now: datetime) -> None:
    """Tell one credential's plan to people."""
    when = "now" if line.is_due else f"{clock(line.due.at)}, in {span(line.due.at - now)}"
    out.line(f"{line.credential}: due {when} ({line.due.why})", "bold")
    for number, step in enumerate(line.steps, 1):
        out.line(f"  {number}. {step}")
    for obstacle in line.obstacles:
        out.line(f"  In the way: {obstacle}", "yellow")
