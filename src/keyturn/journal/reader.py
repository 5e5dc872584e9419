"""The reader: a few threads, each with a connection of its own, that answer questions in groups.

What an index of a file answers with a few rows is answered in the caller's own thread: it takes a tenth of a
millisecond, and a thread among thirty-two rotations takes five to be woken and to win the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from keyturn.journal.database import READERS
from keyturn.journal.faults import failure
from keyturn.journal.gathering import Gathering

P = ParamSpec("P")
R = TypeVar("R")

# Small, so that several threads share a rush, and that a slow question holds up few others.
_MOST_IN_A_GROUP = 50

_Question = Callable[[Connection], Any]


class Reader:
    """Answers questions from what is committed.

    Args:
        engine: gives the connections that read.
        place: the journal's name in messages.
        glancing: gives the connection for small questions, where these wait for nothing.
    """

    def __init__(self, engine: Engine, place: str, glancing: Engine | None = None) -> None:
        self._engine = engine
        self._place = place
        self._glancing = glancing
        self._glance: Connection | None = None
        self._at_it = threading.Lock()
        self._gathering: Gathering[_Question, Any] = Gathering(
            "keyturn-journal-reader", self._answer_all, threads=READERS, most=_MOST_IN_A_GROUP
        )

    async def read(
        self, question: Callable[Concatenate[Connection, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Ask one of the functions in `reads`.

        Raises:
            JournalError: `UNAVAILABLE`, or `TAMPERED` when a row cannot be read.
        """
        answer = await self._gathering.ask(lambda connection: question(connection, *args, **kwargs))
        return cast("R", answer)

    async def look_up(
        self, question: Callable[Concatenate[Connection, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Ask one of the functions in `reads` that an index answers with a few rows.

        Raises:
            JournalError: as `read`.
        """
        if self._glancing is not None and self._at_it.acquire(blocking=False):
            try:
                self._glance = self._glance or self._glancing.connect()
                return question(self._glance, *args, **kwargs)
            except SQLAlchemyError:
                self._look_away()  # a thread may wait for what is in the way, and says what it was
            finally:
                self._at_it.release()
        return await self.read(question, *args, **kwargs)

    def _look_away(self) -> None:
        glance, self._glance = self._glance, None
        if glance is not None:
            with suppress(SQLAlchemyError):
                glance.close()

    def close(self) -> None:
        """Answer what is queued, then stop."""
        self._gathering.close()
        with self._at_it:
            self._look_away()
        for engine in filter(None, (self._engine, self._glancing)):
            engine.dispose()

    def _answer_all(self, questions: Sequence[_Question]) -> list[Any]:
        answers: list[Any] = []
        lost_before = False
        while len(answers) < len(questions):
            try:
                with self._engine.connect() as connection:
                    while len(answers) < len(questions):
                        answers.append(self._answer(connection, questions[len(answers)]))
                        lost_before = False
            except SQLAlchemyError as problem:
                # A pooled connection may have died since; if a fresh one does no better, there is no server.
                if lost_before:
                    lost = failure(problem, self._place)
                    answers += [lost.error() for _ in questions[len(answers) :]]
                lost_before = True
        return answers

    def _answer(self, connection: Connection, question: _Question) -> Any:
        """Give the answer, or the error that the caller gets.

        Raises:
            SQLAlchemyError: the connection was lost.
        """
        try:
            return question(connection)
        except SQLAlchemyError as problem:
            if getattr(problem, "connection_invalidated", False):
                raise
            return failure(problem, self._place).error()
        except Exception as problem:  # noqa: BLE001  # whatever it is: the caller has to hear of it
            return problem
