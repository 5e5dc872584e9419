"""From arguments to a world: the inventory, the journal, and who acts."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keyturn.cli.output import complain

if TYPE_CHECKING:
    from keyturn.engine.world import World
    from keyturn.ports.journal import Journal
    from keyturn.settings import LoadedInventory

T = TypeVar("T")


def actor() -> str:
    """Name who acts, for the journal: the user that the process runs as, whatever the environment says."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # containers run as numbers that have no name
        return f"cli:{uid}"


def load(path: Path | None, *, warn: bool = False) -> LoadedInventory:
    """Load the inventory.

    Args:
        path: None for the variable KEYTURN_INVENTORY, or ./keyturn.yaml.
        warn: tell the inventory's warnings on stderr; for commands that act on it.

    Raises:
        InventoryError: it cannot be used.
    """
    from keyturn.exchanges.catalog import manifests
    from keyturn.settings import load_inventory

    loaded = load_inventory(path, manifests=manifests())
    if warn:
        for warning in loaded.warnings:
            complain(f"Warning: {warning}")
    return loaded


def run(work: Coroutine[object, object, T]) -> T:
    """Run a command's coroutine to its end, on Python's own event loop (docs/adr/0009).

    Raises:
        KeyboardInterrupt: Ctrl-C, also where the coroutine itself watches for it.
    """
    try:
        return asyncio.run(work)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@asynccontextmanager
async def reading_journal(loaded: LoadedInventory) -> AsyncIterator[Journal]:
    """Open the journal for a command that only looks: none is made where there is none.

    Raises:
        JournalError: there is none, or it cannot be opened.
    """
    from keyturn.wiring import open_journal

    async with open_journal(loaded, create=False) as journal:
        yield journal


@asynccontextmanager
async def world(loaded: LoadedInventory, *, reading: bool = False) -> AsyncIterator[World]:
    """Open everything.

    Args:
        loaded: the inventory.
        reading: the command only looks; a journal that is not there is an error and is not made.

    Raises:
        JournalError: the journal cannot be opened.
    """
    from keyturn.wiring import open_world

    if reading:
        async with reading_journal(loaded):
            pass
    async with open_world(loaded, actor=actor()) as opened:
        yield opened


def offline_world(loaded: LoadedInventory, journal: Journal) -> World:
    """Give a world over what a journal told already; nothing is opened."""
    from keyturn.engine.world import World
    from keyturn.exchanges.catalog import manifests
    from keyturn.ports.clock import SystemClock
    from keyturn.wiring import InventoryAdapters

    adapters = InventoryAdapters(loaded)
    return World(loaded.inventory, manifests(), adapters, journal, SystemClock(), actor())


def known_credential(loaded: LoadedInventory, name: str) -> None:
    """Check a name that a person typed.

    Raises:
        RefusedError: the inventory has no such credential; near misses are named.
    """
    from keyturn.cli.names import known_name

    names = loaded.inventory.credentials
    known_name(loaded, "credential", name, names, "keyturn status lists the names.")
