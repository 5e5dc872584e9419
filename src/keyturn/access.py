"""Who besides this user can change what stands at a path: who owns it and each folder and link on the way.

The way is gone from folder to folder, each opened in the one before, so that what was judged is what is
used: nobody can put another in its place meanwhile.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.groups import named_writers, user_name
from keyturn.ports.store import Finding

# A folder on the way need not be readable, only passable. macOS knows no such opening.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As many as Linux follows.
_MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class Step:
    """A folder, a link or a file, as it was found."""

    path: Path
    status: os.stat_result

    @property
    def mode(self) -> int:
        """The permission bits."""
        return stat.S_IMODE(self.status.st_mode)


@dataclass(slots=True)
class Way:
    """The way to a path. Its folder stays open for as long as the `with` of `way_to` lasts."""

    #: A descriptor of the last folder; the path is `name` in it.
    folder: int
    name: str = "."
    #: Folders and links, from the root on.
    steps: list[Step] = field(default_factory=list)
    #: What is at the path; None where nothing is.
    last: Step | None = None
    #: Whether folders above the path are missing; then `name` is the first of them.
    broken: bool = False

    @property
    def home(self) -> Step:
        """The folder."""
        return next(step for step in reversed(self.steps) if stat.S_ISDIR(step.status.st_mode))

    @property
    def place(self) -> Path:
        """The path, with no link in it."""
        return self.home.path / self.name


@dataclass(frozen=True, slots=True)
class Opening:
    """A way for somebody else to change what stands at a path."""

    #: As a sentence without its end: `group traders may write to /srv/bots (mode 0775)`.
    words: str
    #: The command that ends it.
    mend: str
    #: Whether an operator has shared a folder by this: it hands its group on (setgid), or has a list.
    shared: bool = False


class OpenToOthersError(PermissionError):
    """Somebody else can change what should be this user's own. `strerror` tells who; `todo` ends it."""

    def __init__(self, openings: list[Opening], path: Path) -> None:
        super().__init__(errno.EPERM, "; ".join(o.words for o in openings), str(path))
        self.todo = "; ".join(dict.fromkeys(o.mend for o in openings))


def trusted() -> frozenset[int]:
    """Give the users that may own what this process relies on: root and its own."""
    return frozenset({0, os.geteuid()})


@contextmanager
def way_to(path: Path) -> Iterator[Way]:
    """Go to an absolute path, through links.

    Raises:
        OSError: a folder on the way may not be passed, or is none; `ELOOP`: the links lead nowhere.
    """
    way = Way(os.open("/", _PASS))
    way.steps.append(Step(Path("/"), os.fstat(way.folder)))
    try:
        _go(way, path)
        yield way
    finally:
        os.close(way.folder)


def _go(way: Way, path: Path) -> None:
    rest, links = list(reversed(path.parts[1:])), 0
    while rest:
        name, here = rest.pop(), way.home.path
        if name == "..":
            _enter(way, "..", here.parent)
            continue
        try:
            status = os.stat(name, dir_fd=way.folder, follow_symlinks=False)
        except FileNotFoundError:
            way.name, way.broken = name, bool(rest)
            return
        if stat.S_ISLNK(status.st_mode):
            way.steps.append(Step(here / name, status))
            if (links := links + 1) > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = Path(os.readlink(name, dir_fd=way.folder))
            if target.is_absolute():
                _enter(way, "/", Path("/"))
            rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        elif rest:
            _enter(way, name, here / name)
        else:
            way.name, way.last = name, Step(here / name, status)
            return
    # It ended with a folder that was entered already: `/`, `..`, or a link to one of them.
    way.last = way.home


def _enter(way: Way, name: str, path: Path) -> None:
    new = os.open(name, _PASS, dir_fd=way.folder)
    os.close(way.folder)
    way.folder = new
    way.steps.append(Step(path, os.fstat(new)))


def strangers(way: Way, mine: AbstractSet[int]) -> list[Opening]:
    """Tell who else owns something on the way, or may put another thing there; groups are not counted.

    Args:
        way: to what is judged; what stands in a file at its end is not.
        mine: the users that may.
    """
    return list(dict.fromkeys([*_owners(way, mine), *_everybody(way, mine)]))


def writers_of_file(way: Way, mine: AbstractSet[int]) -> list[Opening]:
    """Tell who may write into the file at the end of the way, groups and access lists included."""
    if way.last is None:
        return []
    everyone = [_everyone(way.last)] if way.last.mode & stat.S_IWOTH else []
    return everyone + _named(way.last, mine)


def writers(way: Way, mine: AbstractSet[int]) -> list[Opening]:
    """Tell everybody who can change what is at the end of the way, groups and access lists included.

    A folder at the end counts with whatever may be put into it.
    """
    found = strangers(way, mine)
    for step, safe in _judged(way, mine):
        found += [] if safe else _named(step, mine)
    if way.last and not stat.S_ISDIR(way.last.status.st_mode):
        found += writers_of_file(way, mine)
    return list(dict.fromkeys(found))


