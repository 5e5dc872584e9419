"""One change of a credential's folder, in two halves: decided in the event loop, written in a thread.

To decide takes a few reads of small files, less than it costs to wake a thread, and that for each file:
a thread that is back from the system must win the interpreter again. To write means to wait for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from keyturn.stores import folder as disk
from keyturn.stores.ledger import Ledger
from keyturn.stores.ledger_text import Page, dump
from keyturn.stores.sealing import Sealer
from keyturn.stores.slots_pages import Pages, headless, signature_of, wrong_key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order(Generic[T]):
    """What is asked for.

    Args:
        verb: gives the ledger after the change, or the same one when nothing changes, and the answer.
        sealer: of a change that writes a secret, or will be followed by one.
        sealed: the new version's content, encrypted.
        destroying: what the slots no longer name must be gone for good before this is acknowledged.
    """

    verb: Callable[[Ledger], tuple[Ledger, T]]
    sealer: Sealer | None = None
    sealed: bytes | None = None
    destroying: bool = False


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The answer of a verb that had nothing to write."""

    answer: T


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """A change that was decided, and holds the writer's lock until it was carried out."""

    path: str
    answer: T
    pages: Pages
    writer: disk.Writer
    #: Folders to flush first, because the way down may be new.
    above: tuple[Path, ...]
    #: What must be on the disk before the slots may name it, in this order.
    files: tuple[tuple[str, bytes], ...]
    #: The slots to put in place, if they change.
    page: Page | None
    rubbish: frozenset[str]
    destroying: bool

    def carry_out(self) -> T:
        """Write, and let the lock go. Waits for the disk.

        Raises:
            StoreError: the change was not made, or `OUTCOME_UNKNOWN`: whether it lasts is not known.
        """
        try:
            disk.flush_folders(self.above)
            for name, data in self.files:
                self.writer.write(name, data)
            if self.page:
                text = dump(self.page)
                self.writer.write(disk.SLOTS, text, newer_than=self.writer.modified(disk.SLOTS), pivot=True)
                self.pages.remember(self.path, signature_of(self.writer.status(disk.SLOTS)), text, self.page)
            self._clear()
        except OSError as error:
            raise disk.translate(error, self.path, pivoted=self.writer.pivoted) from error
        finally:
            self.writer.close()
        return self.answer

    def _clear(self) -> None:
        """Remove what no slot names: what was just destroyed, and what a killed writer left."""
        try:
            self.writer.remove(self.rubbish)
            if self.destroying and self.rubbish:
                self.writer.flush()
        except OSError:
            if self.destroying:
                raise


def decide(path: str, root: Path, pages: Pages, order: Order[T]) -> Change[T] | Done[T]:
    """Take the lock and work out what to write.

    Raises:
        BusyError: another writer holds the lock.
        StoreError: the verb refused, or the folder is damaged or cannot be used; nothing was changed.
    """
    folder = disk.locate(root, path)
    try:
        if not folder.is_dir():
            # What changes nothing here, or is refused, leaves no empty folder behind.
            after, answer = order.verb(empty := Ledger())
            if after is empty:
                return Done(answer)
            disk.make_folder(folder)
        writer = disk.Writer(folder)
        try:
            change = _plan(path, root, pages, writer, order)
        except BaseException:
            writer.close()
            raise
    except OSError as error:
        raise disk.translate(error, path) from error
    if change.page or change.rubbish:
        return change
    writer.close()
    return Done(change.answer)


def _plan(path: str, root: Path, pages: Pages, writer: disk.Writer, order: Order[T]) -> Change[T]:
    text = writer.read(disk.SLOTS)
    present = disk.version_files(writer.names())
    if text is None and present:
        raise headless(path, present)
    page = Page() if text is None else pages.parse(path, text)
    sealer, sealed = order.sealer, order.sealed
    if sealer and page.recipient not in {None, *sealer.recipients}:
        raise wrong_key(path, disk.SLOTS)
    # A file that a killed writer left has used its number up.
    floor = max(present.values(), default=0) + 1
    before = page.ledger
    if before.next_number < floor:
        before = replace(before, next_number=floor)
    after, answer = order.verb(before)
    changed = after is not before
    files = []
    if sealed is not None and changed:
        if text is None:
            # Before the first version file: files without slots then always mean damage.
            files.append((disk.SLOTS, dump(page)))
        (version,) = after.kept() - before.kept()
        files.append((disk.version_file(version), sealed))
    kept = {disk.version_file(version) for version in after.kept()}
    recipient = sealer.recipient if sealer and sealed else page.recipient
    return Change(
        path=path,
        answer=answer,
        pages=pages,
        writer=writer,
        above=disk.above(root, root / path) if text is None and changed else (),
        files=tuple(files),
        page=Page(after, recipient) if changed else None,
        rubbish=frozenset(present.keys() - kept),
        destroying=order.destroying,
    )
