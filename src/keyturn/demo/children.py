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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from keyturn.domain.errors import KeyturnError
from keyturn.processes import importing_safely, python

# For a bot to end its last call and say so, on a machine that is busy with something else.
_LAST_WORDS_SECONDS = 30.0
# After SIGTERM. Nothing is lost by SIGKILL: what matters is on disk, and the next demo goes on from there.
_END_SECONDS = 2.0
# How much of a log is shown when its writer has failed.
_LOG_LINES = 12


class DemoError(KeyturnError):
    """The demo cannot go on."""


class Child:
    """A Python module that runs beside the demo and says on stdout, a line of JSON each, how it goes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        #: What it said so far.
        self.lines: list[dict[str, Any]] = []
        self._process = process
        self._reader = asyncio.create_task(self._read())

    @property
    def latest(self) -> dict[str, Any]:
        """What it said last."""
        return self.lines[-1] if self.lines else {}

    @property
    def ended(self) -> bool:
        """Whether it says nothing more."""
        return self._reader.done()

    async def begins(self, seconds: float) -> dict[str, Any]:
        """Wait for its first line and give it.

        Raises:
            DemoError: it took longer than these seconds, or the child has ended.
        """

        async def spoken() -> bool:
            return bool(self.lines) or self.ended

        late = f"{self.name} did not start within {seconds:.0f} seconds."
        await until(spoken, seconds=seconds, pause=0.05, otherwise=lambda: self.failure(late))
        if not self.lines:
            raise self.failure(f"{self.name} ended before it had started.")
        return self.lines[0]

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

    async def finish(self, seconds: float = _LAST_WORDS_SECONDS) -> None:
        """Let it end by itself: its stdin ends, and what it still says is read."""
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
                await asyncio.shield(self._reader)

    async def end(self) -> None:
        """End it and whatever it has started, by force if need be. Doing it twice is harmless."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            await self.finish(_END_SECONDS)
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
                self.lines.append(json.loads(line))


@asynccontextmanager
async def running(
    name: str,
    arguments: Sequence[str],
    *,
    log: Path,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> AsyncIterator[Child]:
    """Run `python ARGUMENTS` for as long as the block lasts."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *python(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**(given := os.environ if environ is None else environ), **importing_safely(given)},
            cwd=folder,
            start_new_session=True,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        await child.end()


async def until(
    condition: Callable[[], Awaitable[bool]],
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
    while not await condition():
        if asyncio.get_running_loop().time() > end:
            raise otherwise()
        await asyncio.sleep(pause)
