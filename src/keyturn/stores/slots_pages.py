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
from keyturn.stores.ledger_text import NewerFormatError, Page, load

#: Tells that the slots of a path changed; compare for equality only. None: nothing is stored there.
Signature = tuple[int, int, int] | None

# More rotations than a worker has under way at a time; a page is some kilobytes.
_REMEMBERED = 256


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
            raise disk.translate(error, path) from error

    def look(self, path: str, folder: Path) -> Page:
        """Give the page as it is on the disk now.

        Raises:
            StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format, `DENIED`, `UNAVAILABLE`.
        """
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
        except OSError as error:
            raise disk.translate(error, path) from error
        if text is None:
            return Page()
        page = self.parse(path, text)
        self.remember(path, signature, page, ours=False)
        return page

    def ours(self, path: str, signature: Signature) -> Page | None:
        """Give the page, if the last to write a file of this signature were we."""
        known = self._known.get(path)
        return known.page if known and known.ours and known.signature == signature else None

    @staticmethod
    def parse(path: str, text: bytes) -> Page:
        """Give the page of a text.

        Raises:
            StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format.
        """
        try:
            return load(text)
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
        "Point `key` of the store at the identity that the store was written with.",
    )


def corrupt(path: str, problem: str) -> StoreError:
    """Give the error for stored files that are not whole."""
    return StoreError(
        StoreFault.CORRUPT,
        f"What is stored at {path} is damaged: {problem}.",
        now="It is left as it is; nothing writes to this path until it is mended.",
        todo="Restore the folder from a backup. Without one, move it away and take the key in by hand.",
    )
