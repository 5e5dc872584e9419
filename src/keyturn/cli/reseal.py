"""`keyturn store reseal`: files are encrypted for those whom the inventory names now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from keyturn.cli import session
from keyturn.cli.codes import ExitCode
from keyturn.cli.options import InventoryPath
from keyturn.cli.output import Out

if TYPE_CHECKING:
    from keyturn.settings import LoadedInventory


def reseal(
    out: Out,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Credentials; all, if none is named.", show_default=False),
    ] = None,
    inventory: InventoryPath = None,
) -> ExitCode:
    """Encrypt current keys for the recipients that the inventory names now; the keys stay as they are."""
    loaded = session.load(inventory, warn=True)
    wanted = list(dict.fromkeys(names or loaded.inventory.credentials))
    for name in wanted:
        session.known_credential(loaded, name)
    failed = session.run(_brought_up(loaded, wanted))
    done = [name for name in wanted if name not in failed]
    out.document({"resealed": done, "failed": [{"credential": n, "why": w} for n, w in failed.items()]})
    for name, why in failed.items():
        out.line(f"{name}: {why}", "red")
    out.line(f"As the inventory says: {', '.join(done) or 'none'}.", "green" if done else "")
    return ExitCode.STORE if failed else ExitCode.OK


async def _brought_up(loaded: LoadedInventory, names: list[str]) -> Mapping[str, str]:
    from keyturn.engine.copies import bring_up

    async with session.world(loaded, reading=True) as world:
        return await bring_up(world, names)
