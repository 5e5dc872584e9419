"""Files on this machine, opened so that what somebody put in their place neither hangs nor misleads keyturn.

What is opened is a regular file, and no link where the folder is keyturn's own. A FIFO would hold whoever
opens it until another comes, a device may do anything, and a link leads to a file that somebody else chose.
What is made here can be written by its owner alone, whatever the umask is.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

#: Bytes of a file that holds one secret, a process id or the like; chains of certificates have some thousand.
SMALL = 64 << 10


def open_file(
    path: str | Path,
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    folder: int | None = None,
    links: bool = False,
) -> int:
    """Open a regular file without waiting for anybody.

    Args:
        path: of the file, or its name in `folder`.
        flags: as of `os.open`.
        mode: of a file that is made.
        folder: a descriptor.
        links: whether `path` itself may be a link: for paths that the operator wrote.

    Raises:
        OSError: as of `os.open`; `ELOOP` for a link, `EINVAL` for what is no regular file.
    """
    safely = os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags | safely, mode, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise OSError(errno.ELOOP, "it is a link", str(path)) from None
        if error.errno == errno.ENXIO:  # a socket, or a FIFO that nobody reads
            raise _no_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "it is no regular file", str(path))


def read_file(path: str | Path, most: int, *, folder: int | None = None, links: bool = False) -> bytes:
    """Read a regular file as a whole.

    Args:
        path: of the file, or its name in `folder`.
        most: the bytes that it may have.
        folder: a descriptor.
        links: as of `open_file`.

    Raises:
        OSError: as of `open_file`; `EFBIG` where it is longer.
    """
    return take(open_file(path, folder=folder, links=links), most)


def take(descriptor: int, most: int) -> bytes:
    """Read all of a file of at most `most` bytes, and close it.

    Raises:
        OSError: `EFBIG` where it is longer.
    """
    try:
        # One call, as a file gives all that it has: each call more gives the interpreter away.
        data = os.read(descriptor, most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make a folder and what is missing above it, each with the same rights.

    Raises:
        OSError: it cannot be made; `ENOTDIR` where something else is there.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        with suppress(FileExistsError):
            new.mkdir(mode)
            continue
        if not new.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(new))


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet.

    Raises:
        FileExistsError: something is there.
        OSError: it cannot be written.
    """
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
