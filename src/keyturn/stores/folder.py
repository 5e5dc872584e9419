"""The folder of one credential on disk: whole files, durable when acknowledged, one writer at a time.

A file appears under its name complete or not at all: it is written beside, flushed, renamed, and the
folder is flushed after it. POSIX promises no order between two names of a folder after a power cut,
so each step that a later one depends on is flushed by itself.
"""

from __future__ import annotations

import errno
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

SLOTS = "slots.json"
# A path's segment starts with a letter or a digit, so these two can never be one.
LOCK = ".lock"
TEMPORARY = ".writing"
_VERSION_FILE = re.compile(r"v([0-9]{6,})\.age")
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# More than any file of the store has.
_CHUNK = 1 << 20
# A file's time stamp is the system's last tick, and no tick is this long. On file systems that keep whole
# seconds only, a stamp a little later would be lost all the same; there the file's number differs.
_COARSE_NS = 50_000_000
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


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
        return _read(os.open(f"{folder}/{name}", _READING))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(descriptor: int) -> bytes:
    """Read all, and close. With fewer calls than a file object makes, for each gives the interpreter away."""
    try:
        parts = [os.read(descriptor, _CHUNK)]
        while len(parts[-1]) == _CHUNK:
            parts.append(os.read(descriptor, _CHUNK))
        return b"".join(parts)
    finally:
        os.close(descriptor)


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


def translate(error: OSError, path: str, *, pivoted: bool = False) -> StoreError:
    """Put an error of the operating system into the port's words.

    Args:
        error: what the system said.
        path: of the credential.
        pivoted: the new state may already be in place.
    """
    reason = (
        f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, error.errno)})"
    )
    if pivoted:
        return StoreError(
            StoreFault.OUTCOME_UNKNOWN,
            f"The write of {path} could not be confirmed: {reason}.",
            now="The new state is visible; whether it would survive a power cut is not known.",
            todo="Check the disk, then read the slots again.",
        )
    now = "Nothing was changed."
    if error.errno in _NO_SPACE:
        return StoreError(
            StoreFault.NO_SPACE,
            f"No room to write {path}: {reason}.",
            now=now,
            todo="Free disk space, then go on.",
        )
    if error.errno in _DENIED:
        return StoreError(
            StoreFault.DENIED,
            f"The system refuses access to {path}: {reason}.",
            now=now,
            todo="Give the user that runs keyturn read and write rights to the store's folder.",
        )
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"The folder of {path} cannot be used: {reason}.",
        now=now,
        todo="Check the disk and the mount.",
    )


def flush(descriptor: int) -> None:
    """Flush a file or folder so that it survives a power cut."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves the data in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def make_folder(folder: Path) -> None:
    """Create the folder and what is missing above it, each 0700."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        with suppress(FileExistsError):
            new.mkdir(mode=0o700)


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


class Writer:
    """A folder and its lock, from the making of this to `close`.

    `pivoted` turns true the moment the slots are replaced: an error after that leaves the new state.

    Raises:
        BusyError: another writer holds the lock; nothing was waited for.
        OSError: the folder cannot be opened or the lock file not created.
    """

    def __init__(self, folder: Path) -> None:
        self.pivoted = False
        self._drafts: list[Draft] = []
        self._folder = os.open(folder, _READING | os.O_DIRECTORY)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._held = os.open(LOCK, flags, 0o600, dir_fd=self._folder)
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
        for draft in self._drafts:
            os.close(draft.descriptor)
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
            return _read(os.open(name, _READING, dir_fd=self._folder))
        except FileNotFoundError:
            return None

    def draft(self, name: str, data: bytes, *, newer_than: int = 0) -> Draft:
        """Write a whole file beside the one that it will replace.

        Args:
            name: of the file.
            data: its content.
            newer_than: the modification time (ns) that the file's own must exceed, so that a changed
                file never carries the old time stamp, however coarse or wrong the clock.
        """
        written_as = f"{TEMPORARY}{len(self._drafts)}"
        try:
            descriptor = self._create(written_as)
        except FileExistsError:
            self.remove([written_as])  # a killed writer left it
            descriptor = self._create(written_as)
        self._drafts.append(draft := Draft(descriptor, written_as, name))
        _write_all(descriptor, data)
        if newer_than >= time.time_ns() - _COARSE_NS:
            stamp = max(time.time_ns(), newer_than + 1)
            os.utime(descriptor, ns=(stamp, stamp))
        return draft

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._folder)

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


def _expect_named(folder: int, held: int) -> None:
    # Somebody may have deleted the lock file between our open and our lock: a new one is another lock.
    try:
        named = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise BusyError from None
    mine = os.fstat(held)
    if not stat.S_ISREG(named.st_mode) or (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino):
        raise BusyError
