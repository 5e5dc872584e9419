"""Transactions that are drafted in the event loop, and made to last in a thread.

On a file the statements of a transaction wait for nothing and take a third of a millisecond. In a thread
beside a busy event loop they take three: the driver gives the interpreter away with each of them, and the
thread has to win it back. So the loop executes them, and the thread does what waits for the disk: the commit.
Whatever is in the way (another process that writes, a full disk, a row that is refused) rolls the draft back,
and the writer that may wait takes its place.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from keyturn.domain.errors import JournalError, ProgrammingError
from keyturn.journal.faults import failure
from keyturn.journal.rows import Write
from keyturn.journal.statements import Statements
from keyturn.journal.transact import write_batch

# Some milliseconds' worth: the event loop does nothing else meanwhile.
_MOST_IN_A_DRAFT = 64

Outcomes = Sequence[JournalError | None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Write
    answer: asyncio.Future[None]


class PromptWriter:
    """Commits what has gathered while the last commit was under way, for one event loop.

    Args:
        loop: whose callers it serves.
        engine: gives a connection of its own, which waits for no lock.
        place: the journal's name in messages.
        statements: of the database.
        patient: commits a group in a thread, waiting as long as it must; never raises.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        place: str,
        statements: Statements,
        patient: Callable[[Sequence[Write]], Outcomes],
    ) -> None:
        self.loop = loop
        self._engine = engine
        self._place = place
        self._statements = statements
        self._patient = patient
        self._connection: Connection | None = None
        self._waiting: list[_Waiting] = []
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keyturn-journal-commit")

    async def write(self, write: Write) -> None:
        """Wait until the write is on disk. To be called in the loop.

        Raises:
            JournalError: the write was refused or failed.
        """
        waiting = _Waiting(write, self.loop.create_future())
        self._waiting.append(waiting)
        if self._at_rest.is_set():
            self._at_rest.clear()
            # Not at once: what else comes in this turn of the loop goes along.
            self.loop.call_soon(self._turn)
        await waiting.answer

    async def finish(self) -> None:
        """Wait for every write that has begun. To be called in the loop."""
        await self._at_rest.wait()

    def close(self) -> None:
        """Finish the commit that is under way, and hang up."""
        self._thread.shutdown()
        self._hang_up()

    def _turn(self) -> None:
        """Draft what is waiting, and leave it to the thread."""
        group, self._waiting = self._waiting[:_MOST_IN_A_DRAFT], self._waiting[_MOST_IN_A_DRAFT:]
        writes = [each.write for each in group]
        drafted = self._draft(writes)
        try:
            job: Future[Outcomes] = (
                self._thread.submit(self._patient, writes)
                if drafted is None
                else self._thread.submit(self._commit, drafted)
            )
        except RuntimeError:  # closed, by another thread
            self._give_up()
            self._tell(group, [ProgrammingError("the journal was closed") for _ in group])
            return
        job.add_done_callback(lambda _: self._back(group, job))

    def _draft(self, writes: Sequence[Write]) -> Outcomes | None:
        """Execute a transaction up to its commit; None when something was in the way and nothing was done."""
        try:
            self._connection = self._connection or self._engine.connect()
            self._connection.begin()
            return write_batch(self._connection, writes, self._place, self._statements)
        except Exception:  # noqa: BLE001  # whatever it is: the patient writer meets it again, and tells it
            self._give_up()
            return None

    def _commit(self, outcomes: Outcomes) -> Outcomes:
        assert self._connection is not None  # noqa: S101 - narrowed by the draft
        try:
            self._connection.commit()
        except Exception as problem:  # noqa: BLE001  # whatever it is: the callers have to hear of it
            self._hang_up()
            failed = failure(problem, self._place, committing=True)
            return [failed.error() for _ in outcomes]
        return outcomes

    def _give_up(self) -> None:
        try:
            if self._connection is not None:
                self._connection.rollback()
        except (SQLAlchemyError, sqlite3.Error):
            self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                connection.invalidate()
            with suppress(SQLAlchemyError, sqlite3.Error):
                connection.close()

    def _back(self, group: Sequence[_Waiting], job: Future[Outcomes]) -> None:
        with suppress(RuntimeError):  # the loop was closed; nobody waits there any more
            self.loop.call_soon_threadsafe(self._answer, group, job)

    def _answer(self, group: Sequence[_Waiting], job: Future[Outcomes]) -> None:
        self._tell(group, job.result())
        if self._waiting:
            self._turn()
        else:
            self._at_rest.set()

    @staticmethod
    def _tell(group: Sequence[_Waiting], outcomes: Sequence[Exception | None]) -> None:
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.answer.done():
                continue  # the caller was cancelled
            if outcome is None:
                waiting.answer.set_result(None)
            else:
                waiting.answer.set_exception(outcome)
