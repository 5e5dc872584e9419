"""`keyturn rollback`, `abort`, `resume`, `confirm`: what a person decides about an open rotation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import ask, follow, session
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import Credential, InventoryPath, NoWait, Reason, Yes
from keyturn.cli.output import Out, complain
from keyturn.domain.difference import read_names
from keyturn.domain.rotation import Rotation

if TYPE_CHECKING:
    from keyturn.engine.engine import Engine
    from keyturn.settings import LoadedInventory


def rollback(
    out: Out,
    name: Credential,
    reason: Reason,
    no_wait: NoWait = False,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> ExitCode:
    """Make the old key current again, while it lives: after the promotion, before its revoke."""
    loaded = session.load(inventory, warn=True)
    why = ask.reason(reason)
    ask.confirm(f"Roll {name} back? Its consumers move again, and the new key is revoked.", yes=yes)
    begin = _of_known(loaded, name, lambda engine: engine.rollback(name, why))
    return follow.conduct(out, loaded, begin, wait=not no_wait, undoing=True)


def abort(
    out: Out, name: Credential, reason: Reason, no_wait: NoWait = False, inventory: InventoryPath = None
) -> ExitCode:
    """Undo a rotation that has not been promoted yet: the new key is revoked, the old one stays."""
    loaded = session.load(inventory, warn=True)
    why = ask.reason(reason)
    begin = _of_known(loaded, name, lambda engine: engine.abort(name, why))
    return follow.conduct(out, loaded, begin, wait=not no_wait, undoing=True)


def resume(
    out: Out,
    name: Credential,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="The new key may lack what the rotation has parked for."),
    ] = False,
    no_wait: NoWait = False,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> ExitCode:
    """Let a parked rotation go on, once what it asked for is done."""
    loaded = session.load(inventory, warn=True)
    lost = session.run(_shown(loaded, name)) if accept_loss else frozenset()
    if lost:
        ask.give_up(name, lost, yes=yes)
    begin = _of_known(loaded, name, lambda engine: engine.resume(name, accept_loss=lost))
    return follow.conduct(out, loaded, begin, wait=not no_wait)


def confirm(
    out: Out,
    name: Credential,
    consumer: Annotated[
        str, typer.Option("--consumer", "-c", help="Whose proof you give.", show_default=False)
    ],
    by: Annotated[str, typer.Option("--by", help="Who has seen it: your name.", show_default=False)],
    reason: Reason,
    no_wait: NoWait = False,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> ExitCode:
    """Say for a consumer that it runs on the key that it was told of; the other key is revoked by that."""
    loaded = session.load(inventory, warn=True)
    person, why = ask.person(by), ask.reason(reason)
    if follows := session.run(_follows(loaded, name)):
        complain(
            f"By the word of {person} that {consumer} has moved, {follows}:"
            f" if {consumer} still uses that one, its calls fail."
        )
        ask.confirm(f"Take it in the place of the proof of {consumer}?", yes=yes)
    begin = _of_known(loaded, name, lambda engine: engine.confirm(name, consumer, by=person, reason=why))
    return follow.conduct(out, loaded, begin, wait=not no_wait)


async def _follows(loaded: LoadedInventory, name: str) -> str:
    """Say what a proof leads to in the open rotation; empty where there is none: the engine refuses."""
    from keyturn.engine.person import allows

    async with session.reading_journal(loaded) as journal:
        rotation = await journal.open_rotation(name)
    return allows(rotation) if rotation is not None else ""


async def _shown(loaded: LoadedInventory, name: str) -> frozenset[str]:
    """Give what the open rotation has shown as lost; what comes on top later is not accepted with it.

    Raises:
        RefusedError: it has not parked for a loss.
    """
    from keyturn.engine.difference import refuse_other_than_loss

    async with session.reading_journal(loaded) as journal:
        rotation = await journal.open_rotation(name)
    if rotation is None:
        return frozenset()  # the engine refuses, with what to do
    refuse_other_than_loss(rotation)
    return read_names(rotation.loss)


def _of_known(
    loaded: LoadedInventory, name: str, ask_engine: Callable[[Engine], Awaitable[Rotation]]
) -> Callable[[Engine], Awaitable[Rotation]]:
    """Refuse a mistyped name; one with an open rotation is none, even if it left the inventory."""

    async def begin(engine: Engine) -> Rotation:
        if await engine.world.journal.open_rotation(name) is None:
            session.known_credential(loaded, name)
        return await ask_engine(engine)

    return begin
