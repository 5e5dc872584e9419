"""One change of a credential's folder, in two halves: drafted in the event loop, made to last in a thread.

To decide and to draft takes a few calls on small files that wait for nothing, less than it costs to wake
a thread; and a thread that is back from any call must win the interpreter again. To flush is to wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from keyturn.domain.slots import Slot
from keyturn.files import make_folder
from keyturn.stores import folder as disk
from keyturn.stores import sharing
from keyturn.stores.age_files_readers import NOBODY, Readers
from keyturn.stores.folder_faults import translate
from keyturn.stores.ledger import Ledger
from keyturn.stores.ledger_text import Page, dump
from keyturn.stores.sealing import DamagedError, Sealer, WrongKeyError
from keyturn.stores.slots_pages import Pages, corrupt, cut, headless, is_cut, signature_of, wrong_key

T = TypeVar("T")

# Bytes. Some ten changes of a young path: then a new file, so that readers never have much to read.
_LONGEST_SLOTS = 16 << 10


@dataclass(frozen=True, slots=True)
class Order(Generic[T]):
    """What is asked for.

    Args:
        verb: gives the ledger after the change, or the same one when nothing changes, and the answer.
        sealer: of a change that writes a secret, or will be followed by one.
        sealed: the new version's content, encrypted.
        destroying: what the slots no longer name must be gone for good before this is acknowledged.
        reserving: the room of a version that is to come is taken.
        readers: for whom besides the store the files are.
        resealing: the slots of the ledger after the change whose files must be for their readers before the
            ledger may say so. Such a file is replaced whole by another of the same content.
        gid: the group that may see the files; None leaves them to the store's user.
    """

    verb: Callable[[Ledger], tuple[Ledger, T]]
    sealer: Sealer | None = None
    sealed: bytes | None = None
    destroying: bool = False
    reserving: bool = False
    readers: Readers = NOBODY
    resealing: frozenset[Slot] = frozenset()
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The answer of a verb that had nothing to write."""

    answer: T


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """A change that was decided and drafted; it holds the writer's lock until `close`."""

    path: str
    answer: T
    pages: Pages
    writer: disk.Writer
    #: Folders to flush first, because the way down may be new.
    above: tuple[Path, ...]
    #: What must be on the disk before the slots may name it, in this order.
    files: tuple[disk.Draft, ...]
    #: The slots to put in place or to add to, if they change, and what they say.
    slots: disk.Draft | disk.Addition | None
    page: Page
    rubbish: frozenset[str]
    destroying: bool

    def carry_out(self) -> None:
        """Put the drafts in place and remove what is no longer named. Waits for the disk.

        Raises:
            StoreError: the change was not made, or `OUTCOME_UNKNOWN`: whether it lasts is not known.
        """
        try:
            disk.flush_folders(self.above)
            for draft in self.files:
                self.writer.settle(draft)
            if self.destroying:
                self._destroy()
            if isinstance(self.slots, disk.Addition):
                self.writer.extend(self.slots)
            elif self.slots:
                self.writer.settle(self.slots, pivot=True)
            if not self.destroying:
                self._clear()
        except OSError as error:
            self.writer.discard_drafts()
            raise translate(error, self.path, pivoted=self.writer.pivoted) from error

    def _destroy(self) -> None:
        """Remove what the slots will no longer name, for good.

        Before the slots say so: whoever dies in between leaves a slot that still shows what is gone, which
        is discarded again. The other way round nothing would show what is left.
        """
        if self.rubbish:
            self.writer.remove(self.rubbish)
            self.writer.flush()

    def _clear(self) -> None:
        """Remove what no slot names any more, if it can be: the next writer to come anew does it, too."""
        with suppress(OSError):
            self.writer.remove(self.rubbish)

    def close(self) -> None:
        """Let the lock go; what the slots say now is remembered."""
        if self.slots and self.writer.pivoted:
            status = os.fstat(self.slots.descriptor)
            self.pages.remember(self.path, signature_of(status), self.page, ours=True)
            self.writer.note(status)
        self.writer.close()


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a writer finds."""

    page: Page
    #: The modification time of the slots in ns; 0 when there are none.
    modified: int
    #: Where their last finished line ends, and whether anything stands behind it.
    end: int = 0
    torn: bool = False
    #: Files that no slot names: a killed writer left them.
    left: frozenset[str] = frozenset()
    #: The first version number that nobody has used.
    floor: int = 1


def decide(path: str, root: Path, folder: Path, pages: Pages, order: Order[T]) -> Change[T] | Done[T]:
    """Take the lock, work out what to write, and draft it.

    Args:
        path: of the credential.
        root: of the store.
        folder: of the path.
        pages: what is known of the slots.
        order: what is asked for.

    Raises:
        BusyError: another writer holds the lock.
        StoreError: the verb refused, or the folder is damaged or cannot be used; nothing was changed.
    """
    try:
        try:
            writer = disk.Writer(folder, order.gid)
        except FileNotFoundError:
            # What changes nothing here, or is refused, leaves no empty folder behind.
            after, answer = order.verb(empty := Ledger())
            if after is empty:
                return Done(answer)
            make_folder(folder)
            writer = disk.Writer(folder, order.gid)
        try:
            if order.gid is not None:
                sharing.let_pass(disk.above(root, folder)[:-1])
                writer.share()
            change = _plan(path, root, folder, pages, writer, order)
        except BaseException:
            writer.discard_drafts()
            writer.close()
            raise
    except OSError as error:
        raise translate(error, path) from error
    if change.slots or change.rubbish or change.files:
        return change
    writer.close()
    return Done(change.answer)


def _look(path: str, pages: Pages, writer: disk.Writer) -> _Sight:
    status = writer.status(disk.SLOTS)
    if status and (known := pages.ours(path, signature_of(status))):
        # What somebody may have left who was killed since is looked for by those who come anew.
        return _Sight(known, status.st_mtime_ns, status.st_size)
    text = writer.read(disk.SLOTS)
    present = writer.names()
    versions = disk.version_files(present)
    if text is None and versions:
        raise headless(path, versions)
    page, end = (Page(), 0) if text is None else pages.parse(path, text)
    if status and is_cut(signature_of(status), end, writer.noted()):
        raise cut(path)
    kept = {disk.version_file(version) for version in page.ledger.kept()}
    left = {name for name in present if name.startswith(disk.TEMPORARY)} | (versions.keys() - kept)
    floor = max(versions.values(), default=0) + 1
    modified = status.st_mtime_ns if status else 0
    return _Sight(page, modified, end, end < len(text or b""), frozenset(left), floor)


def _expect_content(path: str, writer: disk.Writer, before: Ledger, after: Ledger) -> None:
    """Refuse to make a version current whose file is gone: a discard of it was cut short, or worse."""
    moved = after.current if after.current != before.current else None
    if moved and moved.version in before.kept() and not writer.status(disk.version_file(moved.version)):
        raise corrupt(path, f"{disk.version_file(moved.version)}, which was to be current, is missing")


def _slots(writer: disk.Writer, sight: _Sight, line: bytes) -> disk.Draft | disk.Addition:
    """Add a line to the slots, or begin them anew when they have grown long."""
    if not sight.modified or sight.end + len(line) > _LONGEST_SLOTS:
        writer.note(None)
        return writer.draft(disk.SLOTS, line, newer_than=sight.modified)
    addition = writer.addition(disk.SLOTS, line, sight.end)
    if sight.torn:
        writer.cut(addition)
    return addition


def _resealed(
    path: str, writer: disk.Writer, sealer: Sealer | None, order: Order[T], after: Ledger
) -> list[disk.Draft]:
    """Draft anew what is encrypted for others than may read it.

    A file that cannot be opened is for nobody, and stays; the one that is to be read is told.
    """
    drafts = []
    for slot in sorted(order.resealing) if sealer else ():
        held = after.held(slot)
        name = disk.version_file(held.version) if held and held.meta else ""
        present = writer.read(name) if name else None
        if sealer is None or present is None:
            continue  # a discard of it was cut short
        try:
            fresh = sealer.resealed(present, order.readers.of(slot))
        except (WrongKeyError, DamagedError) as error:
            if slot is not Slot.CURRENT:
                continue
            if isinstance(error, WrongKeyError):
                raise wrong_key(path, name) from None
            raise corrupt(path, f"{name} cannot be opened: {error}") from None
        if fresh is not None:
            drafts.append(writer.draft(name, fresh))
    return drafts


def _plan(
    path: str, root: Path, folder: Path, pages: Pages, writer: disk.Writer, order: Order[T]
) -> Change[T]:
    sight = _look(path, pages, writer)
    page, sealer, sealed = sight.page, order.sealer, order.sealed
    if sealer and page.recipient not in {None, *sealer.recipients}:
        raise wrong_key(path, disk.SLOTS)
    before = page.ledger
    if before.next_number < sight.floor:
        before = replace(before, next_number=sight.floor)
    after, answer = order.verb(before)
    _expect_content(path, writer, before, after)
    changed, new = after is not before, not sight.modified
    slots = None
    if changed:
        writer.remove(name for name in sight.left if name.startswith(disk.TEMPORARY))
    files = _resealed(path, writer, sealer, order, after)
    if sealed is not None and changed:
        if new:
            # Before the first version file: files without slots then always mean damage.
            files.append(writer.draft(disk.SLOTS, dump(page)))
        (version,) = after.kept() - before.kept()
        staged = after.pending != before.pending
        files.append(writer.draft(disk.version_file(version), sealed, reserved=staged))
    if changed and order.reserving:
        writer.reserve()
    page = Page(after, sealer.recipient if sealer and sealed else page.recipient)
    if changed:
        slots = _slots(writer, sight, dump(page))
    gone = {disk.version_file(version) for version in before.kept() - after.kept()}
    if before.pending and not before.pending.meta and not (after.pending or sealed):
        gone.add(disk.RESERVED)
    left = {name for name in sight.left if not name.startswith(disk.TEMPORARY)}
    return Change(
        path=path,
        answer=answer,
        pages=pages,
        writer=writer,
        above=disk.above(root, folder) if new and changed else (),
        files=tuple(files),
        slots=slots,
        page=page,
        rubbish=frozenset(gone | left),
        destroying=order.destroying,
    )
