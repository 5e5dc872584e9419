"""The journal adapter: SQLAlchemy Core on SQLite or PostgreSQL, with a hash chain over all events."""

from keyturn.journal.sql import SqlJournal

__all__ = ["SqlJournal"]
