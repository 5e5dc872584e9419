"""The embedded store: a folder a credential, one age file a version, one small file for the slots.

The last line of `slots.json` is the truth, and adding one is the one step that changes anything (the
pivot of a promotion too). A version file is complete and flushed before the slots name it, and is unlinked
after they stopped naming it. So a crash at any point leaves the old state or the new one, and a version
file that no slot names is rubbish which the next writer removes.

A version file holds the same key for as long as it is there. It is replaced, whole, only to encrypt that key
for other readers (docs/adr/0020): a bot's own identity opens its current key and nothing else.

What must be gone for good is unlinked before the slots stop naming it. So a discard that was cut short
still shows, and is done again; until then pending or previous may name a version that cannot be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keyturn.domain.errors import KeyturnError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores import folder as disk
from keyturn.stores.age_files_change import Change, Order, decide
from keyturn.stores.age_files_readers import NO_READERS, NOBODY, Readers, checked
from keyturn.stores.folder_faults import translate
from keyturn.stores.formats import SINGLE, Formats
from keyturn.stores.ledger import Ledger
from keyturn.stores.sealing import (
    BadIdentityError,
    DamagedError,
    Sealer,
    WrongKeyError,
    recipients_in,
)
from keyturn.stores.slots_pages import (
    Pages,
    Signature,
    corrupt,
    misconfigured,
    not_for_this_bot,
    wrong_key,
)

if TYPE_CHECKING:
    from keyturn.domain.inventory import AgeFilesStore as AgeFilesEntry

T = TypeVar("T")

# Enough for the disk to join the flushes of several writers into one; more only fight for the interpreter.
_THREADS = 8
# A write takes milliseconds; whoever holds the lock longer than this hangs or is stopped in a debugger.
_LOCK_WAIT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05


def open_age_files(
    entry: AgeFilesEntry,
    base: Path,
    formats: Formats = SINGLE,
    readers: Mapping[str, Readers] = NO_READERS,
    *,
    for_a_bot: bool = False,
) -> AgeFilesStore:
    """Open the store that an inventory entry describes; nothing is read until it is needed.

    Args:
        entry: of the inventory.
        base: the folder of the inventory.
        formats: what the keys must fit; files have a form of their own, their mirrors may not.
        readers: who besides keyturn may read, by path.
        for_a_bot: the key of the entry is a bot's own.
    """
    from keyturn.stores.keys import resolve_secret

    return AgeFilesStore(
        base / entry.path,
        lambda: resolve_secret(entry.key, base),
        formats=formats,
        readers=readers,
        for_a_bot=for_a_bot,
    )


class AgeFilesStore:
    """A `SecretStore` in files. The `*_sync` methods and `signature` are for bots: they only read.

    Args:
        root: the store's folder; made at the first write.
        key_text: gives the text of the age identity file; called when it is first needed.
        lock_wait: seconds to wait for another writer of the same path.
        formats: what the keys must fit.
        readers: who besides keyturn may read, by path; of a path that is not named, nobody.
        for_a_bot: the identity is a bot's own, and opens what is encrypted for it alone.
    """

    def __init__(
        self,
        root: Path,
        key_text: Callable[[], str],
        *,
        lock_wait: float = _LOCK_WAIT,
        formats: Formats = SINGLE,
        readers: Mapping[str, Readers] = NO_READERS,
        for_a_bot: bool = False,
    ) -> None:
        self._readers, self._for_a_bot = readers, for_a_bot
        self._root = root.absolute()
        self._key_text = key_text
        self._lock_wait = lock_wait
        self._formats = formats
        self._pages = Pages()
        self._folders: dict[str, Path] = {}
        self._sealer: Sealer | None = None
        self._pool: ThreadPoolExecutor | None = None

    # The port's methods.

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return self.peek_sync(path, slot)

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        await self._ready_sealer()
        return self.read_sync(path, slot)

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending, having made sure that what is minted next can be sealed; see the port."""
        sealer, readers = await self._ready_sealer(), checked(path, self._readers)
        order = Order(
            lambda ledger: ledger.claim(path, attempt), sealer, reserving=True, gid=readers.gid(path)
        )
        return await self._write(path, order)

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""

        def verb(ledger: Ledger) -> tuple[Ledger, SlotInfo]:
            after = ledger.stage(path, claim, meta)
            return after, after.filled(Slot.PENDING)

        return await self._write(path, await self._sealed(path, verb, material, meta, Slot.PENDING))

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current, having encrypted it for its readers; see the port.

        What was current stays open to them until `spread`.
        """
        order = await self._readable(path, lambda ledger: ledger.promote(path, attempt, expect_current))
        return await self._write(path, order)

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous, having encrypted that for the readers again; see the port."""
        order = await self._readable(path, lambda ledger: ledger.restore_previous(path, expect_current))
        return await self._write(path, order)

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Unlink the file of pending or previous, and empty the slot.

        The file is not overwritten first: on flash and on copying file systems that writes elsewhere.
        What stays on the disk is encrypted.
        """
        await self._write(path, Order(lambda ledger: (ledger.discard(slot, version), None), destroying=True))

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""

        def verb(ledger: Ledger) -> tuple[Ledger, SlotInfo]:
            after = ledger.put(path, meta, expect_current)
            return after, after.filled(Slot.CURRENT)

        return await self._write(path, await self._sealed(path, verb, material, meta, Slot.CURRENT))

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Empty all slots and unlink their files; see the port, and `discard` on overwriting."""
        order = Order(lambda ledger: (ledger.vacate(path, expect_current), None), destroying=True)
        await self._write(path, order)

    async def spread(self, path: str) -> Sequence[str]:
        """Encrypt each slot for those who may read it by the inventory of now, and for nobody else.

        A file has no copies that could lag behind, so nothing is named; see the port.
        """
        readers = checked(path, self._readers)
        if readers == NOBODY and not self._is_open_to_others(path):
            return ()
        sealer, gid = await self._ready_sealer(), readers.gid(path)
        order = Order(
            lambda ledger: (ledger, None), sealer, readers=readers, resealing=frozenset(Slot), gid=gid
        )
        await self._write(path, order)
        return ()

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions, oldest first; see the port."""
        return self._pages.look(path, self._folder(path)).ledger.history()

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check key, folder, lock and every stored version, without writing; see the port."""
        from keyturn.stores.age_files_check import check

        return await self._in_thread(lambda: check(self, self._root, paths, self._readers))

    async def close(self) -> None:
        """End the threads. The store can still be used, and starts new ones then."""
        pool, self._pool = self._pool, None
        if pool:
            await asyncio.to_thread(pool.shutdown)

    # For bots.

    def signature(self, path: str) -> Signature:
        """Give a value that differs after every change of the slots, for the price of one stat.

        Raises:
            StoreError: `MISCONFIGURED` for a path outside the store, `DENIED`, `UNAVAILABLE`.
        """
        return self._pages.signature(path, self._folder(path))

    def peek_sync(self, path: str, slot: Slot) -> SlotInfo | None:
        """Do what `peek` does, in this thread."""
        return self._pages.look(path, self._folder(path)).ledger.info(slot)

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Do what `read` does, in this thread."""
        folder = self._folder(path)
        page = self._pages.look(path, folder)
        while True:
            info = page.ledger.info(slot)
            if info is None or info.version not in page.ledger.kept():
                return None
            try:
                sealed = disk.read_bytes(folder, disk.version_file(info.version))
            except OSError as error:
                raise translate(error, path) from error
            if sealed is not None:
                return self._open(path, info, sealed)
            # Not there: a writer may have moved the slot on between our two reads.
            before, page = page, self._pages.look(path, folder)
            if page == before:
                if slot is not Slot.CURRENT:  # its discard was cut short
                    return None
                raise corrupt(path, f"{disk.version_file(info.version)}, which holds {slot}, is missing")

    def sealer(self) -> Sealer:
        """Give the cipher, with the key loaded.

        Raises:
            StoreError: `MISCONFIGURED` when the key is missing, not safely kept, or no age identity.
        """
        if self._sealer is None:
            try:
                self._sealer = Sealer(self._key_text())
            except BadIdentityError as error:
                raise misconfigured(
                    f"The key of the store {self._root} holds {error}.",
                    "Point `key` of the store at the identity file that age-keygen or `keyturn init` wrote.",
                ) from None
            except KeyturnError as error:
                raise misconfigured(
                    f"The key of the store {self._root} is not available. {error.what}", error.todo
                ) from None
        return self._sealer

    # How it is done.

    def _folder(self, path: str) -> Path:
        # The way down is looked at once: whoever could put a link there could change the files as well.
        folder = self._folders.get(path)
        if folder is None:
            folder = self._folders[path] = disk.locate(self._root, path)
        return folder

    def _open(self, path: str, info: SlotInfo, sealed: bytes) -> Stored:
        name = disk.version_file(info.version)
        try:
            material, meta = self.sealer().open(sealed)
        except WrongKeyError:
            if self._for_a_bot:
                raise not_for_this_bot(path, name, self.sealer().recipient) from None
            raise wrong_key(path, name) from None
        except DamagedError as error:
            raise corrupt(path, f"{name} cannot be opened: {error}") from None
        if meta != info.meta:
            raise corrupt(path, f"{name} holds another key than {disk.SLOTS} says")
        return Stored(info, material)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="keyturn-store")
        return self._pool

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads(), work)

    async def _ready_sealer(self) -> Sealer:
        # A keyring may ask over a bus, or a person.
        if self._sealer is None:
            return await self._in_thread(self.sealer)
        return self._sealer

    async def _sealed(
        self,
        path: str,
        verb: Callable[[Ledger], tuple[Ledger, T]],
        material: SecretMaterial,
        meta: KeyMeta,
        slot: Slot,
    ) -> Order[T]:
        self._formats.check(path, material)
        sealer, readers = await self._ready_sealer(), checked(path, self._readers)
        sealed = sealer.seal(material, meta, readers.of(slot))
        return Order(verb, sealer, sealed, gid=readers.gid(path))

    async def _readable(self, path: str, verb: Callable[[Ledger], tuple[Ledger, T]]) -> Order[T]:
        """Order a change that makes current what is there already; its readers can open it before that."""
        readers = checked(path, self._readers)
        if readers == NOBODY:
            return Order(verb)
        sealer, gid = await self._ready_sealer(), readers.gid(path)
        return Order(verb, sealer, readers=readers, resealing=frozenset({Slot.CURRENT}), gid=gid)

    def _is_open_to_others(self, path: str) -> bool:
        folder = self._folder(path)
        kept = self._pages.look(path, folder).ledger.kept()
        try:
            sealed = [disk.read_bytes(folder, disk.version_file(version)) for version in kept]
        except OSError as error:
            raise translate(error, path) from error
        return any(recipients_in(each) > 1 for each in sealed if each)

    async def _write(self, path: str, order: Order[T]) -> T:
        """Apply a verb. Waits for the lock in the event loop: a waiting thread would hold up other paths."""
        deadline, pause = time.monotonic() + self._lock_wait, _FIRST_PAUSE
        while True:
            try:
                change = decide(path, self._root, self._folder(path), self._pages, order)
                break
            except disk.BusyError:
                if time.monotonic() >= deadline:
                    raise StoreError(
                        StoreFault.UNAVAILABLE,
                        f"Another process is writing {path} and did not finish in {self._lock_wait:g} s.",
                        now="Nothing was changed.",
                        todo=f"Find who holds {disk.LOCK} in its folder (lsof), and try again.",
                    ) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if isinstance(change, Change):
            job = self._threads().submit(change.carry_out)
            try:
                # Shielded: what holds the lock ends by itself, also when nobody waits for it any more.
                await asyncio.shield(asyncio.wrap_future(job))
            finally:
                job.add_done_callback(lambda _: change.close())
        return change.answer
