"""`keyturn up`: Prefect's server with its UI, and the flows, as children of this process.

It supervises and does nothing else: it imports neither Prefect nor the engine, so that whatever breaks
in them breaks in a child, which is started again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from urllib.parse import urlsplit

from keyturn.access import OpenToOthersError, expect_own_folder
from keyturn.cli.login import Login
from keyturn.domain.errors import KeyturnError, MachineError, RefusedError
from keyturn.loopback import answers, past_proxies
from keyturn.machine import refuse_environment, with_home
from keyturn.prefect_access import SERVER_AUTH, shared_settings
from keyturn.processes import importing_safely, python
from keyturn.settings import INVENTORY_VARIABLE

# Prefect's first start makes its database: 25 seconds on a busy machine with two cores.
_SERVER_START_SECONDS = 180.0
_READY_SECONDS = 120.0
_LOOK_SECONDS = 0.2
# Between two starts of a child that keeps dying; a child that lived for a minute starts at once again.
_BACKOFF_FLOOR_SECONDS, _BACKOFF_CAP_SECONDS, _LIVED_SECONDS = 1.0, 60.0, 60.0
# The flows need a few seconds to cancel their runs, the server a moment to close its database.
_STOP_SECONDS = 20.0


class StopError(Exception):
    """Somebody asked for the end."""


@dataclass
class Child:
    """A process that is kept alive."""

    name: str
    command: list[str]
    environ: Mapping[str, str]
    log: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    #: Not before this time of `time.monotonic`.
    next_start: float = field(default=0.0, repr=False)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone."""
        leash = python("-m", "keyturn.cli.leash", str(os.getpid()))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a list of arguments built below, no shell
                [*leash, *self.command],
                env=dict(self.environ),
                # Prefect reads settings from files where it starts (`.env` and others); here only we write.
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    def buried(self) -> None:
        """Count a death, end what the dead left behind, and say when the next start may be."""
        self.signal(signal.SIGTERM)
        self.process = None
        lived = time.monotonic() - self.started_at
        self.deaths = 1 if lived > _LIVED_SECONDS else self.deaths + 1
        wait = 0.0 if self.deaths == 1 else _BACKOFF_FLOOR_SECONDS * 2 ** min(self.deaths - 2, 10)
        self.next_start = time.monotonic() + min(_BACKOFF_CAP_SECONDS, wait)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to those that it started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
                return

    def stop(self) -> None:
        """End it and everything that it started: first kindly, then not."""
        if self.process is None:
            return
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"{self.name} does not end and is killed; nothing is lost by that.")
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_up(inventory: Path, *, port: int = 4200, host: str = "127.0.0.1") -> int:
    """Run everything for an inventory until SIGINT or SIGTERM; give the exit status.

    Args:
        inventory: the file; `.keyturn` beside it holds Prefect's database and the logs.
        port: of Prefect's API and UI.
        host: where they listen. Who reaches them can run commands here: anything but loopback needs
            `PREFECT_SERVER_API_AUTH_STRING`.

    Raises:
        RefusedError: it runs already, the port is taken, or the address is open to others without a
            password.
        MachineError: the inventory's folder cannot be written, or the environment cannot be used.
        KeyturnError: Prefect's server does not start.
    """
    folder = inventory.parent / ".keyturn"
    _refuse_open_door(host)
    refuse_environment(os.environ)
    with ExitStack() as stack:
        old = os.umask(0o077)  # the database holds names and texts that are nobody else's business
        stack.callback(os.umask, old)
        _settle(folder)
        stack.enter_context(_alone(folder / "up.lock"))
        _refuse_taken(host, port)
        stack.enter_context(_stop_on_signals())
        return _Supervisor(inventory, folder, host, port).run()


def _settle(folder: Path) -> None:
    """Make the folders that the children write to, and see that they can be written.

    Raises:
        MachineError: they cannot.
        RefusedError: somebody else owns one of them, or every user may write to it.
    """
    try:
        for each in (folder, folder / "prefect", folder / "logs"):
            each.mkdir(mode=0o700, exist_ok=True)
            expect_own_folder(each)
        for each in (folder, folder / "prefect", folder / "logs"):
            with TemporaryFile(dir=each) as trial:
                trial.write(b"\0")
    except OpenToOthersError as error:
        raise RefusedError(
            f"What runs here would be in other hands, too: {error.strerror}.",
            now="Nothing was started.",
            todo=error.todo,
        ) from None
    except OSError as error:
        raise MachineError(
            f"keyturn up cannot write to {folder}: {error.strerror or type(error).__name__}.",
            now="Nothing was started.",
            todo=f"Let the user that runs keyturn write to {folder.parent}, where Prefect's database and the"
            " logs go, and see that there is room; or copy the inventory to such a folder: its relative paths"
            " start there.",
        ) from None


