"""Files that are either the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from keyturn.files import open_file


def write_atomic(
    path: Path,
    content: bytes,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    *,
    folder: int | None = None,
) -> None:
    """Put `content` at `path` so that a reader, and a power cut, find the old file or the new one.

    Args:
        path: of the file; its folder must exist.
        content: all of it.
        mode: permission bits, set before the first byte is written.
        owner: user and group ids to give the file; None leaves the process's own.
        folder: a descriptor of the folder that `path` starts in; None for the working directory.

    Raises:
        OSError: nothing was replaced, and no temporary file stays behind.
    """
    # The name begins with a dot, so that no reader of the folder takes it for a message.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    handle = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    sync_folder(path.parent, folder)


def sync_folder(path: Path, folder: int | None = None) -> None:
    """Flush a folder's entries to the disk: the rename itself must outlive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
