"""The demo's child processes: started, read line by line, and never left behind.

Each child is the leader of a process group of its own, so that a Ctrl-C in the terminal reaches the demo
alone, and so that whatever a child starts goes with it. Each ends by itself when its stdin ends: also when
the demo was killed and could not say goodbye.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from keyturn.domain.errors import KeyturnError

T = TypeVar("T")
# Time to end well: Prefect's server takes up to two seconds.
_END_SECONDS = 8.0
# How much of a log is shown when its writer has failed.
_LOG_LINES = 12


class DemoError(KeyturnError):
    """The demo cannot go on."""


class Child:
    """A Python module that runs beside the demo and says on stdout, a line of JSON each, how it goes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        #: The newest line.
        self.latest: dict[str, Any] = {}
        self._process = process
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        """Whether it says nothing more."""
        return self._reader.done()

    async def said(self, seconds: float, what: str) -> dict[str, Any]:
        """Give its next line.

        Args:
            seconds: how long to wait.
            what: is waited for, for the error.

        Raises:
            DemoError: it took too long, or the child has ended.
        """
        getter = asyncio.create_task(self._lines.get())
        try:
            await asyncio.wait({getter, self._reader}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            # What it had said before it ended counts.
            await asyncio.sleep(0)
            if getter.done():
                return getter.result()
        finally:
            getter.cancel()
        if self.ended:
            raise self.failure(f"{self.name} ended before {what}.")
        raise self.failure(f"{self.name}: {what} took more than {seconds:.0f} seconds.")

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Write a line of JSON to its stdin.

        Raises:
            DemoError: it has ended.
        """
        stdin = self._process.stdin
        try:
            if stdin is None:
                raise BrokenPipeError
            stdin.write(json.dumps(message).encode() + b"\n")
            await stdin.drain()
        except OSError:
            raise self.failure(f"{self.name} has ended.") from None

    async def finish(self) -> None:
        """Let it end by itself: its stdin ends, and what it still says is read."""
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._process.wait()), _END_SECONDS)
            await asyncio.wait_for(asyncio.shield(self._reader), _END_SECONDS)

    async def end(self) -> None:
        """End it and whatever it has started, by force if need be."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            await self.finish()
        # What it left of its group; and itself, if it did not listen.
        self._signal(signal.SIGKILL)
        await self._process.wait()
        self._reader.cancel()

    def failure(self, what: str) -> DemoError:
        """Give an error that quotes the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        tail = "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
        return DemoError(
            what + (f"\n{tail}" if tail else ""),
            now="Everything that the demo had started is ended; the folder keeps what is journaled.",
            todo=f"Try again; if it stays so, look at {self.log}",
        )

    def _signal(self, number: signal.Signals) -> None:
        # The group outlives its leader for as long as one of its processes lives.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _read(self) -> None:
        stdout = self._process.stdout
        while stdout and (line := await stdout.readline()):
            with suppress(ValueError):
                self.latest = json.loads(line)
                self._lines.put_nowait(self.latest)


@asynccontextmanager
async def running(
    name: str, arguments: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run `python ARGUMENTS` for as long as the block lasts."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(os.environ if environ is None else environ),
            start_new_session=True,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        # Also while the demo is being cancelled: a second Ctrl-C must not leave it half done.
        await asyncio.shield(child.end())


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]],
    *,
    seconds: float,
    pause: float,
    otherwise: Callable[[], KeyturnError],
) -> None:
    """Wait for something.

    Raises:
        KeyturnError: it did not come in time; the one that `otherwise` gives.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        answer = condition()
        if answer is True or (not isinstance(answer, bool) and await answer):
            return
        if asyncio.get_running_loop().time() > end:
            raise otherwise()
        await asyncio.sleep(pause)
