"""Groups by which two users of this machine, keyturn's and a bot's, share what one of them lets them see."""

from __future__ import annotations

import errno
import grp
import stat
from pathlib import Path


def number_of(group: str) -> int:
    """Give the number of a group; a text of digits is one.

    Raises:
        OSError: this machine has no group of that name.
    """
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.ENOENT, f"this machine has no group {group}") from None


def closed_to(gid: int, path: Path) -> Path | None:
    """Give the first folder on the way down to a path through which a group cannot pass; None if it can.

    Raises:
        OSError: the way cannot be looked at.
    """
    for folder in reversed(path.absolute().parents):
        status = folder.stat()
        passes = stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
        if not status.st_mode & passes:
            return folder
    return None
