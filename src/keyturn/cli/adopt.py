"""`keyturn adopt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.cli import session, shapes
from keyturn.cli.options import Credential, InventoryPath
from keyturn.cli.output import Out

if TYPE_CHECKING:
    from keyturn.domain.rotation import KeyRecord
    from keyturn.settings import LoadedInventory


def adopt(out: Out, name: Credential, inventory: InventoryPath = None) -> None:
    """Record that the key in the store is this credential's own, so that a rotation may replace it."""
    loaded = session.load(inventory, warn=True)
    session.known_credential(loaded, name)
    record = session.run(_adopt(loaded, name))
    out.document({"credential": name, "key": shapes.key(record)})
    out.line(f"The current key of {name} ({record.fingerprint}) is recorded as its own.", "green")
    out.line(f"Next: keyturn plan {name}")


async def _adopt(loaded: LoadedInventory, name: str) -> KeyRecord:
    from keyturn.engine.adopt import adopt as take_in

    async with session.world(loaded) as world:
        return await take_in(world, name)
