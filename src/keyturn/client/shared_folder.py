"""The folder of a mailbox: of one user, or of two in one group or access list; never open to anybody else.

Two users share it where the inventory names a `group`, where the folder of the mailboxes was made with the
set-group-id bit, or where it hands an access list on (`setfacl -d`): what is made in it has that group or
that list then, whoever makes it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Set as AbstractSet

from keyturn.groups import has_list_for_new_files, listed_users

_OWN_FILE = 0o600
_SHARED_FOLDER, _SHARED_FILE = 0o2770, 0o660
# Of a folder with an access list the bits of the group are its mask; the group has what the list says.
_LISTED_FOLDER = 0o770
# What a folder has that a group shares.
_SHARED = stat.S_ISGID | stat.S_IRWXG
_PASS = 0o011


def settle(folder: int, gid: int | None, *, new: bool) -> int:
    """Share a mailbox's folder, if it is to be shared, and give the mode that files in it have.

    Args:
        folder: a descriptor of `<mailbox>/<consumer>`.
        gid: the group that the inventory names; None where it names none, and for a bot.
        new: whether this process made the folder.

    Raises:
        OSError: it cannot be given to the group.
    """
    if gid is not None:
        _give(folder, gid)
    elif new and _is_shared(_above(folder)):
        # Not by mkdir, which the umask has its say in.
        os.fchmod(folder, _SHARED_FOLDER)
    elif new and has_list_for_new_files(folder):
        # The mode that it was made with has masked the list.
        os.fchmod(folder, _LISTED_FOLDER)
    shared = _is_shared(os.fstat(folder)) or has_list_for_new_files(folder)
    return _SHARED_FILE if shared else _OWN_FILE


def is_of_group(folder: int, gid: int | None, users: AbstractSet[int]) -> bool:
    """Tell whether a mailbox's folder is shared by the group that it is for, whichever user of it made it.

    Args:
        folder: a descriptor of `<mailbox>/<consumer>`.
        gid: the group that the inventory names; None for the one that shares the folder of the mailboxes.
        users: those that may own the folder of the mailboxes.
    """
    status, above = os.fstat(folder), _above(folder)
    named = status.st_gid == gid if gid is not None else _is_shared(above) and status.st_gid == above.st_gid
    return named and _is_shared(status) and above.st_uid in users


def is_of_list(folder: int, users: AbstractSet[int]) -> bool:
    """Tell whether the folder of the mailboxes lets the owner of a mailbox's folder in by its access list.

    Args:
        folder: a descriptor of `<mailbox>/<consumer>`.
        users: those that may own the folder of the mailboxes.
    """
    try:
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False  # no user of the list, or of keyturn's
    try:
        return os.fstat(above).st_uid in users and os.fstat(folder).st_uid in listed_users(above)
    finally:
        os.close(above)


def _above(folder: int) -> os.stat_result:
    return os.stat("..", dir_fd=folder)


def _is_shared(status: os.stat_result) -> bool:
    """Tell whether a group may do in a folder what its owner may."""
    return status.st_mode & _SHARED == _SHARED


def _give(folder: int, gid: int) -> None:
    """Give a folder to a group, and let it pass through the folder of the mailboxes."""
    above = stat.S_IMODE(_above(folder).st_mode)
    if above & _PASS != _PASS:
        os.chmod("..", above | _PASS, dir_fd=folder)
    status = os.fstat(folder)
    if status.st_gid != gid:
        os.fchown(folder, -1, gid)
    # After the change of group, which takes the bit away.
    if stat.S_IMODE(status.st_mode) != _SHARED_FOLDER or status.st_gid != gid:
        os.fchmod(folder, _SHARED_FOLDER)
