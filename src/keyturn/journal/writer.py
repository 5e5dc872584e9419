"""The writer: one thread that commits whatever has gathered while the disk was busy, in one transaction.

A flush to disk takes milliseconds and covers any number of writes. So a lone write is committed at
once, and a thousand that come together share a few flushes: none queues for a flush of its own, and
none is confirmed before its flush.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from keyturn.domain.errors import JournalError, ProgrammingError
from keyturn.journal.faults import Failure, failure
from keyturn.journal.rows import Write
from keyturn.journal.transact import upsert_keys, write_batch

# Bounds what a failed transaction has to repeat, and the number of values in one IN.
_MOST_IN_A_BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Job:
    write: Write
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Writer:
    """Commits writes in groups.

    Args:
        engine: gives the one connection that writes.
        place: the journal's name in messages.
    """

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._place = place
        self._upsert = upsert_keys(engine.dialect.name)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def write(self, write: Write) -> None:
        """Wait until the write is on disk.

        A caller that is cancelled here doesn't know whether it was written; reading back tells.

        Raises:
            JournalError: the write was refused or failed.
        """
        if self._closed:
            raise ProgrammingError("the journal was closed")
        if self._thread is None:
            # A daemon, so that a program that forgot to close ends; unconfirmed writes may be lost then.
            self._thread = threading.Thread(target=self._run, name="keyturn-journal", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(write, loop, loop.create_future())
        self._queue.put(job)
        await job.done

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            jobs, stopping = self._take()
            if jobs:
                _tell(jobs, self._attempt([job.write for job in jobs]))

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for a write, then take all that are there."""
        jobs: list[_Job] = []
        try:
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == _MOST_IN_A_BATCH:
                    return jobs, False
                job = self._queue.get_nowait()
        except queue.Empty:
            return jobs, False
        return jobs, True

    def _attempt(self, writes: Sequence[Write], *, again: bool = True) -> list[JournalError | None]:
        """Commit the writes together; where one spoils it for all, find it by halving."""
        result = self._transaction(writes)
        if not isinstance(result, Failure):
            return result
        if result.lost and again:
            return self._attempt(writes, again=False)
        if result.row and len(writes) > 1:
            half = len(writes) // 2
            return self._attempt(writes[:half]) + self._attempt(writes[half:])
        return [result.error() for _ in writes]

    def _transaction(self, writes: Sequence[Write]) -> list[JournalError | None] | Failure:
        committing = False
        try:
            with self._engine.connect() as connection:
                outcomes = write_batch(connection, writes, self._place, self._upsert)
                committing = True
                connection.commit()
                return outcomes
        except JournalError as problem:
            return Failure(problem.fault, problem.what, problem.now, problem.todo)
        except (SQLAlchemyError, OSError, ValueError, TypeError, OverflowError) as problem:
            return failure(problem, self._place, committing=committing)


def _tell(jobs: Sequence[_Job], outcomes: Sequence[JournalError | None]) -> None:
    """Hand the outcomes over to the callers' event loops, one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, JournalError | None]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop.setdefault(job.loop, []).append((job, outcome))
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, told)
        except RuntimeError:
            continue  # that loop was closed; nobody waits there any more


def _resolve(told: Sequence[tuple[_Job, JournalError | None]]) -> None:
    for job, outcome in told:
        if job.done.done():
            continue  # the caller was cancelled
        if outcome is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(outcome)
