"""An event loop without time, files and threads: tasks go on in the order in which they became ready."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class Loop(asyncio.AbstractEventLoop):
    """As much of a loop as tasks, futures, `gather` and semaphores need."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...], Context | None]] = deque()

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        self._ready.append((callback, args, context))

    call_soon_threadsafe = call_soon

    def is_closed(self) -> bool:
        return False

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **options)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing of tasks that died with their process."""

    def get_debug(self) -> bool:
        return False

    def drain(self) -> None:
        """Let every task go on until each of them waits for something."""
        ready = self._ready
        asyncio._set_running_loop(self)
        try:
            while ready:
                callback, args, context = ready.popleft()
                if context is None:
                    callback(*args)
                else:
                    context.run(callback, *args)
        finally:
            asyncio._set_running_loop(None)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run what waits for nothing but its own tasks to its end, and give what it gives."""
    loop = Loop()
    task = loop.create_task(work)
    loop.drain()
    result: T = task.result()
    return result


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of the world in memory to its end: it only ever gives way, and waits for nothing."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        return end.value
