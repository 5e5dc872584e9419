"""The files of a mailbox: found by their names, opened so that nothing that lies there can hold up a reader.

Only what is named like a message is looked at, so that stray files cost nothing; only regular files are
read, and no more of them than a message has; the folder is refused where every user may write to it.
Two users of one group, or of one access list, may share it (`shared_folder`).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from keyturn.access import expect_private
from keyturn.client.files import write_atomic
from keyturn.client.sealed import MAX_BYTES
from keyturn.client.shared_folder import is_of_group, is_of_list, settle
from keyturn.files import make_folder, read_file
from keyturn.groups import number_of

# Twice as many as the largest inventory has credentials: each leaves a notice, and there is one bot for many.
_MOST_MESSAGES = 20_000
# Looked at by name; a folder that has more is no mailbox, and a pass over it takes a second.
_MOST_FILES = 1_000_000
# A folder's time is the system's last tick: a change within one tick does not show. No tick is this long.
_COARSE_NS = 50_000_000
_NAME = re.compile(
    r"(notice|ack|refusals|probe-report|probe)-([A-Za-z0-9][A-Za-z0-9_]{0,63})-([a-z][a-z_]{0,31}|[0-9]{1,9})\.json"
)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a file that may be a message."""

    file: str
    prefix: str
    rotation_id: str


class MessageFolder:
    """One folder of messages. Methods block; several threads may use it.

    Where every user may write to the folder, or somebody owns it who may not, all of them raise.

    Args:
        path: of the folder; it is made by the first write, 0700, or 2770 where a group shares it, or 0770
            where the folder above hands an access list on.
        group: that the inventory lets use it, too.
        owners: users that may own it, beside those of the group or the list that shares it; None for any.
            A bot does not know who runs keyturn.
    """

    def __init__(
        self, path: Path, group: str | None = None, *, owners: AbstractSet[int] | None = None
    ) -> None:
        self.path = path
        self._group = group
        self._owners = owners
        self._listed: tuple[object, tuple[Name, ...]] | None = None

    def names(self) -> tuple[Name, ...]:
        """List what is named like a message, by name; nothing where there is no folder.

        Raises:
            OSError: the folder cannot be used; `EFBIG`: it holds more than a mailbox may.
        """
        with self._open() as folder:
            return () if folder is None else self._names(folder)

    def _names(self, folder: int) -> tuple[Name, ...]:
        now, before = time.time_ns(), os.fstat(folder)
        sign = (before.st_ino, before.st_mtime_ns)
        if self._listed and self._listed[0] == sign:
            return self._listed[1]
        found = tuple(sorted(_matches(folder, self.path), key=lambda name: name.file))
        settled = now - before.st_mtime_ns > _COARSE_NS
        self._listed = (sign, found) if settled else None
        return found

    def read(self, file: str) -> bytes | None:
        """Read a file; None when it is not there, or cannot be a message.

        Raises:
            OSError: the folder cannot be used, or the file not be read.
        """
        with self._open() as folder:
            if folder is None:
                return None
            try:
                return read_file(file, MAX_BYTES, folder=folder)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.EFBIG, errno.ENAMETOOLONG}:
                    return None
                raise

    def write(self, file: str, content: bytes) -> None:
        """Write a file, whole.

        Raises:
            OSError: it was not written.
        """
        gid, new = self._gid(), not self.path.is_dir()
        make_folder(self.path)
        with self._open() as folder:
            if folder is None:
                raise OSError(errno.ENOTDIR, "it is no folder", str(self.path))
            write_atomic(Path(file), content, settle(folder, gid, new=new), folder=folder)

    def remove(self, file: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OSError: it is still there.
        """
        with self._open() as folder, suppress(FileNotFoundError):
            if folder is not None:
                os.unlink(file, dir_fd=folder)

    def users(self) -> frozenset[int] | None:
        """Give the users that may own the folder as it is, also where it cannot be opened; None for any.

        Raises:
            OSError: this machine has no such group.
        """
        try:
            folder = self._descriptor()
        except OSError:
            return None if self._owners is None else frozenset(self._owners)
        try:
            return self._users(folder)
        finally:
            os.close(folder)

    def _users(self, folder: int) -> frozenset[int] | None:
        if self._owners is None:
            return None
        owner = os.fstat(folder).st_uid
        if owner not in self._owners and (
            is_of_group(folder, self._gid(), self._owners) or is_of_list(folder, self._owners)
        ):
            return frozenset({*self._owners, owner})
        return frozenset(self._owners)

    def _gid(self) -> int | None:
        return number_of(self._group) if self._group is not None else None

    def _descriptor(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    @contextmanager
    def _open(self) -> Iterator[int | None]:
        try:
            folder = self._descriptor()
        except (FileNotFoundError, NotADirectoryError):
            if self.path.is_symlink():
                raise OSError(errno.ELOOP, "it is a link", str(self.path)) from None
            yield None
            return
        try:
            expect_private(folder, self.path, self._users(folder))
            yield folder
        finally:
            os.close(folder)


def _matches(folder: int, path: Path) -> Iterator[Name]:
    messages = 0
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if match := _NAME.fullmatch(entry.name):
                messages += 1
                yield Name(entry.name, match[1], match[2])
            if messages > _MOST_MESSAGES or count > _MOST_FILES:
                raise OSError(errno.EFBIG, "it holds more files than a mailbox may", str(path))
