"""The folder of a mailbox: of one user, or of two in one group; never open to anybody else.

Two users share it where the inventory names a `group`, or where the folder of the mailboxes was made with the
set-group-id bit: what is made in it has that group then, whoever makes it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OWN_FOLDER, _OWN_FILE = 0o700, 0o600
_SHARED_FOLDER, _SHARED_FILE = 0o2770, 0o660
# What a folder has that a group shares.
_SHARED = stat.S_ISGID | stat.S_IRWXG
_PASS = 0o011


def settle(folder: Path, gid: int | None) -> int:
    """Make a mailbox's folder, if it is not there, and give the mode that files in it have.

    Args:
        folder: `<mailbox>/<consumer>`.
        gid: the group that the inventory names; None where it names none, and for a bot.

    Raises:
        OSError: it cannot be made, or not be given to the group.
    """
    made = _make(folder)
    if gid is not None:
        _give(folder, gid)
    elif made and is_shared(folder.parent):
        # Not by mkdir, which the umask has its say in.
        folder.chmod(_SHARED_FOLDER)
    return _SHARED_FILE if is_shared(folder) else _OWN_FILE


def is_shared(folder: Path) -> bool:
    """Tell whether a group may do in a folder what its owner may."""
    return folder.stat().st_mode & _SHARED == _SHARED


def _make(folder: Path) -> bool:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=_OWN_FOLDER, exist_ok=True)
    return bool(missing)


def _give(folder: Path, gid: int) -> None:
    """Give a folder to a group, and let it pass through the folder of the mailboxes."""
    above = stat.S_IMODE(folder.parent.stat().st_mode)
    if above & _PASS != _PASS:
        folder.parent.chmod(above | _PASS)
    status = folder.stat()
    if status.st_gid != gid:
        os.chown(folder, -1, gid)
    # After the change of group, which takes the bit away.
    if stat.S_IMODE(status.st_mode) != _SHARED_FOLDER or status.st_gid != gid:
        folder.chmod(_SHARED_FOLDER)
