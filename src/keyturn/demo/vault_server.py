"""`python -m keyturn.demo.vault_server PROGRAM`: a Vault or OpenBao in development mode, for one demo.

It keeps all in memory, on loopback, behind a root token made at random. Address and token go to stdout, a
pipe of the demo; the server has the token from its environment. It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from keyturn.demo.cast import ADDRESS

_START_SECONDS = 50.0
_GOODBYE_SECONDS = 5.0
# Either program knows the variable of its own name.
_TOKEN_VARIABLES = ("BAO_DEV_ROOT_TOKEN_ID", "VAULT_DEV_ROOT_TOKEN_ID")


def main() -> int:
    """Serve until stdin ends, and return the exit status."""
    token, port = secrets.token_urlsafe(32), _free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
    server = subprocess.Popen(  # noqa: S603 - what the demo has found on the PATH
        # The last option keeps the token out of the file that its command line logs in with.
        [sys.argv[1], "server", "-dev", f"-dev-listen-address={ADDRESS}:{port}", "-dev-no-store-token"],
        stdin=subprocess.DEVNULL,
        # In development mode it greets with the token, so none of its words are kept.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean | dict.fromkeys(_TOKEN_VARIABLES, token),
    )
    try:
        return _serve(server, port, token)
    finally:
        server.terminate()
        try:
            server.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _serve(server: subprocess.Popen[bytes], port: int, token: str) -> int:
    end = time.monotonic() + _START_SECONDS
    while not _ready(port):
        if server.poll() is not None or time.monotonic() > end:
            sys.stderr.write(f"{sys.argv[1]} does not come up (exit status {server.poll()})\n")
            return 1
        time.sleep(0.1)
    sys.stdout.write(json.dumps({"url": f"http://{ADDRESS}:{port}", "token": token}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    return 0


def _ready(port: int) -> bool:
    connection = HTTPConnection(ADDRESS, port, timeout=2)
    try:
        connection.request("GET", "/v1/sys/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
