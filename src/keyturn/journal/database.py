"""Connections: which databases are supported, and what each needs to keep a promise over a power cut."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.journal_urls import ENCRYPTED
from keyturn.files import make_folder, open_file, write_new
from keyturn.journal.faults import LOCK_SECONDS

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

#: Enough for a page that refreshes while an engine works; reads are short.
READERS = 4

# A worker that freezes inside a transaction holds the chain's lock: after this, PostgreSQL ends it.
_FROZEN_SECONDS = 30
# libpq goes there in place of the host that it is given, or takes whatever a file says.
# https://www.postgresql.org/docs/current/libpq-envars.html (read 2026-11-28)
_STEERING = ("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE")
_POSTGRESQL_SESSION = (
    f"SET lock_timeout = '{LOCK_SECONDS}s'",
    f"SET idle_in_transaction_session_timeout = '{_FROZEN_SECONDS}s'",
    # A server may be set to confirm commits that it has not flushed; an intent needs better.
    "UPDATE pg_settings SET setting = 'on' WHERE name = 'synchronous_commit' AND setting = 'off'",
)
_SQLITE_SESSION = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    # On macOS a plain fsync leaves the data in the drive's cache; without effect elsewhere.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where the journal is."""

    url: URL
    #: For messages: the file, or the address without the password.
    place: str

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return Path(self.url.database or "") if self.is_sqlite else None


def locate(url: str, password: str | None = None) -> Database:
    """Read a journal's URL: `sqlite:///path` or `postgresql://user@host/database`.

    Raises:
        JournalError: `UNAVAILABLE` when it is neither; the text does not repeat the URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _unusable("The journal's URL cannot be read.") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise _unusable("The journal's URL names no file.")
        return Database(parsed.set(drivername="sqlite"), parsed.database)
    if backend != "postgresql":
        raise _unusable(f"The journal cannot be kept in {backend!r}.")
    _refuse_steering(parsed)
    parsed = parsed.set(drivername="postgresql+psycopg")
    if password is not None:
        parsed = parsed.set(password=password)
    return Database(parsed, f"{parsed.host or 'local socket'}/{parsed.database or ''}")


def _refuse_steering(url: URL) -> None:
    """Refuse variables that lead the driver to another machine than the URL, and without TLS.

    Raises:
        JournalError: `UNAVAILABLE`.
    """
    name = next((name for name in _STEERING if os.environ.get(name)), None)
    if name is not None and url.query.get("sslmode") not in ENCRYPTED:
        raise JournalError(
            JournalFault.UNAVAILABLE,
            f"The variable {name} leads elsewhere than the journal's URL says, and may do so without TLS.",
            now="Nothing was opened.",
            todo=f"Unset {name}, or write ?sslmode=verify-full at the end of the journal's URL.",
        )


def _unusable(what: str) -> JournalError:
    return JournalError(
        JournalFault.UNAVAILABLE,
        what,
        now="Nothing was opened.",
        todo="Write `sqlite:///path/to/journal.db` or `postgresql://user@host/database`.",
    )


def missing(database: Database) -> JournalError:
    """Build the error for a journal that is not there and should not be made."""
    return JournalError(
        JournalFault.UNAVAILABLE,
        f"There is no journal at {database.place}.",
        now="Nothing was created.",
        todo="The first rotation or `keyturn init` makes one; or check the path in the inventory.",
    )


def create_file(path: Path) -> None:
    """Make an empty file that only its owner may read, if there is none yet.

    SQLite gives the files that it puts beside it (`-wal`, `-shm`) the same rights.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = Path(os.path.realpath(path))  # the operator's own link may name a file that is to be made
    make_folder(path.parent)
    try:
        write_new(path, b"")
    except FileExistsError:
        # SQLite would wait, or fail without a word of why, at what is no file.
        os.close(open_file(path))
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _engine(database: Database, *, wait: float | None = None, **options: Any) -> Engine:
    arguments: dict[str, Any] = {}
    if database.is_sqlite:
        arguments = {"timeout": LOCK_SECONDS if wait is None else wait, "check_same_thread": False}
    else:
        # Without these a network that swallows packets would hang the journal for hours.
        arguments = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": _FROZEN_SECONDS * 1000}
    if wait == 0:
        options["pool_timeout"] = 0  # nor for a connection that somebody else has
    try:
        return create_engine(
            database.url, hide_parameters=True, connect_args=arguments, max_overflow=0, **options
        )
    except ModuleNotFoundError:
        raise JournalError(
            JournalFault.UNAVAILABLE,
            "The journal is in PostgreSQL, and its driver is not installed.",
            now="Nothing was opened.",
            todo="Install `keyturn[postgres]`.",
        ) from None


def _run(connection: DBAPIConnection, statements: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()


def reading_engine(database: Database) -> Engine:
    """Make the engine for reads: each statement sees everything that was committed before it."""
    engine = _engine(database, pool_size=READERS, isolation_level="AUTOCOMMIT")
    return _only_reading(engine) if database.is_sqlite else engine


def glancing_engine(database: Database) -> Engine | None:
    """Make the engine for reads that wait for nothing: in a file, whose writers are in no reader's way.

    None for a server, where each read waits for the network.
    """
    if not database.is_sqlite:
        return None
    return _only_reading(_engine(database, wait=0, pool_size=1, isolation_level="AUTOCOMMIT"))


def _only_reading(engine: Engine) -> Engine:
    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        _run(connection, ("PRAGMA query_only = ON",))

    event.listen(engine, "connect", connected)
    return engine


def writing_engine(database: Database, *, wait: float | None = None) -> Engine:
    """Make the engine for a connection that writes.

    On SQLite a transaction begins with the write lock, so that no two ever have to be undone.

    Args:
        database: where the journal is.
        wait: seconds to wait for another's lock, on SQLite; None for as long as any writer needs.
    """
    engine = _engine(database, wait=wait, pool_size=1)

    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        if database.is_sqlite:
            connection.isolation_level = None  # the driver begins nothing by itself
            _run(connection, _SQLITE_SESSION)
        else:
            _run(connection, _POSTGRESQL_SESSION)
            connection.commit()

    event.listen(engine, "connect", connected)
    if database.is_sqlite:
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine
