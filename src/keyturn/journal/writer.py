"""The writer: it commits whatever has gathered while the disk was busy, in one transaction.

A flush to disk takes milliseconds and covers any number of writes. So a lone write is committed at
once, and a thousand that come together share a few flushes: none queues for a flush of its own, and
none is confirmed before its flush.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from sqlalchemy import Engine

from keyturn.domain.errors import JournalError
from keyturn.journal.faults import Failure, failure
from keyturn.journal.gathering import Gathering
from keyturn.journal.prompt import PromptWriter
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
        prompt: gives the connection for transactions that are drafted in the event loop, where a lock that
            is taken is told at once; None for a server, whose every statement is waited for.
    """

    def __init__(self, engine: Engine, place: str, prompt: Engine | None = None) -> None:
        self._engine = engine
        self._place = place
        self._statements = Statements(engine.dialect)
        self._prompt_engine = prompt
        self._prompt: PromptWriter | None = None
        self._choosing = threading.Lock()
        self._closed = False
        self._gathering: Gathering[Write, None] = Gathering(
            "keyturn-journal-writer", self._attempt, threads=1, most=_MOST_IN_A_BATCH
        )

    async def write(self, write: Write) -> None:
        """Wait until the write is on disk.

        Raises:
            JournalError: the write was refused or failed.
        """
        prompt = self._prompt_here()
        await (self._gathering.ask(write) if prompt is None else prompt.write(write))

    def _prompt_here(self) -> PromptWriter | None:
        """Give the prompt writer of the running loop; None in any loop but the first that lives."""
        loop = asyncio.get_running_loop()
        if self._prompt_engine is None or self._closed:
            return None
        with self._choosing:
            if self._prompt is not None and self._prompt.loop.is_closed():
                self._prompt.close()
                self._prompt = None
            if self._prompt is None:
                self._prompt = PromptWriter(
                    loop, self._prompt_engine, self._place, self._statements, self._attempt
                )
            return self._prompt if self._prompt.loop is loop else None

    async def finish(self) -> None:
        """Wait for what this loop is writing; nothing may be written after it."""
        if (prompt := self._prompt_here()) is not None:
            await prompt.finish()
        self._closed = True

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._closed = True
        if self._prompt is not None:
            self._prompt.close()
        self._gathering.close()
        for engine in filter(None, (self._engine, self._prompt_engine)):
            engine.dispose()

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
