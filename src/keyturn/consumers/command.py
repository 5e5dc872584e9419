"""Runs a consumer's command: no shell, no secret in it or around it, no output kept."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from keyturn.domain.errors import ConsumerError, ConsumerFault

# What a command may need from where keyturn runs. keyturn's own environment can hold the store's key.
_PASSED_ON = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS",
    }
)
# A fingerprint has eight characters; whoever prints a page prints something else.
_MAX_OUTPUT = 4096
_PIPE_HOLDS = 65536


async def run(argv: Sequence[str], *, cwd: Path, facts: Mapping[str, str], timeout: float) -> None:  # noqa: ASYNC109
    """Run a command to its end; what it started in the background lives on.

    Args:
        argv: program and arguments.
        cwd: the folder it starts in.
        facts: environment variables that it gets besides the few that are passed on; nothing secret.
        timeout: seconds; then it is killed, with all that it started.

    Raises:
        ConsumerError: `MISCONFIGURED` when it cannot be started, `OUTCOME_UNKNOWN` when it took too long,
            `REFUSED` when it ended with another status than 0.
    """
    # No pipe: a bot that it starts would hold it open, and die of it at a print when keyturn is gone.
    await _finish(argv, cwd, facts, timeout, stdout=asyncio.subprocess.DEVNULL)


async def ask(argv: Sequence[str], *, cwd: Path, facts: Mapping[str, str], timeout: float) -> str:  # noqa: ASYNC109
    """Run a command as `run` does, and give the beginning of what it had printed when it ended.

    Raises:
        ConsumerError: as `run`.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    printed = bytearray()

    def take() -> None:
        # Read all and keep the beginning, so that a talkative command does not block.
        with suppress(BlockingIOError):
            printed.extend(os.read(reading, _PIPE_HOLDS))
        del printed[_MAX_OUTPUT:]

    loop = asyncio.get_running_loop()
    loop.add_reader(reading, take)
    try:
        # Its end counts, not the pipe's: whoever it left in the background may hold that for ever.
        await _finish(argv, cwd, facts, timeout, stdout=writing)
        take()
    finally:
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
    return printed.decode(errors="replace")


async def _finish(
    argv: Sequence[str],
    cwd: Path,
    facts: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109
    *,
    stdout: int,
) -> None:
    environment = {k: v for k, v in os.environ.items() if k in _PASSED_ON} | dict(facts)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            f"The command {argv[0]} cannot be started: {error.strerror}.",
            now="The file is written; the consumer was not told.",
            todo="Give the program's full path, and make it executable for keyturn's user.",
        ) from None
    try:
        async with asyncio.timeout(timeout):
            status = await process.wait()
    except TimeoutError:
        raise ConsumerError(
            ConsumerFault.OUTCOME_UNKNOWN,
            f"The command {argv[0]} did not end within {timeout:g} s and was killed.",
            now="The file is written; the command will be run again.",
            todo="Let it return at once, or raise `timeout`.",
        ) from None
    finally:
        # The whole group, also after a cancellation: nothing may go on behind our back.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        raise ConsumerError(
            ConsumerFault.REFUSED,
            f"The command {argv[0]} ended with status {status}.",
            now="The file is written; the command will be run again.",
            todo="Run it by hand to see why; keyturn keeps no output.",
        )
