"""`keyturn sweep`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyturn.cli import session, shapes
from keyturn.cli.codes import ExitCode
from keyturn.cli.follow import Outcome, outcome_of
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out, clock
from keyturn.cli.progress import Show
from keyturn.domain.rotation import Rotation, State

if TYPE_CHECKING:
    from keyturn.engine.sweep import Outcome as Done
    from keyturn.engine.sweep import WorkItem
    from keyturn.settings import LoadedInventory

_FAILED, _SETTLED, _DIFFERS = "failed", "settled", "differs"
# The worst of what happened is the exit code; in this order.
_WORST = (
    (Outcome.PARKED, ExitCode.NEEDS_A_PERSON),
    (_FAILED, ExitCode.IN_THE_WAY),
    (Outcome.IN_THE_WAY, ExitCode.IN_THE_WAY),
    (Outcome.ABORTED, ExitCode.UNDONE),
    (_DIFFERS, ExitCode.FINDINGS),
)


def sweep(
    out: Out,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and end.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=0,
            help="Begin at most so many new rotations; unfinished ones always go on.",
            show_default=False,
        ),
    ] = None,
    inventory: InventoryPath = None,
) -> ExitCode | None:
    """Do whatever is due or unfinished, once: what cron or the scheduler calls."""
    loaded = session.load(inventory, warn=True)
    if dry_run:
        _dry_run(out, session.run(_due(loaded)))
        return None
    done, parked = session.run(_sweep(out, loaded, limit))
    out.document(
        {"outcomes": [_document(each) for each in done], "parked": [shapes.rotation(r) for r in parked]}
    )
    _tell(out, done, parked)
    happened = {_outcome(each) for each in done} | ({Outcome.PARKED} if parked else set())
    return next((code for outcome, code in _WORST if outcome in happened), ExitCode.OK)


async def _due(loaded: LoadedInventory) -> Sequence[WorkItem]:
    from keyturn.engine.sweep import due_work

    async with session.world(loaded, reading=True) as world:
        return await due_work(world)


async def _sweep(
    out: Out, loaded: LoadedInventory, limit: int | None
) -> tuple[Sequence[Done], Sequence[Rotation]]:
    from keyturn.engine.engine import Engine
    from keyturn.engine.sweep import sweep as of_engine

    async with session.world(loaded) as world:
        show = Show(out, loaded.inventory, names=True)
        with show.live("looking for what is due"):
            done = await of_engine(Engine(world), limit=limit, on_progress=show.step)
        parked = [r for r in await world.journal.latest() if r.state is State.PARKED]
        return done, parked


def _outcome(done: Done) -> str:
    if done.error:
        return _FAILED
    if done.difference:
        return _DIFFERS
    return outcome_of(done.rotation) if done.rotation else _SETTLED


def _document(done: Done) -> dict[str, Any]:
    return {
        **_item(done.item),
        "outcome": str(_outcome(done)),
        "waiting_for": done.waiting_for,
        "resume_at": shapes.when(done.wake_at),
        "error": done.error,
        "todo": done.difference.todo if done.difference else "",
        "rotation": shapes.rotation(done.rotation) if done.rotation else None,
    }


def _item(item: WorkItem) -> dict[str, Any]:
    return {
        "kind": str(item.kind),
        "credential": item.credential,
        "rotation_id": item.rotation_id,
        "why": item.why,
    }


def _dry_run(out: Out, items: Sequence[WorkItem]) -> None:
    out.document({"dry_run": True, "items": [_item(item) for item in items]})
    if items:
        rows = [(str(i.kind), i.credential, i.rotation_id or "-", i.why) for i in items]
        out.table(("WHAT", "CREDENTIAL", "ROTATION", "WHY"), rows)
    out.line(f"To do: {len(items)}. This was a dry run: nothing was changed.")


def _tell(out: Out, done: Sequence[Done], parked: Sequence[Rotation]) -> None:
    rows, styles = [], []
    for each in done:
        outcome = _outcome(each)
        r = each.rotation
        if outcome in {Outcome.PARKED, Outcome.COMPLETED, _SETTLED, _DIFFERS}:
            continue
        note = each.error or (r.problem or r.abort_reason if r else "") or each.waiting_for
        rows.append((each.item.credential, str(outcome), clock(each.wake_at), note))
        styles.append("red" if outcome == _FAILED else "")
    if rows:
        out.table(("CREDENTIAL", "OUTCOME", "AGAIN", "NOTE"), rows, styles)
    for r in parked:
        out.line(f"{r.credential} is parked: {r.parked_why}", "red")
        out.line(f"  Do: {r.parked_todo}", "yellow")
    for difference in filter(None, (each.difference for each in done)):
        out.line(f"{difference.credential}: {difference.what}", "red")
        out.line(f"  Do: {difference.todo}", "yellow")
    counts = Counter(str(_outcome(each)) for each in done)
    told = ", ".join(f"{n} {outcome.replace('_', ' ')}" for outcome, n in sorted(counts.items()))
    out.line(f"Swept: {told}." if told else "Nothing was due now.")