def _named(step: Step, mine: AbstractSet[int]) -> list[Opening]:
    hands_on = bool(step.mode & stat.S_ISGID)
    return [
        Opening(
            f"{who} may write to {step.path} (mode {step.mode:04o}{', access list' if listed else ''})",
            mend,
            shared=stat.S_ISDIR(step.status.st_mode) and (listed or hands_on),
        )
        for who, mend, listed in named_writers(step.path, step.status, mine)
    ]


def _everyone(step: Step) -> Opening:
    mend = f"chmod o-w {shlex.quote(str(step.path))}"
    if step.mode & stat.S_ISVTX:
        mend = f"use a folder of its own instead of {step.path}"
    return Opening(f"every user may write to {step.path} (mode {step.mode:04o})", mend)


def expect_private(descriptor: int, path: Path, mine: AbstractSet[int] | None = None) -> None:
    """Judge an open folder by itself, and not the way to it.

    Args:
        descriptor: of the folder.
        path: its name, to tell.
        mine: the users that may own it; None for any.

    Raises:
        OpenToOthersError: somebody else owns it, or every user may write to it.
    """
    step = Step(path, os.fstat(descriptor))
    alone = Way(descriptor, steps=[step], last=step)
    if found := strangers(alone, {step.status.st_uid} if mine is None else mine):
        raise OpenToOthersError(found, path)


def expect_own_folder(path: Path) -> None:
    """See that a folder of keyturn's own is no link, this user's or root's, and not open to every user.

    Raises:
        OpenToOthersError: it is somebody else's, too.
        OSError: it cannot be looked at; `ENOTDIR`: it is none, or a link.
    """
    folder = os.open(path, _PASS)
    try:
        expect_private(folder, path, trusted())
    finally:
        os.close(folder)


def who_writes(
    subject: str,
    *paths: Path,
    mine: AbstractSet[int] | None = None,
    more: str = "",
    shared: bool = False,
) -> Finding:
    """Tell in a check who besides this user can change what stands at some paths, and how that is ended.

    Args:
        subject: of the finding.
        paths: of files or folders, or of ones that are still to be made.
        mine: the users that may; None for root and this one.
        more: what to know of them besides.
        shared: whether they may be shared with a group, or by an access list, on purpose.
    """
    mine = trusted() if mine is None else mine
    found: dict[Opening, None] = {}
    try:
        for path in paths:
            with way_to(path.absolute()) as way:
                found |= dict.fromkeys(writers(way, mine))
    except OSError as error:
        detail = f"who can change it cannot be told: {error.strerror}"
        todo = f"See who owns {error.filename or paths[0]} and the folders above."
        return Finding(subject, ok=False, detail=detail, todo=todo)
    wrong = [each for each in found if not (shared and each.shared)]
    if wrong:
        told = "; ".join(each.words for each in wrong)
        todo = "; ".join(dict.fromkeys(each.mend for each in wrong))
        return Finding(subject, ok=False, detail=told + more, todo=todo)
    names = " and ".join(user_name(number) for number in sorted(mine))
    told = "; ".join(each.words for each in found)
    detail = f"{told}; else {names} alone" if told else f"{names} alone can change it"
    return Finding(subject, ok=True, detail=detail + more)


def _owners(way: Way, mine: AbstractSet[int]) -> Iterator[Opening]:
    for step in _all(way):
        if step.status.st_uid not in mine:
            link = "-h " if stat.S_ISLNK(step.status.st_mode) else ""
            yield Opening(
                f"user {user_name(step.status.st_uid)} owns {step.path}",
                f"chown {link}{user_name(os.geteuid())} {shlex.quote(str(step.path))}",
            )


def _everybody(way: Way, mine: AbstractSet[int]) -> Iterator[Opening]:
    return (_everyone(step) for step, safe in _judged(way, mine) if step.mode & stat.S_IWOTH and not safe)


def _all(way: Way) -> list[Step]:
    end = [way.last] if way.last and way.last not in way.steps else []
    return [*way.steps, *end]


def _judged(way: Way, mine: AbstractSet[int]) -> Iterator[tuple[Step, bool]]:
    """Give each folder, and whether its sticky bit guards what the way goes on with.

    In a sticky folder an entry can be replaced by its owner and the folder's alone; a name that is free is
    whoever's comes first.
    """
    for step in _all(way):
        if not stat.S_ISDIR(step.status.st_mode):
            continue
        entries = [each for each in _all(way) if each.path.parent == step.path != each.path]
        free = step == way.last or (step == way.home and way.last is None)
        guarded = not free and all(each.status.st_uid in mine for each in entries)
        yield step, guarded and bool(step.mode & stat.S_ISVTX)
