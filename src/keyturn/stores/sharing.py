"""What a store's files let a group see: those of one path, for a bot that is another user of this machine.

The lock is never among them: whoever can open a file can lock it, and a bot could hold up its own rotation.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_FOLDER, _FILE = 0o750, 0o640
# To pass through a folder without listing it.
_PASS = 0o011


def share_folder(descriptor: int, gid: int | None) -> None:
    """Let a group see what a folder lists; None leaves it as it is."""
    _share(descriptor, gid, _FOLDER)


def share_file(descriptor: int, gid: int | None) -> None:
    """Let a group read a file; None leaves it as it is."""
    _share(descriptor, gid, _FILE)


def let_pass(folders: Iterable[Path]) -> None:
    """Let others pass through folders; what is in them is closed or open by its own mode."""
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & _PASS != _PASS:
            folder.chmod(mode | _PASS)


def _share(descriptor: int, gid: int | None, mode: int) -> None:
    if gid is None:
        return
    status = os.fstat(descriptor)
    if status.st_gid != gid:
        os.fchown(descriptor, -1, gid)
    if stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(descriptor, mode)
