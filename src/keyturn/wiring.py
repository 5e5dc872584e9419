"""The composition root: from an inventory to a world. The only module that knows every adapter.

Everything is built when it is first asked for, and each import stands where it is needed: `keyturn
status` needs the journal and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from keyturn.domain.place import api_url
from keyturn.domain.slots import Slot, Stored
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.ports.clock import Clock, SystemClock
from keyturn.ports.consumer import Consumer, ReadKey
from keyturn.ports.exchange import ExchangeDriver
from keyturn.ports.journal import Journal
from keyturn.ports.store import SecretStore
from keyturn.settings import LoadedInventory
from keyturn.stores.age_files_readers import readers_of
from keyturn.stores.catalog import open_store
from keyturn.stores.formats import formats_of
from keyturn.stores.keys import resolve_secret


class InventoryAdapters:
    """Builds the adapters that an inventory names, each once, and closes them all."""

    def __init__(self, loaded: LoadedInventory, *, rate_limit: bool = True) -> None:
        self._loaded = loaded
        self._rate_limit = rate_limit
        self._drivers: dict[str, ExchangeDriver] = {}
        self._stores: dict[str, SecretStore] = {}
        self._consumers: dict[tuple[str, str], Consumer] = {}

    def driver(self, account: str) -> ExchangeDriver:
        """Give the driver of an account."""
        if account not in self._drivers:
            entry = self._loaded.inventory.accounts[account]
            self._drivers[account] = catalog.build(
                entry.exchange,
                url=api_url(entry, catalog.manifests()[entry.exchange]),
                environment=entry.environment,
                timeout=entry.timeout.total_seconds(),
                rate_limit=self._rate_limit,
            )
        return self._drivers[account]

    def store(self, name: str) -> SecretStore:
        """Give a store."""
        if name not in self._stores:
            inventory = self._loaded.inventory
            entry, base = inventory.stores[name], self._loaded.base
            formats, readers = formats_of(inventory, name), readers_of(inventory, name)
            self._stores[name] = open_store(name, entry, base, formats, readers)
        return self._stores[name]

    def consumer(self, name: str, credential: str) -> Consumer:
        """Give a consumer of a credential."""
        if (name, credential) not in self._consumers:
            from keyturn.consumers.catalog import build

            self._consumers[name, credential] = build(
                name,
                self._loaded.inventory.consumers[name],
                credential=credential,
                base=self._loaded.base,
                read_current=self._reader(credential, Slot.CURRENT),
                read_pending=self._reader(credential, Slot.PENDING),
            )
        return self._consumers[name, credential]

    def _reader(self, credential: str, slot: Slot) -> ReadKey:
        address = self._loaded.inventory.store_of(credential)

        async def read() -> Stored | None:
            return await self.store(address.store).read(address.path, slot)

        return read

    async def close(self) -> None:
        """Close whatever was built."""
        async with AsyncExitStack() as stack:
            for driver in self._drivers.values():
                stack.push_async_callback(driver.close)
            for store in self._stores.values():
                stack.push_async_callback(store.close)
            for consumer in self._consumers.values():
                stack.push_async_callback(consumer.close)


@asynccontextmanager
async def open_journal(loaded: LoadedInventory, *, create: bool = True) -> AsyncIterator[Journal]:
    """Open the journal that the inventory names.

    Raises:
        JournalError: it is not there, of a newer version, or out of reach.
        KeyturnError: its password cannot be had.
    """
    from keyturn.journal import SqlJournal

    entry = loaded.inventory.journal
    password = resolve_secret(entry.password, loaded.base) if entry.password else None
    journal = await SqlJournal.open_url(_located(entry.url, loaded), password=password, create=create)
    try:
        yield journal
    finally:
        await journal.close()


def journal_file(loaded: LoadedInventory) -> Path | None:
    """Give the journal's file, where it is one.

    Raises:
        JournalError: its URL cannot be read.
    """
    from keyturn.journal.database import locate

    return locate(_located(loaded.inventory.journal.url, loaded)).path


def _located(url: str, loaded: LoadedInventory) -> str:
    """Make a relative SQLite file relative to the inventory."""
    scheme, found, path = url.partition(":///")
    if not found or not scheme.startswith("sqlite"):
        return url
    return f"{scheme}:///{loaded.base / path}"


@asynccontextmanager
async def open_world(
    loaded: LoadedInventory, *, actor: str, clock: Clock | None = None, rate_limit: bool = True
) -> AsyncIterator[World]:
    """Open everything that an inventory describes, for as long as the block lasts.

    Args:
        loaded: the inventory, and the folder that its relative paths start from.
        actor: who acts, for the journal.
        clock: the machine's, unless a test says otherwise.
        rate_limit: keep to the venues' documented rates; off in benchmarks alone.

    Raises:
        JournalError: the journal cannot be opened.
    """
    adapters = InventoryAdapters(loaded, rate_limit=rate_limit)
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(open_journal(loaded))
        stack.push_async_callback(adapters.close)
        yield World(
            inventory=loaded.inventory,
            manifests=catalog.manifests(),
            adapters=adapters,
            journal=journal,
            clock=clock or SystemClock(),
            actor=actor,
        )
