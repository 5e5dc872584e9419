"""A Prefect server of one process's own, which ends with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from keyturn.loopback import answers, past_proxies
from keyturn.prefect_access import draw_auth, shared_settings
from keyturn.processes import importing_safely, python

# Prefect's first start makes its database: 25 seconds on a busy machine with two cores.
_START_SECONDS = 180.0
_LOOK_SECONDS = 0.05
# What it gets to end well; it holds nothing that is missed.
_STOP_SECONDS = 5.0


class OwnServer:
    """A server on loopback for the time of a `with`, to which this process's environment points.

    Prefect reads the environment as it is imported, and so must not have been before. What it imports
    while the server starts costs no time: `wait_until_ready` comes after the imports.
    """

    def __init__(self, home: Path) -> None:
        """Name Prefect's folder, which holds the server's database."""
        self._home = home

    def __enter__(self) -> Self:
        """Begin to start it.

        Raises:
            RuntimeError: Prefect has been imported already.
        """
        if "prefect" in sys.modules:
            raise RuntimeError("Prefect has read the environment already; it would not see its server.")
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}"
        os.environ |= past_proxies(os.environ) | importing_safely(os.environ)
        os.environ |= shared_settings(self._url, draw_auth()) | {
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(self._home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # No browser ever gets the string, and each token costs a look into the database.
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false",
        }
        command = python("-m", "flows.prefect_server", "--host", "127.0.0.1", "--port", str(port))
        leash = python("-m", "keyturn.cli.leash", str(os.getpid()))
        self._process = subprocess.Popen(  # noqa: S603 - a list of arguments built above, no shell
            [*leash, *command, "--no-ui"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
        )
        return self

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer in time; stderr tells why.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not answers(f"{self._url}/api/health"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Prefect's server did not start; see what it wrote above.")
            time.sleep(_LOOK_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
