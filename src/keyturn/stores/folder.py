"""The folder of one credential on disk: durable when acknowledged, one writer at a time.

A file appears under its name complete or not at all: it is written beside, flushed, renamed, and the
folder is flushed after it. POSIX promises no order between two names of a folder after a power cut,
so each step that a later one depends on is flushed by itself.

The slots are a file of lines, of which the last counts. A change adds a line, which takes one flush where a
new file takes two, and no new file; a line without its end was never finished. How long the file was made is
noted in the lock's file: one that is shorter was cut.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import PATH_PATTERN
from keyturn.files import open_file, take
from keyturn.stores import sharing
from keyturn.stores.slots_lines import Note, read_note

SLOTS = "slots.json"
# A path's segment starts with a letter or a digit, so these two can never be one.
LOCK = ".lock"
TEMPORARY = ".writing"
_VERSION_FILE = re.compile(r"v([0-9]{6,})\.age")
# Holds the room of the next version from its claim on; named like what a killed writer leaves, for it may be.
RESERVED = f"{TEMPORARY}-next"
# A sealed key has less than a kilobyte, and file systems give room by 4 KiB.
_RESERVED_BYTES = 4096
# More than any file of the store has.
_MOST_BYTES = 1 << 20
# Two numbers of twenty digits at most.
_NOTE_BYTES = 42
# A file's time stamp is the system's last tick, and no tick is this long. On file systems that keep whole
# seconds only, a stamp a little later would be lost all the same; there the file's number differs.
_COARSE_NS = 50_000_000


class BusyError(Exception):
    """Another writer holds the lock of the folder."""


def version_file(version: str) -> str:
    """Give the file name of a version."""
    return f"{version}.age"


def locate(root: Path, path: str) -> Path:
    """Give the folder of a credential's path, whether it exists or not.

    Raises:
        StoreError: `MISCONFIGURED` when the path could lead anywhere else than below the root.
    """
    segments = path.split("/")
    if not re.fullmatch(PATH_PATTERN, path) or any(
        s == SLOTS or _VERSION_FILE.fullmatch(s) for s in segments
    ):
        raise StoreError(
            StoreFault.MISCONFIGURED,
            f"{path!r} is not a path of this store.",
            now="Nothing was read or written.",
            todo="Use segments of letters, digits, '_', '-' and '.', joined by '/', "
            f"none of them named {SLOTS} or like a version file.",
        )
    folder = str(root)
    for segment in segments:
        folder = f"{folder}/{segment}"
        if os.path.islink(folder):  # noqa: PTH114  (a folder that may not be searched is for the open to tell)
            raise StoreError(
                StoreFault.MISCONFIGURED,
                f"{path} leads through a symbolic link, {folder}.",
                now="Nothing was read or written.",
                todo="Replace the link by a real folder.",
            )
    return Path(folder)


def read_bytes(folder: Path, name: str) -> bytes | None:
    """Read a file of the folder; None when it is not there. Creates nothing and takes no lock."""
    try:
        return take(open_file(f"{folder}/{name}"), _MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names(folder: Path | int) -> list[str]:
    """List the files of a folder; none when it is not there."""
    try:
        return os.listdir(folder)  # noqa: PTH208  (takes a descriptor, which pathlib does not)
    except (FileNotFoundError, NotADirectoryError):
        return []


def version_files(among: Iterable[str]) -> dict[str, int]:
    """Give the version files among file names, with their numbers."""
    matches = ((name, _VERSION_FILE.fullmatch(name)) for name in among)
    return {name: int(match[1]) for name, match in matches if match}


def flush(descriptor: int) -> None:
    """Flush a file or folder so that it survives a power cut."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves the data in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def above(root: Path, folder: Path) -> tuple[Path, ...]:
    """List the folders on the way down to a folder, from its parent up to the folder that holds the root.

    To be flushed at the first write, also when the folder was there: whoever made it may have been killed
    before it flushed.
    """
    way = []
    while folder != root.parent:
        folder = folder.parent
        way.append(folder)
    return tuple(way)


def flush_folders(folders: Iterable[Path]) -> None:
    """Make what these folders list durable."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flush(descriptor)
        finally:
            os.close(descriptor)


def lock(descriptor: int) -> None:
    """Take the writer's lock without waiting.

    Raises:
        BusyError: somebody else holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError from None


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole file that is written and not yet flushed, under its own name or a temporary one."""

    descriptor: int
    written_as: str
    name: str


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be added to a file, of which the first `at` bytes stand."""

    descriptor: int
    data: bytes
    at: int


