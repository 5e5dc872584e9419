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
# Of a folder: the list that whatever is made in it begins with (`setfacl -d`).
_HANDED_ON = "system.posix_acl_default"
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
    mask = _mask(entries)
    own = [rights for tag, rights, _ in entries if tag == _OWN_GROUP]
    if (
        status.st_mode & stat.S_IWGRP
        and (not own or own[0] & mask & _WRITE)
        and _is_others(status.st_gid, mine)
    ):
        # chmod would change the mask, and so cut off the others of the list.
        mend = f"setfacl -m g::rx {quoted}" if entries else f"chmod g-w {quoted}"
        yield f"group {_group_name(status.st_gid)}", mend, False
    for tag, rights, number in entries:
        if not rights & mask & _WRITE:
            continue
        if tag == _USER and number not in mine:
            yield f"user {user_name(number)}", f"setfacl -x u:{user_name(number)} {quoted}", True
        elif tag == _GROUP and _is_others(number, mine):
            yield f"group {_group_name(number)}", f"setfacl -x g:{_group_name(number)} {quoted}", True


def _mask(entries: list[tuple[int, int, int]]) -> int:
    return next((rights for tag, rights, _ in entries if tag == _MASK), _WRITE)


def _entries(place: Path | int, which: str = _LIST) -> list[tuple[int, int, int]]:
    """Read a list of a path, no link followed, or of a descriptor."""
    try:
        data = os.getxattr(place, which, follow_symlinks=isinstance(place, int))
    except (AttributeError, OSError):  # macOS has none of these, most files have no list
        return []
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != _VERSION:
        return []
    whole = (len(data) - _HEAD.size) // _ENTRY.size * _ENTRY.size
    return list(_ENTRY.iter_unpack(data[_HEAD.size : _HEAD.size + whole]))


def _is_others(group: int, mine: AbstractSet[int]) -> bool:
    """Tell whether a group has members beside these users: on many systems each user has a group alone."""
    try:
        grp.getgrgid(group)
    except KeyError:  # containers run as numbers that have no name
        return group not in {0, os.getegid()}
    return bool(_members(group) - mine)


def _members(group: int) -> set[int]:
    try:
        named = grp.getgrgid(group).gr_mem
    except KeyError:
        named = []
    return {*_numbers(named), *_first_groups().get(group, ())}


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


# -- two users of one access list --------------------------------------------------------------


def has_list_for_new_files(folder: int) -> bool:
    """Tell whether what is made in a folder, a descriptor, begins with a list that lets others write."""
    return any(tag in {_USER, _GROUP} and rights & _WRITE for tag, rights, _ in _entries(folder, _HANDED_ON))


def listed_users(folder: int) -> frozenset[int]:
    """Give the users that the access list of a folder, a descriptor, lets write, by name or by a group."""
    entries = _entries(folder)
    mask, found = _mask(entries), set[int]()
    for tag, rights, number in entries:
        if not rights & mask & _WRITE:
            continue
        if tag == _USER:
            found.add(number)
        elif tag == _GROUP:
            found |= _members(number)
    return frozenset(found)


def not_handed_on(folder: Path) -> list[str]:
    """Give those, as setfacl names them, whom a folder's access list lets write, but not into new files.

    The user of this process is one of them: what the others make in the folder is theirs, and closed to it.
    """
    entries, handed = _entries(folder), _entries(folder, _HANDED_ON)
    mask = _mask(entries)
    named = [(t, n) for t, rights, n in entries if t in {_USER, _GROUP} and rights & mask & _WRITE]
    if named and os.geteuid() != 0:
        named.append((_USER, os.geteuid()))
    kept = {(t, n) for t, rights, n in handed if rights & _mask(handed) & _WRITE}
    lacking = [each for each in dict.fromkeys(named) if each not in kept]
    return [f"u:{user_name(n)}" if t == _USER else f"g:{_group_name(n)}" for t, n in lacking]


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
