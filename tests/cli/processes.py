"""The command line as a process: forked from one that has imported it, or started as it is installed.

A start of Python with keyturn costs half a second of a core, with ccxt more than one. What a test asks of a
process (its exit code, signals, streams, terminal, folder, variables) a forked one has as well. Each kind of
these has one test with the `installed` script; so has what only a start shows: imports, encodings.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pkgutil
import pty
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any

SCRIPT = Path(sys.executable).with_name("keyturn")
# Whatever a command does here: longer than any takes on a busy machine.
SECONDS = 60


@dataclass
class Result:
    """How one call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that stdout holds."""
        return json.loads(self.out)

    def ok(self) -> Result:
        assert self.code == 0, (self.code, self.out, self.err)
        return self


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KEYTURN_")}
    return {**kept, **more}


def installed(*arguments: object, cwd: Path, stdin: str = "", streams: str = "", **env: str) -> Result:
    """Start the installed script; `streams` are redirections of a shell, as `>&-` closes stdout."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", SCRIPT, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(**env),
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@cache
def _forking() -> ForkServerContext:
    import keyturn.cli

    context = multiprocessing.get_context("forkserver")
    commands = [module.name for module in pkgutil.iter_modules(keyturn.cli.__path__, "keyturn.cli.")]
    context.set_forkserver_preload([*commands, "keyturn.exchanges.bybit.driver", "ccxt.async_support.bybit"])
    return context


def _main(
    arguments: Sequence[str], folder: str, environ: Mapping[str, str], given: Mapping[int, Connection]
) -> None:
    """Become what Python starts: these streams and no others, this folder, these variables."""
    for number in range(3):
        if number in given:
            os.dup2(given[number].fileno(), number)
            given[number].close()
        else:
            os.close(number)
    if 0 in given and os.isatty(0):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = open(number, "w" if number else "r", encoding="utf-8") if number in given else None  # noqa: SIM115, PTH123
        setattr(sys, name, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["keyturn", *arguments]
    # A suite that a shell runs in the background has been given a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from keyturn.cli.main import main

    main()


class Forked:
    """A call of the command line that runs as a process of its own.

    Args:
        arguments: of the command line.
        cwd: its folder.
        environ: all its variables.
        streams: its standard streams, by number; one that is missing is closed.
    """

    def __init__(
        self, arguments: Sequence[object], cwd: Path, environ: Mapping[str, str], streams: Mapping[int, int]
    ) -> None:
        given = {number: Connection(os.dup(fd)) for number, fd in streams.items()}
        texts = [str(argument) for argument in arguments]
        self._process = _forking().Process(target=_main, args=(texts, str(cwd), dict(environ), given))
        self._process.start()
        for connection in given.values():
            connection.close()

    def interrupt(self) -> None:
        assert self._process.pid
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    def ended(self, within: float = SECONDS) -> int:
        """Wait for its end; give its exit code, or the signal that ended it as a negative number."""
        self._process.join(within)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"still running after {within} s")
        return self._process.exitcode


class Call:
    """A call of the command line whose streams are files.

    Args:
        arguments: of the command line.
        cwd: its folder.
        stdin: what it reads.
        closed: numbers of the standard streams that it does not have.
        env: more variables.
    """

    def __init__(
        self, *arguments: object, cwd: Path, stdin: str | bytes = "", closed: Sequence[int] = (), **env: str
    ) -> None:
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - `result` closes them
        self._files[0].write(stdin.encode() if isinstance(stdin, str) else stdin)
        self._files[0].seek(0)
        streams = {n: file.fileno() for n, file in enumerate(self._files) if n not in closed}
        self.running = Forked(arguments, cwd, environment(**env), streams)

    def result(self) -> Result:
        code = self.running.ended()
        texts = []
        for file in self._files[1:]:
            file.seek(0)
            texts.append(file.read().decode())
        for file in self._files:
            file.close()
        return Result(code, *texts)


def process(
    *arguments: object, cwd: Path, stdin: str | bytes = "", closed: Sequence[int] = (), **env: str
) -> Result:
    """Call the command line as a process of its own."""
    return Call(*arguments, cwd=cwd, stdin=stdin, closed=closed, **env).result()


def terminal(
    folder: Path, *arguments: object, types: Sequence[tuple[str, str]] = (), script: bool = False, **env: str
) -> Result:
    """Call the command line on a pseudo-terminal of its own; `out` is what it showed.

    Args:
        folder: where.
        arguments: of the command line.
        types: pairs of a prompt to wait for, and what is then typed.
        script: start the installed script.
        env: more variables.
    """
    environ = environment() | {"NO_COLOR": ""} | env
    if script:
        pid, mine = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execve(SCRIPT, ["keyturn", *map(str, arguments)], environ)
    else:
        mine, its = os.openpty()
        forked = Forked(arguments, folder, environ, dict.fromkeys(range(3), its))
        os.close(its)
    shown, answers = "", list(types)
    while True:
        try:
            part = os.read(mine, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        shown += part.decode(errors="replace")
        if answers and answers[0][0] in shown.rpartition("\n")[2]:
            os.write(mine, answers.pop(0)[1].encode() + b"\n")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if script else forked.ended()
    os.close(mine)
    return Result(code, shown, "")
