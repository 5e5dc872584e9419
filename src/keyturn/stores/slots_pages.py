"""What the slots files of a store of files say, each read and parsed once for each change of it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.stores import folder as disk
from keyturn.stores.folder_faults import translate
from keyturn.stores.ledger_text import NewerFormatError, Page, load
from keyturn.stores.slots_lines import Note, newest_line, read_note

#: Tells that the slots of a path changed; compare for equality only. None: nothing is stored there.
Signature = tuple[int, int, int] | None

# More rotations than a worker has under way at a time; a page is some kilobytes.
_REMEMBERED = 256
# How often slots are read again that a writer seems to be changing at this moment.
_LOOKS = 5


@dataclass(frozen=True, slots=True)
class _Known:
    signature: Signature
    page: Page
    #: We wrote it, and left nothing beside it that no slot names.
    ours: bool


def signature_of(status: os.stat_result) -> Signature:
    """Give the signature of a slots file: every writer gives it a later time, and a file of its own."""
    return (status.st_mtime_ns, status.st_ino, status.st_size)


class Pages:
    """The pages by path, the newest few of them remembered. May be used by several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    @staticmethod
    def signature(path: str, folder: Path) -> Signature:
        """Give what differs after every change of the slots, for the price of one stat.

        Raises:
            StoreError: `DENIED`, `UNAVAILABLE`.
        """
        try:
            return signature_of(os.lstat(f"{folder}/{disk.SLOTS}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise translate(error, path) from error

    def look(self, path: str, folder: Path) -> Page:
        """Give the page as it is on the disk now.

        Raises:
            StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format, `DENIED`, `UNAVAILABLE`.
        """
        for _ in range(_LOOKS):
            # Taken before the text is read: if it is out of date at once, the next look reads again.
            signature = self.signature(path, folder)
            known = self._known.get(path)
            if known and known.signature == signature:
                return known.page
            try:
                text = disk.read_bytes(folder, disk.SLOTS)
                if text is None and (files := disk.version_files(disk.names(folder))):
                    # The slots are written first: what came into being since the first look has them.
                    text = disk.read_bytes(folder, disk.SLOTS)
                    if text is None:
                        raise headless(path, files)
                if text is None:
                    return Page()
                page, end = self.parse(path, text)
                # Not of another file, and read after the text: a writer may have added to it in between.
                if not is_cut(signature, end, read_note(_lock_text(folder))):
                    self.remember(path, signature, page, ours=False)
                    return page
            except OSError as error:
                raise translate(error, path) from error
        raise cut(path)

    def ours(self, path: str, signature: Signature) -> Page | None:
        """Give the page, if the last to write a file of this signature were we."""
        known = self._known.get(path)
        return known.page if known and known.ours and known.signature == signature else None

    @staticmethod
    def parse(path: str, text: bytes) -> tuple[Page, int]:
        """Give the page of the text's last finished line, and where that ends.

        Raises:
            StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format.
        """
        line, end = newest_line(text)
        try:
            return load(line), end
        except NewerFormatError as error:
            raise misconfigured(
                f"{disk.SLOTS} of {path} was written by a newer keyturn (format {error}).",
                "Upgrade keyturn here.",
            ) from None
        except ValueError as error:
            raise corrupt(path, f"{disk.SLOTS} cannot be read: {error}") from None

    def remember(self, path: str, signature: Signature, page: Page, *, ours: bool) -> None:
        """Keep a page for as long as the file has this signature."""
        self._known[path] = _Known(signature, page, ours)
        if len(self._known) > _REMEMBERED:
            with suppress(KeyError):  # another thread took the last one
                self._known.popitem(last=False)


def _lock_text(folder: Path) -> bytes | None:
    # A bot that is another user may see the slots and not the lock.
    with suppress(PermissionError):
        return disk.read_bytes(folder, disk.LOCK)
    return None


def is_cut(signature: Signature, end: int, note: Note | None) -> bool:
    """Tell whether slots that end there were longer once; a note of another file says nothing."""
    return note is not None and signature is not None and note.number == signature[1] and end < note.size


def cut(path: str) -> StoreError:
    """Give the error for slots that have lost their end."""
    problem = f"{disk.SLOTS} is shorter than it was written"
    todo = f" If you have put it there yourself, delete {disk.LOCK} beside it."
    error = corrupt(path, problem)
    return StoreError(error.fault, error.what, now=error.now, todo=error.todo + todo)


def headless(path: str, files: Iterable[str]) -> StoreError:
    """Give the error for version files without slots."""
    return corrupt(path, f"{disk.SLOTS} is missing beside {', '.join(sorted(files))}")


def misconfigured(what: str, todo: str) -> StoreError:
    """Give the error for what a person must set right; nothing was changed."""
    return StoreError(StoreFault.MISCONFIGURED, what, now="Nothing was changed.", todo=todo)


def wrong_key(path: str, name: str) -> StoreError:
    """Give the error for a file of another age identity."""
    return misconfigured(
        f"The store's key does not fit {path}: {name} was written for another age identity.",
        "Point `key` of the store at the identity that the store was written with. If that is lost for good,"
        f" move the folder {path} of the store away and rotate: the journal knows the key, which then dies.",
    )


def not_for_this_bot(path: str, name: str, recipient: str) -> StoreError:
    """Give the error for a bot that was not among the readers of its key."""
    return StoreError(
        StoreFault.DENIED,
        f"{name} of {path} is not encrypted for this bot's identity ({recipient}).",
        now="Nothing was changed.",
        todo=f"In keyturn's inventory, write `recipient: {recipient}` for the bot's consumer; then there:"
        " keyturn store reseal",
    )


def corrupt(path: str, problem: str) -> StoreError:
    """Give the error for stored files that are not whole."""
    return StoreError(
        StoreFault.CORRUPT,
        f"What is stored at {path} is damaged: {problem}.",
        now="It is left as it is; nothing writes to this path until it is mended.",
        todo="Restore the folder from a backup. Without one, move it away and take the key in by hand.",
    )
