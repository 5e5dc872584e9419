"""The journal adapter: SQLAlchemy Core on SQLite or PostgreSQL, with a hash chain over all events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyturn.journal.sql import SqlJournal

__all__ = ["SqlJournal"]


def __getattr__(name: str) -> Any:
    # SQLAlchemy takes 0.2 s to import, and the codec and the chain do without it.
    if name == "SqlJournal":
        from keyturn.journal.sql import SqlJournal

        return SqlJournal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
