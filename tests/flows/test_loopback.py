"""What runs on this machine is reached directly, also where the environment names a proxy for all else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from keyturn.cli import up
from keyturn.loopback import answers, past_proxies

NOWHERE = "http://127.0.0.1:9"


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of ours, where all else goes by a proxy that nobody answers at."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    with HTTPServer(("127.0.0.1", 0), _Well) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_a_server_of_ours_is_reached_past_the_proxy(server: str, tmp_path: Path) -> None:
    assert answers(server)
    assert not answers(NOWHERE)
    supervisor = up._Supervisor(
        tmp_path / "keyturn.yaml", tmp_path, "127.0.0.1", int(server.rsplit(":", maxsplit=1)[-1])
    )
    assert supervisor._healthy()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "intra.example"}, "intra.example,127.0.0.1,localhost,::1"),
        ({"no_proxy": "a,localhost", "NO_PROXY": "b"}, "a,localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_what_the_user_exempts_stays_exempt(before: dict[str, str], after: str) -> None:
    assert past_proxies(before) == {"no_proxy": after, "NO_PROXY": after}


def test_the_children_of_keyturn_up_reach_its_server_past_the_proxy(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = up._environment(tmp_path / "keyturn.yaml", tmp_path, "http://192.0.2.1:4200", "keyturn:x")
    monkeypatch.setenv("no_proxy", environ["no_proxy"])
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost", "::1", "192.0.2.1"))
    assert not urllib.request.proxy_bypass("api.bybit.com")


# A process of its own: this one may have read Prefect's settings, and may talk to a server of Prefect's.
_RUNS = """
import sys, urllib.request
from pathlib import Path
from flows.own_server import OwnServer

sys.executable = "/bin/true"
with OwnServer(Path(sys.argv[1])):
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("intra.example")
"""


def test_runs_on_a_server_of_their_own_reach_it_past_the_proxy(server: str, tmp_path: Path) -> None:
    environ = os.environ | {"no_proxy": "intra.example", "NO_PROXY": "intra.example"}
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", _RUNS, str(tmp_path)], cwd=root, env=environ, check=True, timeout=60
    )


@pytest.mark.parametrize(
    "said", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, b""]
)
def test_another_program_on_the_port_is_no_server_of_ours(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        assert not answers(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        thread.join(5)
