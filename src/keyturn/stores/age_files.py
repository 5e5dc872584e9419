"""The embedded store: a folder a credential, one age file a version, one small file for the slots.

`slots.json` is the truth, and replacing it is the one step that changes anything (the pivot of a
promotion too). A version file is complete and flushed before the slots name it, is never written
again, and is unlinked after they stopped naming it. So a crash at any point leaves the old state or
the new one, and a version file that no slot names is rubbish which the next writer removes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keyturn.domain.errors import KeyturnError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores import folder as disk
from keyturn.stores.formats import SINGLE, Formats
from keyturn.stores.ledger import Ledger
from keyturn.stores.ledger_text import NewerFormatError, Page, dump, load
from keyturn.stores.sealing import BadIdentityError, DamagedError, Sealer, WrongKeyError

if TYPE_CHECKING:
    from keyturn.domain.inventory import AgeFilesStore as AgeFilesEntry

T = TypeVar("T")
#: Tells that the slots of a path changed; compare for equality only. None: nothing is stored there.
Signature = tuple[int, int, int] | None

# Enough for the disk to join the flushes of several writers into one; more only fight for the interpreter.
_THREADS = 8
# A write takes milliseconds; whoever holds the lock longer than this hangs or is stopped in a debugger.
_LOCK_WAIT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05


def open_age_files(entry: AgeFilesEntry, base: Path, formats: Formats = SINGLE) -> AgeFilesStore:
    """Open the store that an inventory entry describes; nothing is read until it is needed.

    Args:
        entry: of the inventory.
        base: the folder of the inventory.
        formats: what the keys must fit; files have a form of their own, their mirrors may not.
    """
    from keyturn.stores.keys import resolve_secret

    return AgeFilesStore(base / entry.path, lambda: resolve_secret(entry.key, base), formats=formats)


class AgeFilesStore:
    """A `SecretStore` in files. The `*_sync` methods and `signature` are for bots: they only read.

    Args:
        root: the store's folder; made at the first write.
        key_text: gives the text of the age identity file; called when it is first needed.
        lock_wait: seconds to wait for another writer of the same path.
        formats: what the keys must fit.
    """

    def __init__(
        self,
        root: Path,
        key_text: Callable[[], str],
        *,
        lock_wait: float = _LOCK_WAIT,
        formats: Formats = SINGLE,
    ) -> None:
        self._root = root.absolute()
        self._key_text = key_text
        self._lock_wait = lock_wait
        self._formats = formats
        self._sealer: Sealer | None = None
        self._pool: ThreadPoolExecutor | None = None

    # The port's methods.

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return await self._in_thread(lambda: self.peek_sync(path, slot))

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        return await self._in_thread(lambda: self.read_sync(path, slot))

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending, having made sure that what is minted next can be sealed; see the port."""
        return await self._write(path, lambda ledger: ledger.claim(path, attempt), sealing=True)

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""

        def verb(ledger: Ledger) -> tuple[Ledger, SlotInfo]:
            after = ledger.stage(path, claim, meta)
            return after, after.filled(Slot.PENDING)

        self._formats.check(path, material)
        return await self._write(path, verb, content=lambda sealer: sealer.seal(material, meta))

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current; see the port."""
        return await self._write(path, lambda ledger: ledger.promote(path, attempt, expect_current))

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous; see the port."""
        return await self._write(path, lambda ledger: ledger.restore_previous(path, expect_current))

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty pending or previous and unlink its file.

        The file is not overwritten first: on flash and on copying file systems that writes elsewhere.
        What stays on the disk is encrypted.
        """
        await self._write(path, lambda ledger: (ledger.discard(slot, version), None), destroying=True)

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""

        def verb(ledger: Ledger) -> tuple[Ledger, SlotInfo]:
            after = ledger.put(path, meta, expect_current)
            return after, after.filled(Slot.CURRENT)

        self._formats.check(path, material)
        return await self._write(path, verb, content=lambda sealer: sealer.seal(material, meta))

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Empty all slots and unlink their files; see the port, and `discard` on overwriting."""
        await self._write(path, lambda ledger: (ledger.vacate(path, expect_current), None), destroying=True)

    async def spread(self, path: str) -> Sequence[str]:
        """Give nothing: a file has no copies; see the port."""
        return ()

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions, oldest first; see the port."""
        folder = disk.locate(self._root, path)
        return (await self._in_thread(lambda: self._page(path, folder))).ledger.history()

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check key, folder, lock and every stored version, without writing; see the port."""
        from keyturn.stores.age_files_check import check

        return await self._in_thread(lambda: check(self, self._root, paths))

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
        folder = disk.locate(self._root, path)
        try:
            status = (folder / disk.SLOTS).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk.translate(error, path) from error
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def peek_sync(self, path: str, slot: Slot) -> SlotInfo | None:
        """Do what `peek` does, in this thread."""
        return self._page(path, disk.locate(self._root, path)).ledger.info(slot)

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Do what `read` does, in this thread."""
        folder = disk.locate(self._root, path)
        page = self._page(path, folder)
        while True:
            info = page.ledger.info(slot)
            if info is None or info.version not in page.ledger.kept():
                return None
            try:
                sealed = disk.read_bytes(folder, disk.version_file(info.version))
            except OSError as error:
                raise disk.translate(error, path) from error
            if sealed is not None:
                return self._open(path, info, sealed)
            # Not there: a writer may have moved the slot on between our two reads.
            before, page = page, self._page(path, folder)
            if page == before:
                raise _corrupt(path, f"{disk.version_file(info.version)}, which holds {slot}, is missing")

    def sealer(self) -> Sealer:
        """Give the cipher, with the key loaded.

        Raises:
            StoreError: `MISCONFIGURED` when the key is missing, not safely kept, or no age identity.
        """
        if self._sealer is None:
            try:
                self._sealer = Sealer(self._key_text())
            except BadIdentityError as error:
                raise _misconfigured(
                    f"The key of the store {self._root} holds {error}.",
                    "Point `key` of the store at the identity file that age-keygen or `keyturn init` wrote.",
                ) from None
            except KeyturnError as error:
                raise _misconfigured(
                    f"The key of the store {self._root} is not available. {error.what}", error.todo
                ) from None
        return self._sealer

    # How it is done.

    def _open(self, path: str, info: SlotInfo, sealed: bytes) -> Stored:
        name = disk.version_file(info.version)
        try:
            material, meta = self.sealer().open(sealed)
        except WrongKeyError:
            raise _wrong_key(path, name) from None
        except DamagedError as error:
            raise _corrupt(path, f"{name} cannot be opened: {error}") from None
        if meta != info.meta:
            raise _corrupt(path, f"{name} holds another key than {disk.SLOTS} says")
        return Stored(info, material)

    @staticmethod
    def _page(path: str, folder: Path) -> Page:
        try:
            text = disk.read_bytes(folder, disk.SLOTS)
            if text is None and (files := disk.version_files(disk.names(folder))):
                # The slots are written first: what came into being since the first look has them.
                text = disk.read_bytes(folder, disk.SLOTS)
                if text is None:
                    raise _headless(path, files)
        except OSError as error:
            raise disk.translate(error, path) from error
        return Page() if text is None else _load(path, text)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="keyturn-store")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _write(
        self,
        path: str,
        verb: Callable[[Ledger], tuple[Ledger, T]],
        *,
        content: Callable[[Sealer], bytes] | None = None,
        sealing: bool = False,
        destroying: bool = False,
    ) -> T:
        """Apply a verb. Waits for the lock in the event loop: a waiting thread would hold up other paths."""

        def work() -> T:
            return self._change(path, verb, content, sealing=sealing, destroying=destroying)

        deadline, pause = time.monotonic() + self._lock_wait, _FIRST_PAUSE
        while True:
            try:
                return await self._in_thread(work)
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

    def _change(
        self,
        path: str,
        verb: Callable[[Ledger], tuple[Ledger, T]],
        content: Callable[[Sealer], bytes] | None,
        *,
        sealing: bool,
        destroying: bool,
    ) -> T:
        folder = disk.locate(self._root, path)
        sealer = self.sealer() if content or sealing else None
        sealed = content(sealer) if content and sealer else None
        writer: disk.Writer | None = None
        try:
            if not folder.is_dir():
                # What changes nothing here, or is refused, leaves no empty folder behind.
                after, answer = verb(empty := Ledger())
                if after is empty:
                    return answer
                disk.make_folder(folder)
            with disk.writing(folder) as writer:
                return self._apply(path, folder, writer, verb, sealer, sealed, destroying)
        except OSError as error:
            raise disk.translate(error, path, pivoted=bool(writer and writer.pivoted)) from error

    def _apply(
        self,
        path: str,
        folder: Path,
        writer: disk.Writer,
        verb: Callable[[Ledger], tuple[Ledger, T]],
        sealer: Sealer | None,
        sealed: bytes | None,
        destroying: bool,
    ) -> T:
        text = writer.read(disk.SLOTS)
        files = disk.version_files(writer.names())
        if text is None and files:
            raise _headless(path, files)
        page = Page() if text is None else _load(path, text)
        if sealer and page.recipient not in {None, *sealer.recipients}:
            raise _wrong_key(path, disk.SLOTS)
        # A file that a killed writer left has used its number up.
        floor = max(files.values(), default=0) + 1
        before = replace(page.ledger, next_number=max(page.ledger.next_number, floor))
        after, answer = verb(before)
        if after is not before:
            if text is None:
                disk.flush_above(self._root, folder)
            if sealed is not None:
                if text is None:
                    # Before the first version file: files without slots then always mean damage.
                    writer.write(disk.SLOTS, dump(page))
                    writer.pivoted = False
                (version,) = after.kept() - before.kept()
                writer.write(disk.version_file(version), sealed)
            recipient = sealer.recipient if sealer and sealed else page.recipient
            page = Page(after, recipient)
            writer.write(disk.SLOTS, dump(page), newer_than=writer.modified(disk.SLOTS))
        self._sweep(writer, files, page.ledger, durable=destroying)
        return answer

    @staticmethod
    def _sweep(writer: disk.Writer, files: dict[str, int], ledger: Ledger, *, durable: bool) -> None:
        """Remove what no slot names: what was just destroyed, and what a killed writer left."""
        kept = {disk.version_file(version) for version in ledger.kept()}
        rubbish = files.keys() - kept
        try:
            writer.remove(rubbish)
            if durable and rubbish:
                writer.flush()
        except OSError:
            if durable:
                raise


def _load(path: str, text: bytes) -> Page:
    try:
        return load(text)
    except NewerFormatError as error:
        raise _misconfigured(
            f"{disk.SLOTS} of {path} was written by a newer keyturn (format {error}).",
            "Upgrade keyturn here.",
        ) from None
    except ValueError as error:
        raise _corrupt(path, f"{disk.SLOTS} cannot be read: {error}") from None


def _headless(path: str, files: Iterable[str]) -> StoreError:
    return _corrupt(path, f"{disk.SLOTS} is missing beside {', '.join(sorted(files))}")


def _misconfigured(what: str, todo: str) -> StoreError:
    return StoreError(StoreFault.MISCONFIGURED, what, now="Nothing was changed.", todo=todo)


def _wrong_key(path: str, name: str) -> StoreError:
    return _misconfigured(
        f"The store's key does not fit {path}: {name} was written for another age identity.",
        "Point `key` of the store at the identity that the store was written with.",
    )


def _corrupt(path: str, problem: str) -> StoreError:
    return StoreError(
        StoreFault.CORRUPT,
        f"What is stored at {path} is damaged: {problem}.",
        now="It is left as it is; nothing writes to this path until it is mended.",
        todo="Restore the folder from a backup. Without one, move it away and take the key in by hand.",
    )
