"""A command that a text tells somebody to type runs as it stands: it has its name and its reason."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.engine.commands import with_reason

from .conftest import CREDENTIAL, Home

_ROOT = Path(__file__).parents[2]
_SOURCES = sorted(
    path
    for folder in ("src/keyturn/engine", "src/keyturn/cli", "flows", "tasks")
    for path in (_ROOT / folder).glob("*.py")
)
_NEEDS_REASON = re.compile(r"keyturn (?:rollback|abort|rotate) NAME(?! --reason \")")
_NEEDS_NAME = re.compile(r"keyturn (?:resume|rollback|abort|adopt)(?:[.,;:]| [a-z])|.keyturn resume$")


def _texts(path: Path) -> Iterator[str]:
    """Give every text of a module, with NAME for what is filled in; no docstrings, which nobody is told."""
    tree = ast.parse(path.read_text())
    quiet = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "NAME" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from () if id(node) in inside | quiet else (node.value,)


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_text_prints_a_command_without_its_name_or_reason(path: Path) -> None:
    if path.name == "commands.py":
        return  # what it gives is tried below
    for text in _texts(path):
        assert not _NEEDS_REASON.search(text), text
        assert not _NEEDS_NAME.search(text), text


@pytest.mark.parametrize("command", ["rotate", "abort", "rollback"])
def test_a_command_with_a_reason_is_understood_as_it_is_printed(home: Home, command: str) -> None:
    _, *arguments = shlex.split(with_reason(command, CREDENTIAL))
    result = home.run(*arguments, *(["--dry-run"] if command == "rotate" else []))
    assert result.code in {0, 3}, result.err
    assert "Missing" not in result.err