class _Supervisor:
    """Starts two children, in order, and starts them again."""

    def __init__(self, inventory: Path, folder: Path, host: str, port: int) -> None:
        self._url = f"http://{_reachable(host)}:{port}"
        self._ready = folder / "ready"
        self._login = Login.of(os.environ, folder)
        environ = _environment(inventory, folder, self._url, self._login.auth)
        self.server = Child(
            "Prefect's server",
            python("-m", "flows.prefect_server", "--host", host, "--port", str(port)),
            environ,
            folder / "logs" / "server.log",
            folder / "prefect",
        )
        flows = python("-m", "flows.serve", "--ready-file", str(self._ready))
        self.flows = Child("The flows", flows, environ, folder / "logs" / "flows.log", folder / "prefect")

    def run(self) -> int:
        """Run until somebody asks for the end."""
        try:
            self._begin()
            while True:
                self._keep(self.server)
                if self.server.alive:
                    self._keep(self.flows)
                time.sleep(_LOOK_SECONDS)
        except StopError:
            say("Stopping. What has begun stays in the journal and goes on with the next start.")
            return 0
        finally:
            self.flows.stop()
            self.server.stop()
            self._ready.unlink(missing_ok=True)
            self._login.forget()

    def _begin(self) -> None:
        say("Starting Prefect's server; the first start takes half a minute.")
        self._login.write()
        self.server.start()
        self._wait(self.server, self._healthy, _SERVER_START_SECONDS)
        say(f"Prefect's UI: {self._url}\n{self._login.told(sys.stdout)}")
        self._ready.unlink(missing_ok=True)
        self.flows.start()
        self._wait(self.flows, self._ready.exists, _READY_SECONDS)
        say("Ready: the flows are served, and a sweep has been started. Ctrl-C stops everything.")

    def _wait(self, child: Child, done: Callable[[], bool], seconds: float) -> None:
        """Wait until a child is up.

        Raises:
            KeyturnError: it died, or took too long.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if not child.alive or time.monotonic() > deadline:
                what = "did not come up in time" if child.alive else "ended as it started"
                raise KeyturnError(
                    f"{child.name} {what}.",
                    now="Everything was stopped again; the journal and the keys are as they were.",
                    todo=f"Read the end of {child.log}",
                )
            time.sleep(_LOOK_SECONDS)

    def _healthy(self) -> bool:
        return answers(f"{self._url}/api/health")

    def _keep(self, child: Child) -> None:
        """Start a child again that died."""
        if child.alive:
            return
        if child.process is not None:
            status = child.process.returncode
            child.buried()
            say(f"{child.name} ended (status {status}) and is started again; see {child.log}")
        if time.monotonic() >= child.next_start:
            child.start()


def _environment(inventory: Path, folder: Path, url: str, auth: str) -> dict[str, str]:
    """Give the children's environment: the caller's, with what must be so."""
    musts = shared_settings(url, auth) | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        INVENTORY_VARIABLE: str(inventory),
    }
    environ = dict(os.environ) | past_proxies(os.environ, urlsplit(url).hostname or "") | musts
    # The page that was opened by another name of this machine calls that name, and so its own origin.
    environ.setdefault("PREFECT_UI_API_URL", "/api")
    return environ | with_home(environ, folder / "prefect") | importing_safely(environ)


def _reachable(host: str) -> str:
    """Give the address at which this machine reaches a server that listens there."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
    return everywhere.get(host, f"[{host}]" if ":" in host else host)


def _refuse_open_door(host: str) -> None:
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not os.environ.get(SERVER_AUTH):
        raise RefusedError(
            f"Prefect's API would be open to everybody who reaches {host}; who reaches it can run commands.",
            now="Nothing was started.",
            todo=f"Leave the host out, or set {SERVER_AUTH} to USER:PASSWORD and put a proxy with TLS before"
            " it.",
        )


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RefusedError(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                now="Nothing was started.",
                todo="Name another with --port.",
            ) from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of this inventory; children do not inherit it.

    Raises:
        RefusedError: another process holds it.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RefusedError(
                f"keyturn up runs already for this inventory (process {lock.read().strip() or 'unknown'}).",
                now="Nothing was started.",
                todo="Use that one, or stop it first.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into one `StopError`; further ones do not disturb the stopping."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise StopError

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
