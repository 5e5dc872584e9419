"""No process of keyturn runs on uvloop, which closes files of others (docs/adr/0009).

The children of `keyturn up` are asked in `tests/flows/test_real_server.py`, those of the demo in
`tests/demo/test_demo.py`.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from keyturn.cli import session
from tests.cli.conftest import CREDENTIAL, Home
from tests.event_loop import uvloop_in

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file for root in ("src", "flows", "tasks", "benchmarks") for file in (ROOT / root).rglob("*.py")
)
# Whatever is called like this chooses the loop for what is run afterwards.
POLICY = {"set_event_loop_policy", "install"}
STARTS_A_SERVER = {"uvicorn.Config", "uvicorn.run"}
# Says at its end whether uvloop was loaded.
ASKED = """
import atexit, runpy, sys
atexit.register(lambda: print("uvloop loaded:", "uvloop" in sys.modules, file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text())))


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes(file):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def loops() -> Iterator[str]:
    for file in SOURCES:
        for name, call in calls(file):
            given = {each.arg for each in call.keywords}
            if name.rpartition(".")[2] == "Runner" and "loop_factory" in given:
                yield f"{file}:{call.lineno}: {name}"
            if name.startswith("asyncio.") and name.rpartition(".")[2] in POLICY:
                yield f"{file}:{call.lineno}: {name}"
            if name in STARTS_A_SERVER and "loop" not in given:
                yield f"{file}:{call.lineno}: {name} leaves the choice to uvicorn"


def imports_of_uvloop() -> Iterator[str]:
    for file in SOURCES:
        for node in nodes(file):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                if any(name.split(".")[0] == "uvloop" for name in names):
                    yield f"{file}:{node.lineno}"


def test_no_code_of_keyturn_chooses_another_event_loop() -> None:
    assert [*loops(), *imports_of_uvloop()] == []


def test_a_command_runs_on_pythons_own_loop_also_where_uvloop_is_installed() -> None:
    pytest.importorskip("uvloop")

    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert session.run(module()).startswith("asyncio.")


def asked(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASKED, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_rotation_by_the_command_line_has_not_loaded_it(live: Home) -> None:
    pytest.importorskip("uvloop")
    why = ("--reason", "the quarterly rotation")
    done = asked(live.folder, "keyturn.cli.main", "rotate", CREDENTIAL, *why)
    assert done.returncode == 0, done.stderr
    assert "uvloop loaded: False" in done.stderr


@pytest.mark.parametrize("way", ["engine", "floor"])
def test_a_benchmark_has_not_loaded_it(way: str, tmp_path: Path, product: bool) -> None:
    pytest.importorskip("uvloop")
    if not product:
        pytest.skip("half a minute for what no user meets: make product")
    done = asked(tmp_path, "benchmarks", "--one", way, "2")
    assert done.returncode == 0, done.stderr
    assert "uvloop loaded: False" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["keyturn.demo.aws_emulator"], ["keyturn.simulator", "--exchange", "bybit"]],
    ids=["emulator of AWS", "simulated exchange"],
)
def test_a_server_that_runs_has_not_loaded_it(command: list[str]) -> None:
    pytest.importorskip("uvloop")
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"]
        assert not uvloop_in(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def test_prefects_server_is_started_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    from flows import prefect_server

    given: list[object] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: given.append((app, options["loop"])))
    prefect_server.serve_our_way()
    uvicorn.run("prefect.server.api.server:create_app", workers=2)
    # Each of its processes makes the application with what guards it.
    assert given == [("flows.prefect_server:create_app", "asyncio")]
