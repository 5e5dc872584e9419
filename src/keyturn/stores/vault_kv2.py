"""The store in HashiCorp Vault or OpenBao, on a KV mount of version 2.

The path of a credential is what its consumers read, so any write to it is a promotion; the pending
version stands on a path of its own. How the two are kept in step is told in `vault.shelf`, what is
written in `vault.documents`, how it gets there in `vault.transport` and `vault.session`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keyturn.domain.errors import ProgrammingError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores.formats import SINGLE, Formats
from keyturn.stores.vault import current, pending
from keyturn.stores.vault.documents import State, as_material
from keyturn.stores.vault.faults import misconfigured
from keyturn.stores.vault.paths import Places
from keyturn.stores.vault.shelf import Shelf

if TYPE_CHECKING:
    from keyturn.domain.inventory import VaultKv2Store as VaultKv2Entry
    from keyturn.stores.vault.session import Session

T = TypeVar("T")
#: Tells that current changed; compare for equality only. None: nothing is stored there.
Signature = tuple[int, str] | None


def open_vault_kv2(name: str, entry: VaultKv2Entry, base: Path, formats: Formats = SINGLE) -> VaultKv2Store:
    """Open the store that an inventory entry describes; nothing is contacted until it is needed.

    Args:
        name: of the store in the inventory, for messages.
        entry: of the inventory.
        base: the folder of the inventory.
        formats: how its documents look.

    Raises:
        StoreError: `MISCONFIGURED` when hvac is not installed or the CA bundle is missing or damaged.
    """
    try:
        from keyturn.stores.vault.login import Login
        from keyturn.stores.vault.session import Session
        from keyturn.stores.vault.transport import ListedAdapter
    except ImportError:
        raise misconfigured(
            f"The store {name} is in Vault, and hvac, which talks to it, is not installed.",
            "pip install 'keyturn[vault]'",
        ) from None
    ca_file = str(base / entry.ca_file) if entry.ca_file else None
    if ca_file and not _holds_certificates(ca_file):
        raise misconfigured(
            f"The CA bundle {ca_file} of the store {name} cannot be read, or holds no certificate.",
            "Correct `ca_file` of the store.",
        )
    adapter = ListedAdapter(
        name,
        entry.addresses,
        namespace=entry.namespace,
        ca_file=ca_file,
        timeout=entry.timeout.total_seconds(),
    )
    session = Session(name, adapter, Login(name, entry.auth, adapter, base))
    return VaultKv2Store(name, session, Places(entry.mount, entry.pending_prefix), formats)


def _holds_certificates(ca_file: str) -> bool:
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError:
        return False
    return True


class VaultKv2Store:
    """A `SecretStore` in Vault. The `*_sync` methods and `signature` are for bots: they only read.

    Args:
        name: of the store, for messages.
        session: makes calls with a valid token.
        places: which paths belong to a credential.
        formats: how its documents look.
    """

    def __init__(self, name: str, session: Session, places: Places, formats: Formats = SINGLE) -> None:
        from keyturn.stores.vault.kv import Kv

        self.name = name
        self._session = session
        self._shelf = Shelf(Kv(name, places.mount, session), places, formats)
        self._pool: ThreadPoolExecutor | None = None
        self._metadata_closed = False

    # The port's methods. hvac blocks, so each runs in a thread.

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return await self._in_thread(lambda: self.peek_sync(path, slot))

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        return await self._in_thread(lambda: self.read_sync(path, slot))

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending; see the port."""
        return await self._in_thread(lambda: pending.claim(self._shelf, path, attempt))

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""
        return await self._in_thread(lambda: pending.stage(self._shelf, path, material, meta, claim))

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current; see the port."""
        return await self._in_thread(lambda: current.promote(self._shelf, path, attempt, expect_current))

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous; see the port."""
        return await self._in_thread(lambda: current.restore_previous(self._shelf, path, expect_current))

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty pending or previous and destroy its versions; see the port."""
        if slot is Slot.CURRENT:
            raise ProgrammingError("current is never discarded")
        move = pending.discard if slot is Slot.PENDING else current.discard_previous
        await self._in_thread(lambda: move(self._shelf, path, version))

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""
        return await self._in_thread(lambda: current.put(self._shelf, path, material, meta, expect_current))

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Write a document without a key and destroy all others; see the port."""
        from keyturn.stores.vault.vacate import vacate

        await self._in_thread(lambda: vacate(self._shelf, path, expect_current))

    async def spread(self, path: str) -> Sequence[str]:
        """Give nothing: who reads current reads this very path; see the port."""
        return ()

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions, oldest first; see the port."""
        from keyturn.stores.vault.history import history

        return await self._in_thread(lambda: history(self._shelf, path))

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check server, login, mount and each right, without writing; see the port."""
        from keyturn.stores.vault.check import check

        return await self._in_thread(lambda: check(self._session, self._shelf, paths))

    async def close(self) -> None:
        """End the threads and connections. The store can still be used, and opens new ones then."""
        pool, self._pool = self._pool, None
        if pool:
            await asyncio.to_thread(pool.shutdown)
        self._session.close()

    # For bots: they need the right to read the consumer's path, and no other.

    def signature(self, path: str) -> Signature:
        """Give a value that differs after every change of current, without its content where that may be.

        Raises:
            StoreError: `DENIED`, `UNAVAILABLE`, `MISCONFIGURED`.
        """
        where = self._shelf.places.current(path)
        if not self._metadata_closed:
            try:
                found = self._shelf.kv.metadata(where)
            except StoreError as error:
                if error.fault is not StoreFault.DENIED:
                    raise
                # Not every consumer has the right to; ask no more, and read the document instead.
                self._metadata_closed = True
            else:
                if not found or not found.get("current_version"):
                    return None
                number = int(found["current_version"])
                row = (found.get("versions") or {}).get(str(number)) or {}
                gone = "deleted" if row.get("deletion_time") or row.get("destroyed") else ""
                return number, f"{row.get('created_time')}{gone}"
        seen = self._shelf.kv.read(where)
        gone = "deleted" if seen.data is None else ""
        return (seen.kv, f"{seen.created}{gone}") if seen.kv else None

    def peek_sync(self, path: str, slot: Slot) -> SlotInfo | None:
        """Do what `peek` does, in this thread."""
        if slot is Slot.PENDING:
            waiting = self._shelf.pending(path)
            if waiting.state is State.EMPTY:
                return None
            if waiting.state is State.STAGED and self._shelf.current(path).spent(waiting.attempt):
                return None
            return SlotInfo(slot, waiting.version, waiting.attempt, waiting.meta)
        stored = self._shelf.current(path)
        if slot is Slot.PREVIOUS:
            found = self._shelf.previous(path, stored.previous)
            return (
                SlotInfo(slot, found.version, found.attempt, found.meta) if found and found.version else None
            )
        return SlotInfo(slot, stored.version, stored.attempt, stored.meta) if stored.version else None

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Do what `read` does, in this thread."""
        if slot is Slot.PENDING:
            waiting = self._shelf.pending(path)
            if waiting.state is not State.STAGED or not self._shelf.waits(path, waiting):
                return None
            info = SlotInfo(slot, waiting.version, waiting.attempt, waiting.meta)
            return Stored(info, as_material(path, waiting.values))
        found = self._shelf.sighted(path) if slot is Slot.PREVIOUS else self._shelf.current(path)
        if slot is Slot.PREVIOUS:
            older = self._shelf.previous(path, found.previous)
            if older is None:
                return None
            found = older
        if not found.version:
            return None
        info = SlotInfo(slot, found.version, found.attempt, found.meta)
        return Stored(info, as_material(path, found.values))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            from keyturn.stores.vault.transport import LANES

            self._pool = ThreadPoolExecutor(LANES, thread_name_prefix=f"keyturn-{self.name}")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
