"""What `keyturn up` refuses before it starts anything, and the leash of its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn.cli import up
from keyturn.cli.login import Login
from keyturn.cli.up import run_up
from keyturn.domain.errors import KeyturnError, RefusedError


def test_an_address_that_others_reach_needs_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(RefusedError, match="would be open to everybody"):
            run_up(tmp_path / "keyturn.yaml", host=host)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RefusedError, match=f"Port {port}") as refused:
            run_up(tmp_path / "keyturn.yaml", port=port)
    assert "--port" in refused.value.todo


def test_a_server_that_does_not_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up.sys, "executable", "/bin/false")
    with pytest.raises(KeyturnError, match="ended as it started") as failed:
        run_up(tmp_path / "keyturn.yaml", port=1025 + os.getpid() % 60000)
    assert "server.log" in failed.value.todo
    assert (tmp_path / ".keyturn" / "prefect").stat().st_mode & 0o777 == 0o700


def test_children_get_the_callers_wishes_and_what_must_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    monkeypatch.setenv("PREFECT_API_URL", "http://somewhere.else/api")
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:not-a-real-secret-1")
    auth = Login.of(os.environ, tmp_path).auth
    environ = up._environment(tmp_path / "keyturn.yaml", tmp_path / ".keyturn", "http://127.0.0.1:4200", auth)
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert environ["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://db/prefect"
    assert environ["PREFECT_API_AUTH_STRING"] == "admin:not-a-real-secret-1"
    assert environ["KEYTURN_INVENTORY"] == str(tmp_path / "keyturn.yaml")


def test_a_child_that_keeps_dying_is_started_ever_more_slowly_and_never_given_up(tmp_path: Path) -> None:
    child = up.Child("it", ["/bin/false"], {}, tmp_path / "log", tmp_path)
    waits = []
    for _ in range(12):
        child.start()
        assert child.process is not None
        child.process.wait()
        child.buried()
        waits.append(round(max(0.0, child.next_start - time.monotonic())))
    assert waits[:4] == [0, 1, 2, 4]
    assert waits[-1] == 60


@pytest.mark.parametrize("how", ["prctl", "watch"])
def test_a_child_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path, how: str) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("this test looks at processes in /proc: run it on Linux")
    platform = "" if how == "prctl" else "sys.platform = 'darwin'; "
    leash = f"import sys; {platform}from keyturn.cli import leash; leash.main(sys.argv[1:])"
    parent = (
        "import os, subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', sys.argv[1],"
        " str(os.getpid()), 'sleep', '60'], start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, leash], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    _wait(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes(), "the child")
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait(lambda: _gone(child), "the end of the child")


def _gone(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def _wait(look: object, what: str) -> None:
    assert callable(look)
    deadline = time.monotonic() + 15
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
