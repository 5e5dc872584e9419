"""Signals the process that a pid file names, where nobody else can have named it."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from keyturn.access import OpenToOthersError, Way, writers_of_file
from keyturn.consumers.place import Owner, mine, place_of
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.files import SMALL, open_file, take
from keyturn.groups import user_name

_PID = re.compile(r"[0-9]{1,9}")
# Where `starttime` stands in /proc/<pid>/stat, counted from the state (proc_pid_stat(5)).
_BEGAN = 19
# Seconds that the time of a file and the age of a process may disagree; a clock is set a little now and then.
_CLOCKS_DIFFER = 60.0
_USERS = re.compile(r"^Uid:\s*([0-9]+)", re.MULTILINE)


def send_signal(name: str, pid_file: Path, owner: Owner | None = None) -> None:
    """Signal the process that a pid file names.

    Args:
        name: of the signal.
        pid_file: the file.
        owner: whose the file may be beside root and keyturn's user; it names that user's processes only.

    Raises:
        ConsumerError: `MISCONFIGURED` for an unusable file or signal, or one that a stranger may write;
            `UNREACHABLE` when the process is gone, or another has its number now.
    """
    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(number, signal.Signals):
        raise ConsumerError(ConsumerFault.MISCONFIGURED, f"There is no signal {name} on this system.")
    text, written, theirs = _read(pid_file, owner)
    # 0, 1 and negative numbers mean groups, init and everybody.
    if not _PID.fullmatch(text) or int(text) <= 1:
        raise ConsumerError(ConsumerFault.MISCONFIGURED, f"{pid_file} holds no process id.")
    if _is_another(int(text), written):
        raise _untold(f"The process that {pid_file} names started after that file was written.")
    if theirs and owner and not _is_of(int(text), owner.user):
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            f"The process that {pid_file} names is not {user_name(owner.user)}'s, who can write that file.",
            now="The file is written; no process was told.",
            todo=f"Let the consumer run as {user_name(owner.user)}, or root own {pid_file} and its folder.",
        )
    if _has_ended(int(text)):
        raise _untold(f"The process that {pid_file} names has ended.")
    try:
        os.kill(int(text), number)
    except ProcessLookupError:
        raise _untold(f"The process that {pid_file} names is not running.") from None
    except PermissionError:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED, f"keyturn's user may not signal the process that {pid_file} names."
        ) from None


def _read(pid_file: Path, owner: Owner | None) -> tuple[str, float, bool]:
    """Give what a pid file says, when it was written, and whether it is in the declared owner's hands."""
    try:
        with place_of(pid_file, owner) as way:
            _expect_written_by(mine(owner), way)
            descriptor = open_file(way.name, folder=way.folder)
            status = os.fstat(descriptor)
            users = {status.st_uid, *(step.status.st_uid for step in way.steps)}
            theirs = owner is not None and owner.is_another and owner.user in users
            return take(descriptor, SMALL).decode("ascii", errors="replace").strip(), status.st_mtime, theirs
    except FileNotFoundError:
        raise ConsumerError(
            ConsumerFault.UNREACHABLE,
            f"The pid file {pid_file} does not exist.",
            now="The file is written; the process was not told.",
            todo="Start the consumer.",
        ) from None
    except OpenToOthersError as error:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            f"The pid file {pid_file} may be somebody else's word: {error.strerror}.",
            now="The file is written; no process was told.",
            todo=error.todo,
        ) from None
    except OSError as error:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED, f"The pid file {pid_file} cannot be read: {error.strerror}."
        ) from None


def _expect_written_by(users: frozenset[int], way: Way) -> None:
    if found := writers_of_file(way, users):
        raise OpenToOthersError(found, way.place)


def _untold(what: str) -> ConsumerError:
    return ConsumerError(
        ConsumerFault.UNREACHABLE,
        what,
        now="The file is written; no process was told.",
        todo="Start the consumer anew, and let it write its process id.",
    )


def _has_ended(pid: int) -> bool:
    """Tell whether a process has ended and only waits for its parent to look; it takes signals still."""
    facts = _facts(pid)
    return bool(facts) and facts[0] in {"Z", "X"}


def _is_another(pid: int, written: float) -> bool:
    """Tell whether a process began after its pid file was written: numbers are given out again.

    A clock that was put forward in between makes ours look like another: then nobody is told, which is
    seen and mended, where a signal to a stranger ends it.
    """
    facts = _facts(pid)
    if not facts:
        return False
    began = int(facts[_BEGAN]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return time.time() - written > age + _CLOCKS_DIFFER


def _facts(pid: int) -> list[str]:
    """Give what Linux tells of a process, from its state on; nothing on other systems, or if hidden."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name before may hold anything, also spaces and brackets.
    return text.rpartition(")")[2].split()


def _is_of(pid: int, user: int) -> bool:
    """Tell whether a process is a user's; not where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = _USERS.search(text)
    return found is not None and int(found[1]) == user
