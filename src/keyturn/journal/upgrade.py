"""Bringing a journal's schema up to date. Alembic is imported only when there is something to do."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, text

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.journal.database import Database
from keyturn.journal.faults import LOCK_SECONDS
from keyturn.journal.schema import REVISION, VERSION_TABLE, metadata, version

# Any constant: PostgreSQL's advisory locks are named by numbers.
_UPGRADE_LOCK = 0x6B657974
# Alembic keeps the running environment in module globals, so that two threads must take turns.
_one_at_a_time = threading.Lock()


def revision(connection: Connection) -> str | None:
    """Tell which migration the journal is at; None for a database without a journal."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(version.c.version_num)).scalar()


def newer(place: str) -> JournalError:
    """Build the error for a journal that this keyturn does not know."""
    return JournalError(
        JournalFault.NEWER_VERSION,
        f"The journal at {place} was written by a newer keyturn.",
        now="It was not touched.",
        todo="Install the newer keyturn on this machine too.",
    )


def upgrade(engine: Engine, database: Database) -> None:
    """Run the missing migrations in one transaction; safe beside another process that does the same.

    Raises:
        JournalError: `NEWER_VERSION`; `UNAVAILABLE` when the database belongs to something else.
        SQLAlchemyError: the database refused.
    """
    if database.is_sqlite:
        _write_ahead(engine)
    with _one_at_a_time, engine.begin() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _UPGRADE_LOCK})
        found = revision(connection)
        if found == REVISION:
            return
        if found is None:
            _refuse_strangers(connection, database)
        _migrate(connection, found, database)


def _write_ahead(engine: Engine) -> None:
    """Switch the file to write-ahead logging, which is kept in the file.

    The switch needs the file for itself and does not wait for that, hence the loop.
    """
    give_up = time.monotonic() + LOCK_SECONDS
    while not _switched(engine, last_try=time.monotonic() > give_up):
        time.sleep(0.05)


def _switched(engine: Engine, *, last_try: bool) -> bool:
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as problem:
        if last_try or problem.sqlite_errorname != "SQLITE_BUSY":
            raise
        return False
    finally:
        raw.close()
    return True


def _refuse_strangers(connection: Connection, database: Database) -> None:
    strangers = set(inspect(connection).get_table_names()) & set(metadata.tables)
    if strangers:
        raise JournalError(
            JournalFault.UNAVAILABLE,
            f"The database {database.place} has tables of something else ({', '.join(sorted(strangers))}).",
            now="Nothing was changed there.",
            todo="Give the journal a database of its own.",
        )


def _migrate(connection: Connection, found: str | None, database: Database) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise newer(database.place)
    command.upgrade(config, "head")
