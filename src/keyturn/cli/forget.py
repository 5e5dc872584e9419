"""`keyturn forget`: lets go of a key that was put by mistake, or that nobody can reach any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import ask, session, shapes
from keyturn.cli.options import Credential, InventoryPath, Yes
from keyturn.cli.output import Out

if TYPE_CHECKING:
    from keyturn.engine.forget import Forgotten
    from keyturn.settings import LoadedInventory


def forget(
    out: Out,
    name: Credential,
    fingerprint: Annotated[
        str | None,
        typer.Argument(
            metavar="FINGERPRINT", help="Which key. Default: the current one.", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    inventory: InventoryPath = None,
) -> None:
    """Let go of a key that was put by mistake: out of store and journal; the exchange is not asked.

    The key lives on there, and keyturn never revokes it.
    """
    loaded = session.load(inventory, warn=True)
    which = f"the key {fingerprint}" if fingerprint else "the current key"
    ask.confirm(
        f"Forget {which} of {name}? It is taken out of the store, lives on at the exchange,"
        " and keyturn never revokes it.",
        yes=yes,
    )
    gone = session.run(_forget(loaded, name, fingerprint))
    out.document({"credential": name, "key": shapes.key(gone.record), "emptied": list(gone.emptied)})
    out.line(
        f"The key {gone.record.fingerprint} is no longer {name}'s. It lives on at the exchange:"
        " delete it there if it is nobody's.",
        "green",
    )
    for place in gone.emptied:
        out.line(f"No key is current at {place}: whoever reads there finds none.", "yellow")
    if name in loaded.inventory.credentials:
        out.line(f"Next: keyturn put {name}" if gone.emptied else f"Next: keyturn plan {name}")


async def _forget(loaded: LoadedInventory, name: str, fingerprint: str | None) -> Forgotten:
    from keyturn.engine.forget import forget as let_go

    async with session.world(loaded) as world:
        if not await world.journal.keys(name):
            session.known_credential(loaded, name)
        return await let_go(world, name, fingerprint)
