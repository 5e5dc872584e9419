"""What `make setup` installs rotates keys; what tests them comes with the first command that tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([a-z0-9.-]+)(?:\[[a-z,-]+\])?==(\S+)", re.MULTILINE)


def pinned(lock: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / lock).read_text()))


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Any]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def named(requirements: list[Any]) -> set[str]:
    return {re.split(r"[\[<>=]", each)[0] for each in requirements if isinstance(each, str)}


def test_a_machine_that_rotates_keys_gets_no_tool_that_tests_them(groups: dict[str, list[Any]]) -> None:
    tools = named(groups["dev"])
    assert {"moto", "flask", "playwright", "pytest"} <= tools
    used = pinned("requirements.lock").keys()
    assert {"prefect", "hvac", "boto3", "ccxt", "psycopg", *named(groups["build"])} <= used
    assert tools & used <= {"jsonschema"}, "Prefect brings this one"


def test_what_is_tested_is_what_is_used() -> None:
    used, tested = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert len(used) > 100
    assert {name: tested.get(name) for name in used} == used


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert len(PINNED.findall(text)) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    assert all(f"{name}=={version}" in text for name, version in pinned(lock).items())
    for requirement in re.split(r"(?m)^(?=\S+==)", text)[1:]:
        assert "--hash=sha256:" in requirement
