"""Where a file of a consumer is: gone to folder by folder, and refused where a stranger has a hand in it.

What root, keyturn's user and the declared owner own is relied on, each as far as their own rights go: what
the owner made (a folder, a link) leads to what is the owner's. Else a bot could have a key written over a
file of root's, or have another's file read into its own.
"""

from __future__ import annotations

import errno
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.access import Opening, OpenToOthersError, Way, strangers, trusted, way_to
from keyturn.groups import user_name


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a consumer's files may belong to, beside root and keyturn's own."""

    user: int
    #: The group that the user's files get.
    group: int

    @property
    def is_another(self) -> bool:
        """Whether it is neither root nor keyturn's user, and so has fewer rights."""
        return self.user not in trusted()


def find_owner(name: str | None) -> Owner | None:
    """Look a declared owner up, by name or number.

    Raises:
        KeyError: this machine has no such user.
    """
    if name is None:
        return None
    entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    return Owner(entry.pw_uid, entry.pw_gid)


def mine(owner: Owner | None) -> frozenset[int]:
    """Give the users that are relied on."""
    return trusted() | ({owner.user} if owner else frozenset())


@contextmanager
def place_of(path: Path, owner: Owner | None) -> Iterator[Way]:
    """Go to a file that is there or that is to be made; its folder stays open meanwhile.

    Raises:
        OpenToOthersError: a folder, a link or the file belongs to somebody else, or a name is anybody's.
        OSError: the way there cannot be gone; `EINVAL` for what is no regular file.
    """
    with way_to(path.absolute()) as way:
        if way.broken:
            raise FileNotFoundError(errno.ENOENT, "its folder is not there", str(way.place))
        if found := [*strangers(way, mine(owner)), *_raised(way, owner)]:
            raise OpenToOthersError(found, path)
        if way.last and not stat.S_ISREG(way.last.status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(way.place))
        yield way


def _raised(way: Way, owner: Owner | None) -> Iterator[Opening]:
    """Find what belongs to more powerful users than one who decided on the way to it."""
    if owner is None or not owner.is_another or owner.user not in {s.status.st_uid for s in way.steps}:
        return
    name = user_name(owner.user)
    for step in (way.home, way.last):
        if step and step.status.st_uid != owner.user:
            yield Opening(
                f"user {name} made the way to {step.path}, which belongs to {user_name(step.status.st_uid)}",
                f"name {step.path} itself, or chown {name} it",
            )
