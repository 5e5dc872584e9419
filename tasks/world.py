"""The world of a flow run: opened once, found by its tasks, never an argument of theirs.

A task's arguments are Prefect's to look at; connections and inventories are not for that. A context
variable also keeps two runs in one process apart, each with its own actor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from keyturn import logs, settings, wiring
from keyturn.domain.rotation import Rotation, State
from keyturn.engine.aftermath import aftermath
from keyturn.engine.engine import Engine
from keyturn.exchanges import catalog
from keyturn.processes import keep_memory_private
from keyturn.settings import LoadedInventory

_engine: ContextVar[Engine] = ContextVar("keyturn_engine")


def inventory() -> LoadedInventory:
    """Read the inventory that `KEYTURN_INVENTORY` names, as it is now.

    Raises:
        InventoryError: it cannot be used.
    """
    return settings.load_inventory(manifests=catalog.manifests())


@asynccontextmanager
async def opened(actor: str) -> AsyncIterator[Engine]:
    """Open the world of the inventory that `KEYTURN_INVENTORY` names, for the tasks called inside.

    Args:
        actor: who acts, for the journal.

    Raises:
        KeyturnError: the inventory or the journal cannot be used.
    """
    keep_memory_private()
    logs.set_up()
    async with wiring.open_world(inventory(), actor=actor) as world:
        _engine.set(Engine(world))
        yield engine()


async def undone(rotation: Rotation) -> str:
    """Say what is true after a rotation was undone; empty for one that was not."""
    return await aftermath(engine().world, rotation) if rotation.state is State.ABORTED else ""


def engine() -> Engine:
    """Give the engine of the flow run that this is called in."""
    return _engine.get()
