"""What may cross from the engine to Prefect, and where Prefect may be named at all."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.domain.errors import RefusedError
from tasks.boundary import PlainError, PlainRefusalError, bounded, plain

ROOT = Path(__file__).parents[2]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_prefect_is_imported_in_flows_and_tasks_alone() -> None:
    core = sorted((ROOT / "src").rglob("*.py"))
    assert core
    assert [str(f) for f in core if imported(f) & {"prefect", "flows", "tasks"}] == []


def test_tasks_do_not_know_the_flows() -> None:
    assert [str(f) for f in (ROOT / "tasks").glob("*.py") if "flows" in imported(f)] == []


def test_the_supervisor_starts_without_prefect_the_engine_or_ccxt() -> None:
    heavy = "{'prefect', 'ccxt', 'sqlalchemy', 'keyturn.engine', 'flows'} & set(sys.modules)"
    code = f"import sys, keyturn.cli.up; sys.exit(str(found) if (found := {heavy}) else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_nothing_hangs_on_an_error_that_crosses() -> None:
    @bounded
    async def fails() -> None:
        secret = "not-a-real-secret-1"
        try:
            raise KeyError(secret)
        except KeyError:
            raise ValueError(f"POST {secret}")  # noqa: B904 - as careless as a library may be

    with pytest.raises(PlainError) as raised:
        await fails()
    error = raised.value
    assert "ValueError, at test_boundary.py:" in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert b"not-a-real-secret" not in pickle.dumps(error)
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code is not test_nothing_hangs_on_an_error_that_crosses.__code__:
            assert "not-a-real-secret" not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


def test_a_refusal_crosses_as_a_refusal_with_its_three_answers() -> None:
    told = plain(RefusedError("No.", now="As before.", todo="Ask again."))
    assert isinstance(told, PlainRefusalError)
    assert str(told) == "No.\nNow: As before.\nDo: Ask again."
    assert isinstance(plain(told), PlainRefusalError)
