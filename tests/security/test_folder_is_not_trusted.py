"""Nothing is taken from the folder that keyturn starts in: no module, and no setting of Prefect's.

Whoever may write to a shared folder would run code as everybody who starts keyturn there. That `keyturn up`
and a worker take nothing either is asked of those that other tests run: each starts in such a folder.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyturn.processes import importing_safely, python
from tests.cli import fleet
from tests.plants import Planted, plant

ROOT = Path(__file__).parents[2]
KEYTURN = Path(sys.executable).with_name("keyturn")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    asyncio.run(fleet.make(folder, 1))
    return folder / "keyturn.yaml"


def run(planted: Planted, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=planted.folder,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


COMMANDS = [
    ["status"],
    ["plan"],
    ["check"],
    ["history", "bot-0000"],
    ["verify-journal"],
    ["doctor"],
    ["sweep", "--dry-run"],
    ["rotate", "bot-0000", "--dry-run", "--reason", "a test"],
    ["schema"],
    ["put", "bot-0000"],
    ["init", "new", "--exchange", "bybit", "--credential", "mm", "--ip", "192.0.2.1"],
]
# As the installed script, one command after the other: whatever any of them imports, it imports once.
ALL = """
import json, sys
from keyturn.cli.main import main
codes = []
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as ended:
        codes.append(ended.code)
print(json.dumps(codes))
"""


def test_no_command_imports_from_it(planted: Planted, desk: Path, tmp_path: Path) -> None:
    script = tmp_path / "keyturn"
    script.write_text(ALL)
    told = json.dumps(COMMANDS)
    done = run(planted, sys.executable, str(script), told, KEYTURN_INVENTORY=str(desk))
    codes = json.loads(done.stdout.splitlines()[-1])
    assert len(codes) == len(COMMANDS)
    assert 1 not in codes, done.stderr
    assert planted.untouched(), planted.mark.read_text()


def test_the_installed_script_does_not_either(planted: Planted, desk: Path) -> None:
    done = run(planted, str(KEYTURN), "status", KEYTURN_INVENTORY=str(desk))
    assert done.returncode == 0, done.stderr
    assert planted.untouched(), planted.mark.read_text()


def test_no_child_imports_from_it_and_one_that_was_started_otherwise_would(
    planted: Planted, tmp_path: Path
) -> None:
    leash = ("-m", "keyturn.cli.leash", "0", "true")
    run(planted, *python(*leash))
    assert planted.untouched()
    (tmp_path / "shared").mkdir()
    other = plant(tmp_path / "shared")
    run(other, sys.executable, *leash)
    assert not other.untouched()


def test_nor_does_a_child_of_a_child_or_one_whose_path_has_an_empty_part(planted: Planted) -> None:
    environ = importing_safely({"PYTHONPATH": f":{ROOT}:src:"})
    assert environ == {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    done = run(planted, sys.executable, "-m", "keyturn.cli.leash", str(os.getpid()), "true", **environ)
    assert done.returncode == 0
    assert planted.untouched()


def _starts_python(file: Path) -> list[int]:
    """Where a file names the interpreter for something else than to find what lies beside it."""
    tree = ast.parse(file.read_text())
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    beside = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.func) == "Path"
    }
    return [node.lineno for node in named if ast.unparse(node) == "sys.executable" and id(node) not in beside]


def test_every_python_that_keyturn_starts_is_started_by_the_one_function() -> None:
    files = [file for root in ("src", "flows", "tasks") for file in (ROOT / root).rglob("*.py")]
    found = {str(file.relative_to(ROOT)): lines for file in files if (lines := _starts_python(file))}
    assert list(found) == ["src/keyturn/processes.py"], found


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_neither_keyturn_up_nor_its_server_nor_its_runs_take_anything_from_it(
    town: Any, whole_run: Any
) -> None:
    assert whole_run.state["type"] == "COMPLETED"
    assert town.planted.untouched(), town.planted.mark.read_text()