class Writer:
    """A folder and its lock, from the making of this to `close`.

    With a group (its number) the folder's slots and versions can be read by that group, and nothing else.
    `pivoted` turns true the moment the slots are replaced: an error after that leaves the new state.

    Raises:
        BusyError: another writer holds the lock; nothing was waited for.
        OSError: the folder cannot be opened or the lock file not created.
    """

    def __init__(self, folder: Path, gid: int | None = None) -> None:
        self.pivoted = False
        self._gid = gid
        self._drafts: list[Draft] = []
        self._open: list[int] = []
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._held = open_file(LOCK, os.O_RDWR | os.O_CREAT, folder=self._folder)
            try:
                lock(self._held)
                _expect_named(self._folder, self._held)
            except BaseException:
                os.close(self._held)
                raise
        except BaseException:
            os.close(self._folder)
            raise

    def close(self) -> None:
        """Let the lock go, and remove what was drafted in vain."""
        for descriptor in self._open:
            os.close(descriptor)
        os.close(self._held)
        os.close(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Where nothing waits for the disk.

    def names(self) -> list[str]:
        """List the files."""
        return names(self._folder)

    def read(self, name: str) -> bytes | None:
        """Read a file; None when it is not there."""
        try:
            return take(open_file(name, folder=self._folder), _MOST_BYTES)
        except FileNotFoundError:
            return None

    def draft(self, name: str, data: bytes, *, newer_than: int = 0, reserved: bool = False) -> Draft:
        """Write a whole file beside the one that it will replace.

        Args:
            name: of the file.
            data: its content.
            newer_than: the modification time (ns) that the file's own must exceed, so that a changed
                file never carries the old time stamp, however coarse or wrong the clock.
            reserved: it takes the room that `reserve` made, if that is still there.
        """
        descriptor, written_as = (reserved and self._reserved()) or self._create()
        self._open.append(descriptor)
        self._drafts.append(draft := Draft(descriptor, written_as, name))
        _write_all(descriptor, data)
        if written_as == RESERVED:
            os.ftruncate(descriptor, len(data))
        sharing.share_file(descriptor, self._gid)
        if newer_than >= time.time_ns() - _COARSE_NS:
            stamp = max(time.time_ns(), newer_than + 1)
            os.utime(descriptor, ns=(stamp, stamp))
        return draft

    def reserve(self) -> None:
        """Take the room of a version that is still to come: a full disk is met before there is a secret."""
        descriptor = open_file(RESERVED, os.O_WRONLY | os.O_CREAT, folder=self._folder)
        try:
            _write_all(descriptor, bytes(_RESERVED_BYTES))
        except OSError:
            self.remove([RESERVED])
            raise
        finally:
            os.close(descriptor)

    def share(self) -> None:
        """Let the group see the folder, its slots and its versions; the lock stays with its user."""
        sharing.share_folder(self._folder, self._gid)
        present = self.names()
        for name in (*version_files(present), *({SLOTS} & set(present))):
            descriptor = open_file(name, folder=self._folder)
            try:
                sharing.share_file(descriptor, self._gid)
            finally:
                os.close(descriptor)

    def _reserved(self) -> tuple[int, str] | None:
        try:
            return open_file(RESERVED, os.O_WRONLY, folder=self._folder), RESERVED
        except FileNotFoundError:
            return None

    def _create(self) -> tuple[int, str]:
        written_as = f"{TEMPORARY}{len(self._drafts)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return open_file(written_as, flags, folder=self._folder), written_as
        except FileExistsError:
            self.remove([written_as])  # a killed writer left it
            return open_file(written_as, flags, folder=self._folder), written_as

    def addition(self, name: str, data: bytes, at: int) -> Addition:
        """Open a file to add to it, behind its first `at` bytes; nothing is written yet."""
        descriptor = open_file(name, os.O_WRONLY, folder=self._folder)
        self._open.append(descriptor)
        return Addition(descriptor, data, at)

    def note(self, status: os.stat_result | None) -> None:
        """Note how long the slots are, or that it is not known. Not flushed: it never runs ahead of them."""
        words = f"{status.st_ino} {status.st_size}" if status else "-"
        with suppress(OSError):  # it only helps to find damage
            os.pwrite(self._held, words.ljust(_NOTE_BYTES).encode(), 0)

    def noted(self) -> Note | None:
        """Read the note."""
        return read_note(os.pread(self._held, _NOTE_BYTES, 0))

    def status(self, name: str) -> os.stat_result | None:
        """Give what the system knows of a file; None when it is not there."""
        try:
            return os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def discard_drafts(self) -> None:
        """Remove what will not be put in place."""
        for draft in self._drafts:
            with suppress(OSError):  # the next writer removes it
                os.unlink(draft.written_as, dir_fd=self._folder)

    # What waits for the disk.

    def settle(self, draft: Draft, *, pivot: bool = False) -> None:
        """Put a draft in place, durably.

        Args:
            draft: the file; one of its name is replaced.
            pivot: once the file has its name, the new state is in place.
        """
        flush(draft.descriptor)
        os.rename(draft.written_as, draft.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.pivoted = self.pivoted or pivot
        flush(self._folder)

    def extend(self, addition: Addition) -> None:
        """Add to a file, durably: the pivot is its last byte."""
        try:
            _write_all_at(addition.descriptor, addition.data, addition.at)
        except OSError:
            with suppress(OSError):  # a line without its end counts for nothing; the next writer cuts it off
                os.ftruncate(addition.descriptor, addition.at)
            raise
        self.pivoted = True
        flush(addition.descriptor)

    def cut(self, addition: Addition) -> None:
        """Cut off what a killed writer left behind the end."""
        os.ftruncate(addition.descriptor, addition.at)

    def remove(self, names: Iterable[str]) -> None:
        """Unlink files; those that are gone already count as done."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)

    def flush(self) -> None:
        """Make what was unlinked stay so."""
        flush(self._folder)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_all_at(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def _expect_named(folder: int, held: int) -> None:
    # Somebody may have deleted the lock file between our open and our lock: a new one is another lock.
    try:
        named = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise BusyError from None
    mine = os.fstat(held)
    if not stat.S_ISREG(named.st_mode) or (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino):
        raise BusyError
