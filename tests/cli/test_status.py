"""`keyturn status`: what it shows, and how little it needs for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.glance import REVISION, glance
from keyturn.exchanges.catalog import manifests
from keyturn.journal import SqlJournal, schema
from keyturn.settings import load_inventory
from tests.cli.processes import environment, installed, terminal

from . import fleet
from .conftest import Run

_NAMES = """
import sys
from keyturn.cli.main import main
try:
    main(["status", "--json", *sys.argv[1:]])
except SystemExit as ended:
    assert ended.code == 0, ended.code
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    asyncio.run(fleet.make(tmp_path, 10))
    return tmp_path


def _journal(folder: Path, index: int, begun: datetime, upto: int | None = None) -> None:
    async def write() -> None:
        journal = await SqlJournal.open_url(f"sqlite:///{folder}/journal.db")
        try:
            await fleet.journal_one(journal, index, begun, upto=upto)
        finally:
            await journal.close()

    asyncio.run(write())


def _status(cli: Run, folder: Path, *arguments: str) -> Any:
    return cli("status", *arguments, "--json", "-i", folder / "keyturn.yaml").ok().document


@pytest.mark.parametrize("extra", [(), ("--problems",)])
def test_status_imports_nothing_that_is_slow(ten: Path, extra: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NAMES, *extra],
        cwd=ten,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["credentials"]) == (0 if extra else 10)
    assert not {"prefect", "ccxt", "alembic", "sqlalchemy", "aiohttp", "rich", "fastapi"} & set(
        done.stderr.split()
    )


def test_a_command_imports_only_its_own_module(ten: Path) -> None:
    code = _NAMES.replace('["status", "--json", *sys.argv[1:]]', '["check"]').replace(
        '.partition(".")[0]', ""
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ten, env=environment(), capture_output=True, text=True, check=True
    )
    names = set(done.stderr.split())
    assert "keyturn.cli.check" in names
    assert not {"keyturn.cli.rotate", "keyturn.cli.status", "keyturn.engine.engine", "sqlalchemy"} & names


def test_the_glance_knows_the_newest_journal() -> None:
    assert REVISION == schema.REVISION


def test_the_glance_sees_what_the_journal_sees(ten: Path) -> None:
    _journal(ten, 3 + 32**5, datetime.now(UTC))  # an eleventh credential that is in no inventory any more

    async def compare() -> None:
        seen = glance(load_inventory(ten / "keyturn.yaml", manifests=manifests()))
        assert seen is not None
        journal = await SqlJournal.open_url(f"sqlite:///{ten}/journal.db", create=False)
        try:
            assert list(await seen.latest()) == list(await journal.latest())
            assert list(await seen.last_completed()) == list(await journal.last_completed())
            assert list(await seen.adopted()) == list(await journal.adopted())
        finally:
            await journal.close()

    asyncio.run(compare())


def test_what_the_glance_cannot_judge_is_left_to_the_journal(ten: Path) -> None:
    loaded = load_inventory(ten / "keyturn.yaml", manifests=manifests())
    (ten / "journal.db").write_bytes(b"no database at all, and long enough to be looked at" * 20)
    assert glance(loaded) is None
    (ten / "journal.db").unlink()
    assert glance(loaded) is None


def test_a_damaged_journal_is_told_and_not_a_traceback(ten: Path, cli: Run) -> None:
    for name in ("journal.db-wal", "journal.db-shm"):
        (ten / name).unlink(missing_ok=True)
    (ten / "journal.db").write_bytes(b"no database at all, and long enough to be looked at" * 20)
    result = cli("status", "-i", ten / "keyturn.yaml")
    assert result.code == 7
    assert result.err.startswith("Error: ")


def test_credentials_keep_the_order_of_the_inventory(ten: Path, cli: Run) -> None:
    names = [each["credential"] for each in _status(cli, ten)["credentials"]]
    assert names == [fleet.name_of(index) for index in range(10)]


def test_what_is_late_is_marked_and_filtered(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "keyturn.yaml").write_text(fleet.inventory_text(3))
    _journal(tmp_path, 0, datetime.now(UTC) - timedelta(days=1))
    _journal(tmp_path, 1, datetime.now(UTC) - timedelta(days=65))
    _journal(tmp_path, 2, datetime.now(UTC), upto=4)
    document = _status(cli, tmp_path)
    assert document["summary"] == {"credentials": 3, "in_rotation": 1, "parked": 0, "late": 1}
    assert [each["late"] for each in document["credentials"]] == [False, True, False]
    assert document["credentials"][2]["state"] == "promoted"
    text = cli("status", "-i", tmp_path / "keyturn.yaml").ok().out
    assert "LATE by 4d" in text or "LATE by 5d" in text
    only = cli("status", "--problems", "-i", tmp_path / "keyturn.yaml").ok().out
    assert "bot-0001" in only
    assert "bot-0000" not in only


def test_an_open_rotation_is_shown_though_its_name_is_not_in_the_inventory(tmp_path: Path, cli: Run) -> None:
    _journal(tmp_path, 0, datetime.now(UTC))
    _journal(tmp_path, 1, datetime.now(UTC), upto=4)
    _journal(tmp_path, 2, datetime.now(UTC))  # removed, too, but after its rotation had ended
    (tmp_path / "keyturn.yaml").write_text(fleet.inventory_text(1))
    document = _status(cli, tmp_path)
    assert document["summary"] == {"credentials": 2, "in_rotation": 1, "parked": 0, "late": 0}
    known, stray = document["credentials"]
    assert (known["credential"], known["in_inventory"]) == ("bot-0000", True)
    facts = {"credential": "bot-0001", "exchange": "bybit", "account": "main", "state": "promoted"}
    assert stray.items() >= {**facts, "in_inventory": False, "due": None, "late": False}.items()
    assert stray["rotation_id"] == fleet.rotation_id(1)
    for arguments in ((), ("--problems",), ("bot-0001",)):
        text = cli("status", *arguments, "-i", tmp_path / "keyturn.yaml").ok().out
        assert "needs you" in text
        assert "not in the inventory" in " ".join(text.split())
        assert "bot-0001: Put its entry back under this name" in text
    assert "There is no credential bot-0002" in cli("status", "bot-0002", "-i", tmp_path / "keyturn.yaml").err


def test_names_narrow_the_list(ten: Path, cli: Run) -> None:
    document = _status(cli, ten, "bot-0003", "bot-0001")
    assert [each["credential"] for each in document["credentials"]] == ["bot-0001", "bot-0003"]


def test_the_document_has_its_documented_fields(ten: Path, cli: Run) -> None:
    line = _status(cli, ten)["credentials"][0]
    assert set(line) == {
        "credential", "exchange", "account", "state", "parked", "late", "fingerprint", "rotation_id",
        "last_rotated_at", "wake_at", "due", "in_inventory", "problem", "todo", "differences",
    }  # fmt: skip
    assert set(line["due"]) == {"at", "why", "deadline", "outside_window"}


def test_a_terminal_gets_colours_unless_it_says_no(ten: Path) -> None:
    assert "\x1b[" in terminal(ten, "status", TERM="xterm").out
    assert "\x1b[" not in terminal(ten, "status", TERM="xterm", NO_COLOR="1").out
    assert "\x1b[" not in terminal(ten, "status", TERM="dumb").out
    assert "\x1b[" not in installed("status", cwd=ten).ok().out
