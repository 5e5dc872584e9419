"""Threads that take all requests that have gathered and answer them together.

The event loop never waits for a disk or a server, and whatever a request costs beside its own work
(a thread's wake-up, a transaction, a flush, a way back into the loop) is paid once for a group.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from keyturn.domain.errors import ProgrammingError

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class _Request(Generic[Q, A]):
    question: Q
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[A]


class Gathering(Generic[Q, A]):
    """A queue with threads behind it.

    Args:
        name: of the threads, for those who look at a hung process.
        answer: called in a thread with a group; gives as many answers, in the same order, each of them
            a value or the exception to raise. Must not raise.
        threads: how many groups may be answered at a time.
        most: the largest group.
    """

    def __init__(
        self, name: str, answer: Callable[[Sequence[Q]], Sequence[A | Exception]], *, threads: int, most: int
    ) -> None:
        self._name = name
        self._answer = answer
        self._count = threads
        self._most = most
        self._queue: queue.SimpleQueue[_Request[Q, A] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def ask(self, question: Q) -> A:
        """Put a question and wait for its answer.

        A caller that is cancelled here doesn't learn the answer; the question may be worked on all the same.
        """
        if self._closed:
            raise ProgrammingError("the journal was closed")
        if not self._threads:
            self._start()
        loop = asyncio.get_running_loop()
        request: _Request[Q, A] = _Request(question, loop, loop.create_future())
        self._queue.put(request)
        return await request.answer

    def _start(self) -> None:
        # Daemons, so that a program that forgot to close ends all the same.
        self._threads = [
            threading.Thread(target=self._run, name=self._name, daemon=True) for _ in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer what is queued, then stop."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            requests, stopping = self._take()
            if requests:
                _hand_over(requests, self._answer([request.question for request in requests]))

    def _take(self) -> tuple[list[_Request[Q, A]], bool]:
        """Wait for a request, then take all that are there; tell whether it is time to stop."""
        requests: list[_Request[Q, A]] = []
        try:
            request = self._queue.get()
            while request is not None:
                requests.append(request)
                if len(requests) == self._most:
                    return requests, False
                request = self._queue.get_nowait()
        except queue.Empty:
            return requests, False
        return requests, True


def _hand_over(requests: Sequence[_Request[Q, A]], answers: Sequence[A | Exception]) -> None:
    """Bring the answers into the callers' event loops, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[A], A | Exception]]] = {}
    for request, answer in zip(requests, answers, strict=True):
        by_loop.setdefault(request.loop, []).append((request.answer, answer))
    for loop, answered in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, answered)
        except RuntimeError:
            continue  # that loop was closed; nobody waits there any more


def _resolve(answered: Sequence[tuple[asyncio.Future[A], A | Exception]]) -> None:
    for future, answer in answered:
        if future.done():
            continue  # the caller was cancelled
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
