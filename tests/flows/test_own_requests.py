"""Which requests reach Prefect: those by its own names, and from its own pages."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from flows.own_requests import OwnRequests
from keyturn.prefect_access import own_hosts, own_origins

BY_ITSELF = {"PREFECT_API_URL": "http://127.0.0.1:4300/api"}
BEHIND_A_PROXY = BY_ITSELF | {"PREFECT_UI_URL": "https://keyturn.example"}


async def asked(environ: dict[str, str], kind: str, *headers: tuple[str, str]) -> int:
    """Give the status of the answer; 200 is Prefect's."""

    async def prefect(scope: Any, receive: Any, send: Any) -> None:
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        else:
            await send({"type": "websocket.accept"})

    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    app = OwnRequests(prefect, own_hosts(environ), own_origins(environ))
    await app({"type": kind, "headers": raw}, send, send)
    if kind == "http":
        return int(said[0]["status"])
    return 200 if said[0]["type"] == "websocket.accept" else 403


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "127.0.0.1:4300")],
        [("Host", "localhost:4300")],
        [("Host", "[::1]:4300")],
        [("Host", "LocalHost")],
        [("Host", "127.0.0.1:4300"), ("Origin", "http://127.0.0.1:4300")],
        [("Host", "localhost:4300"), ("Origin", "http://localhost:4300")],
    ],
)
async def test_its_own(kind: str, headers: list[tuple[str, str]]) -> None:
    assert await asked(BY_ITSELF, kind, *headers) == 200


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "")],
        [("Host", "rebound.example:4300")],
        [("Host", "0.0.0.0:4300")],
        [("Host", "127.0.0.1:4300@rebound.example")],
        [("Host", "rebound.example@127.0.0.1")],
        [("Host", "127.0.0.1/rebound.example")],
        [("Host", "[::1")],
        [("Host", "127.0.0.1:4300"), ("Host", "rebound.example")],
        [("Host", "127.0.0.1:4300"), ("Origin", "http://127.0.0.1:9000")],
        [("Host", "127.0.0.1:4300"), ("Origin", "http://localhost:4300")],
        [("Host", "127.0.0.1:4300"), ("Origin", "null")],
        [("Host", "127.0.0.1:4300"), ("Origin", "https://rebound.example")],
        [("Host", "127.0.0.1:4300"), ("Origin", "http://127.0.0.1:4300"), ("Origin", "null")],
    ],
)
async def test_all_others_are_refused(kind: str, headers: list[tuple[str, str]]) -> None:
    assert await asked(BY_ITSELF, kind, *headers) in {403, 421}


async def test_a_server_behind_a_proxy_goes_by_the_name_of_its_ui() -> None:
    name = ("Host", "keyturn.example")
    assert await asked(BEHIND_A_PROXY, "http", name, ("Origin", "https://keyturn.example")) == 200
    assert await asked(BY_ITSELF, "http", name) == 421


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        ([], {}, "without an auth string"),
        (["--background"], {"PREFECT_SERVER_API_AUTH_STRING": "a:not-a-real-secret"}, "--background"),
    ],
)
def test_a_server_that_would_be_open_does_not_start(
    arguments: list[str], environ: dict[str, str], said: str, tmp_path: Any
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.prefect_server", *arguments],
        env={"PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert said in done.stderr
