"""What a database's refusal means: translated into the journal's closed set, without SQL and values."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.machine import NO_SPACE

#: How long a writer waits for another process to finish its transaction. Those take milliseconds; a
#: holder that needs longer than this is stopped or hung, and then it is better to say so.
LOCK_SECONDS = 15

_OPENS = (
    "Check that the folder exists, that the user who runs keyturn owns it and the file, and that the file"
    " system is not mounted read-only."
)
_NOT_WRITTEN = "Nothing was written; what was journaled before stands."


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a transaction, for every write in it."""

    fault: JournalFault
    what: str
    now: str = _NOT_WRITTEN
    todo: str = ""
    #: The connection is gone and nothing was written: a fresh connection may succeed.
    lost: bool = False
    #: One write may be to blame: the others can go without it.
    row: bool = False

    def error(self) -> JournalError:
        """Build the error; each caller gets one of its own."""
        return JournalError(self.fault, self.what, now=self.now, todo=self.todo)


def failure(problem: BaseException, place: str, *, committing: bool = False) -> Failure:
    """Translate an exception of the database layer.

    Args:
        problem: what was raised.
        place: the journal's file or address, without a password.
        committing: the commit had been sent, so that a lost connection leaves the outcome open.
    """
    origin = problem.orig if isinstance(problem, DBAPIError) else problem
    if isinstance(origin, sqlite3.Error):
        return _sqlite(origin, place, committing=committing)
    if isinstance(problem, DBAPIError):
        return _postgresql(problem, place, committing=committing)
    if isinstance(problem, OSError):
        return _system(problem, place)
    return _refused_row(place, type(problem).__name__)


def _system(problem: OSError, place: str) -> Failure:
    """Translate what the system says where the file is made."""
    if problem.errno in NO_SPACE:
        return _no_space(place)
    return _unavailable(place, f"cannot be made or opened ({problem.strerror})", _OPENS)


def _refused_row(place: str, code: str) -> Failure:
    return Failure(
        JournalFault.UNAVAILABLE,
        f"The journal at {place} did not take what it was given ({code}).",
        todo="This is a defect of keyturn or of the data that it was given: report it with the code.",
        row=True,
    )


def _no_space(place: str) -> Failure:
    return Failure(
        JournalFault.NO_SPACE,
        f"The disk of the journal at {place} is full.",
        todo="Make room there; the next sweep goes on by itself.",
    )


def _unknown(place: str, code: str) -> Failure:
    return Failure(
        JournalFault.OUTCOME_UNKNOWN,
        f"The journal at {place} did not confirm a commit ({code}).",
        now="The last step may or may not be journaled; no earlier step is in doubt.",
        todo="Nothing: the rotation is read again before it goes on.",
    )


def _damaged(place: str, code: str) -> Failure:
    return Failure(
        JournalFault.TAMPERED,
        f"The file {place} is damaged, or is no journal ({code}).",
        now="It was left as it is.",
        todo="Restore it from a backup, or point `journal` to the right file.",
    )


def _unavailable(place: str, what: str, todo: str, *, lost: bool = False) -> Failure:
    return Failure(JournalFault.UNAVAILABLE, f"The journal at {place} {what}.", todo=todo, lost=lost)


def _sqlite(origin: sqlite3.Error, place: str, *, committing: bool) -> Failure:
    name = getattr(origin, "sqlite_errorname", type(origin).__name__)
    if name == "SQLITE_FULL":
        return _no_space(place)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _damaged(place, name)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _unavailable(
            place,
            f"is held by another process for more than {LOCK_SECONDS} seconds",
            "Find the process that has the file open and is stopped, and let it go on or end it.",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return _unavailable(
            place,
            f"cannot be opened for writing ({name})",
            _OPENS,
        )
    if name.startswith("SQLITE_IOERR"):
        if committing:
            return _unknown(place, name)
        return _unavailable(
            place, f"cannot be read or written ({name})", "Check the disk and its free space."
        )
    if name in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}:
        return _second(place, name)
    return _refused_row(place, name)


def _second(place: str, code: str) -> Failure:
    return Failure(
        JournalFault.CONFLICT,
        f"The journal at {place} has such a row already ({code}).",
        todo="Read it again; another worker was first.",
        row=True,
    )


def _postgresql(problem: DBAPIError, place: str, *, committing: bool) -> Failure:
    state: str = getattr(problem.orig, "sqlstate", None) or ""
    code = state or type(problem.orig).__name__
    if state == "53100":
        return _no_space(place)
    if state == "23505":
        return _second(place, code)
    gone = problem.connection_invalidated or state.startswith(("08", "57P"))
    if gone or (not state and type(problem.orig).__name__ == "OperationalError"):
        if committing:
            return _unknown(place, code)
        return _unavailable(
            place, f"cannot be reached ({code})", "Check the server and the network.", lost=True
        )
    if state == "55P03":
        return _unavailable(
            place,
            f"is held by another process for more than {LOCK_SECONDS} seconds",
            "Look at pg_stat_activity for a transaction that hangs.",
        )
    if state.startswith(("28", "3D", "42501", "25006", "53")):
        return _unavailable(
            place,
            f"refused the connection or the write (SQLSTATE {code})",
            "Check user, password, database, its rights, and the server's limits.",
        )
    return _refused_row(place, f"SQLSTATE {code}" if state else code)
