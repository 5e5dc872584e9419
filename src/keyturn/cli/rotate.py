"""`keyturn rotate`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import ask, follow, plan, session
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import Credential, InventoryPath, NoWait, Yes
from keyturn.cli.output import Out
from keyturn.domain.errors import RefusedError
from keyturn.domain.rotation import Mode, Rotation, State
from keyturn.engine.commands import with_reason

if TYPE_CHECKING:
    from keyturn.engine.engine import Engine
    from keyturn.settings import LoadedInventory


def rotate(
    out: Out,
    name: Credential,
    reason: Annotated[
        str | None,
        typer.Option("--reason", "-r", help="Why; it goes into the journal. No secrets.", show_default=False),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="After an incident: no grace, no window; the proofs stay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and end.")] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Take what the new key would lack of the living key's rights and addresses as it is now.",
        ),
    ] = False,
    no_wait: NoWait = False,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> ExitCode | None:
    """Replace a credential's key: mint, store, cut over, prove, revoke. Shows the steps as they happen."""
    loaded = session.load(inventory, warn=True)
    session.known_credential(loaded, name)
    if dry_run:
        _dry_run(out, loaded, name, incident=now)
        return None
    why = ask.reason(reason)
    if now:
        ask.confirm(_question(loaded, name), yes=yes)
    mode = Mode.INCIDENT if now else Mode.MANUAL
    lost = _accepted(loaded, name, yes=yes) if accept_loss else frozenset()

    async def begin(engine: Engine) -> Rotation:
        await _refuse_second(engine, name)
        return await engine.open(name, mode=mode, reason=why, accept_loss=lost)

    return follow.conduct(out, loaded, begin, wait=not no_wait)


def _accepted(loaded: LoadedInventory, name: str, *, yes: bool) -> frozenset[str]:
    """Show what would be lost, and give it back as what the person accepts.

    Raises:
        RefusedError: it is not known, or the person did not say yes.
    """
    [line] = session.run(plan.of_world(loaded, name))
    if line.open_rotation is not None:
        return frozenset()  # it is refused with the way to go on with that one
    if line.compared.difference is None and line.compared.must_be_known:
        raise RefusedError(
            f"What the new key of {name} would lack is not known: {line.compared.missing}.",
            now="Nothing was changed, and nothing was accepted.",
            todo=f"{with_reason('rotate', name)}: it parks before it mints, and says what would be lost.",
        )
    if line.compared.unaccepted:
        ask.give_up(name, line.compared.unaccepted, yes=yes)
    return line.compared.unaccepted


def _question(loaded: LoadedInventory, name: str) -> str:
    """Ask for an incident's rotation; name the consumers that nobody waits for."""
    from keyturn.engine.plan import prove_nothing, unproved

    silent = prove_nothing(loaded.inventory, name)
    proving = [c for c in loaded.inventory.credentials[name].consumers if c not in silent]
    when = f"once {', '.join(proving)} confirmed" if proving else "at once"
    told = f"; {unproved(silent)}" if silent else ""
    return f"Rotate {name} without a grace period? The old key dies {when}{told}."


async def _refuse_second(engine: Engine, name: str) -> None:
    """Say how the open rotation goes on; the engine refuses too, and cannot know who asks."""
    held = await engine.world.journal.open_rotation(name)
    if held is None:
        return
    from keyturn.engine.engine import end_of_grace

    go_on = f"To go on with it: keyturn sweep. To look at it: keyturn history {name}"
    if held.state is State.PARKED:
        resume = f"keyturn resume {name}"
        go_on = held.parked_todo
        go_on += "" if resume in go_on else f" To go on after that: {resume}"
    raise RefusedError(
        f"{name} has a rotation that is not finished: {held.id}, {held.state}, begun by {held.actor}.",
        now="Nothing was changed; that rotation stays as it is.",
        todo=f"{end_of_grace(held)} {go_on}".strip(),
    )


def _dry_run(out: Out, loaded: LoadedInventory, name: str, *, incident: bool) -> None:
    [line] = session.run(plan.of_world(loaded, name, incident=incident))
    out.document({"dry_run": True, "plan": [plan.document(line)]})
    plan.tell(out, line, datetime.now(UTC))
    out.line("This was a dry run: nothing was changed.")
