"""The test's side of the processes: start one, wait for it, kill it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
_WAIT_SECONDS = 60.0


@dataclass
class Process:
    """A process that was started."""

    pid: int
    log: Path
    ended: Future[int]

    async def wait(self) -> int:
        """Give its exit status, negative for the signal that killed it."""
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self.ended)), _WAIT_SECONDS)

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send it a signal, if it still lives, and give its exit status."""
        # It may end by itself at this moment.
        with suppress(ProcessLookupError):
            if not self.ended.done():
                os.kill(self.pid, number)
        return await self.wait()

    def told(self) -> str:
        """Give the end of what it wrote."""
        return self.log.read_text()[-1500:] if self.log.exists() else ""


class Nursery:
    """Starts processes; see `processes.py`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._begun: dict[int, Future[int]] = {}
        self._ended: dict[int, Future[int]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    async def start(self, folder: Path, role: str, **job: Any) -> Process:
        """Start a process in a role: `rotate`, `sweep` or `bot`."""
        number = next(self._numbers)
        begun, ended = self._begun[number], self._ended[number] = Future(), Future()
        line = json.dumps({"id": number, "folder": str(folder), "role": role, **job})
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        pid = await asyncio.wait_for(asyncio.wrap_future(begun), _WAIT_SECONDS)
        return Process(pid, folder / f"{role}-{number}.log", ended)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "pid" in message:
                self._begun.pop(message["id"]).set_result(message["pid"])
            elif "status" in message:
                self._ended.pop(message["id"]).set_result(message["status"])


@contextmanager
def opened() -> Iterator[Nursery]:
    """Open a nursery; nothing that it started outlives the block."""
    script = Path(__file__).with_name("processes.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    nursery = Nursery(process)
    try:
        yield nursery
    finally:
        process.stdin.close()
        process.wait(timeout=_WAIT_SECONDS)
        nursery._reader.join()
        process.stdout.close()
