"""The writer: one thread that commits whatever has gathered while the disk was busy, in one transaction.

A flush to disk takes milliseconds and covers any number of writes. So a lone write is committed at
once, and a thousand that come together share a few flushes: none queues for a flush of its own, and
none is confirmed before its flush.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from keyturn.domain.errors import JournalError
from keyturn.journal.faults import Failure, failure
from keyturn.journal.gathering import Gathering
from keyturn.journal.rows import Write
from keyturn.journal.statements import Statements
from keyturn.journal.transact import write_batch

# Bounds what a failed transaction has to repeat, and the number of values in one IN.
_MOST_IN_A_BATCH = 1000


class Writer:
    """Commits writes in groups.

    Args:
        engine: gives the one connection that writes.
        place: the journal's name in messages.
    """

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._place = place
        self._statements = Statements(engine.dialect)
        self._gathering: Gathering[Write, None] = Gathering(
            "keyturn-journal-writer", self._attempt, threads=1, most=_MOST_IN_A_BATCH
        )

    async def write(self, write: Write) -> None:
        """Wait until the write is on disk.

        Raises:
            JournalError: the write was refused or failed.
        """
        await self._gathering.ask(write)

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._gathering.close()
        self._engine.dispose()

    def _attempt(self, writes: Sequence[Write], *, again: bool = True) -> Sequence[JournalError | None]:
        """Commit the writes together; where one spoils it for all, find it by halving."""
        result = self._transaction(writes)
        if not isinstance(result, Failure):
            return result
        if result.lost and again:
            return self._attempt(writes, again=False)
        if result.row and len(writes) > 1:
            half = len(writes) // 2
            return [*self._attempt(writes[:half]), *self._attempt(writes[half:])]
        return [result.error() for _ in writes]

    def _transaction(self, writes: Sequence[Write]) -> Sequence[JournalError | None] | Failure:
        committing = False
        try:
            with self._engine.connect() as connection:
                connection.begin()
                outcomes = write_batch(connection, writes, self._place, self._statements)
                committing = True
                connection.commit()
                return outcomes
        except JournalError as problem:
            return Failure(problem.fault, problem.what, problem.now, problem.todo)
        except Exception as problem:  # noqa: BLE001  # whatever it is: the callers have to hear of it
            return failure(problem, self._place, committing=committing)
