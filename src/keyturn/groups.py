"""Groups of this machine: who may write by one, or by an access list (POSIX ACL); how users share by it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
import struct
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path

# As the kernel gives it (linux/posix_acl_xattr.h): a version, then tag, permissions and id of each entry.
_LIST, _HEAD, _ENTRY = "system.posix_acl_access", struct.Struct("<I"), struct.Struct("<HHI")
_VERSION = 2
_USER, _OWN_GROUP, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_WRITE = 2


def named_writers(
    path: Path, status: os.stat_result, mine: AbstractSet[int]
) -> Iterator[tuple[str, str, bool]]:
    """Tell who may write beside the owner: a user or group, the command that ends it, whether a list says so.

    Where there is an access list, the mode's bits of the group are its mask: an entry counts as far as the
    mask lets it. A list that cannot be read (another system, a network's) counts as none.

    Args:
        path: of the file or folder.
        status: of it.
        mine: users that may.
    """
    entries, quoted = _entries(path), shlex.quote(str(path))
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _WRITE)
    own = [rights for tag, rights, _ in entries if tag == _OWN_GROUP]
    if (
        status.st_mode & stat.S_IWGRP
        and (not own or own[0] & mask & _WRITE)
        and _is_others(status.st_gid, mine)
    ):
        yield f"group {_group_name(status.st_gid)}", f"chmod g-w {quoted}", False
    for tag, rights, number in entries:
        if not rights & mask & _WRITE:
            continue
        if tag == _USER and number not in mine:
            yield f"user {user_name(number)}", f"setfacl -x u:{user_name(number)} {quoted}", True
        elif tag == _GROUP and _is_others(number, mine):
            yield f"group {_group_name(number)}", f"setfacl -x g:{_group_name(number)} {quoted}", True


def _entries(path: Path) -> list[tuple[int, int, int]]:
    try:
        data = os.getxattr(path, _LIST, follow_symlinks=False)
    except (AttributeError, OSError):  # macOS has none of these, most files have no list
        return []
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != _VERSION:
        return []
    whole = (len(data) - _HEAD.size) // _ENTRY.size * _ENTRY.size
    return list(_ENTRY.iter_unpack(data[_HEAD.size : _HEAD.size + whole]))


def _is_others(group: int, mine: AbstractSet[int]) -> bool:
    """Tell whether a group has members beside these users: on many systems each user has a group alone."""
    try:
        named = grp.getgrgid(group).gr_mem
    except KeyError:  # containers run as numbers that have no name
        return group not in {0, os.getegid()}
    return bool({*_numbers(named), *_first_groups().get(group, ())} - mine)


def _numbers(names: list[str]) -> Iterator[int]:
    for name in names:
        try:
            yield pwd.getpwnam(name).pw_uid
        except KeyError:
            continue


@cache
def _first_groups() -> dict[int, list[int]]:
    """Give the users by the group that their processes begin with."""
    found: dict[int, list[int]] = {}
    for user in pwd.getpwall():
        found.setdefault(user.pw_gid, []).append(user.pw_uid)
    return found


def user_name(number: int) -> str:
    """Give the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


# -- two users of one group --------------------------------------------------------------------


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
