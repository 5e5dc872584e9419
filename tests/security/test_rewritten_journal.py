"""Whoever may write the database rewrites it and computes every hash anew; a hash that was kept tells."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.main import main
from keyturn.domain.rotation import EventType
from keyturn.journal import SqlJournal
from keyturn.journal.chain import genesis, link
from keyturn.testing.journal_cases import completed, opened, step

INVENTORY = """\
version: 1
journal: {url: "sqlite:///journal.db"}
stores: {s: {kind: age_files, path: secrets, key: {file: age.txt}}}
accounts: {main: {exchange: bybit, manager: {store: s, path: managers/main}}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "keyturn.yaml").write_text(INVENTORY)

    async def fill() -> None:
        journal = await SqlJournal.open_url(f"sqlite:///{tmp_path / 'journal.db'}")
        await completed(journal, await opened(journal))
        await journal.close()

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def run(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(desk)

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["verify-journal", *arguments])
        said = capsys.readouterr()
        return int(str(ended.value.code or 0)), said.out, said.err

    return called


def documented(run: Run, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json")[1])
    return found


def rewrite(journal: Path, change: str) -> None:
    """Change the journal, and make it whole again, as its author could."""
    with closing(sqlite3.connect(journal)) as intruder:
        intruder.row_factory = sqlite3.Row
        intruder.execute(change)
        head = genesis(intruder.execute("SELECT salt FROM meta").fetchone()[0])
        last, number = head.hash, 0
        for row in intruder.execute("SELECT * FROM events ORDER BY number").fetchall():
            made, number = link(last, dict(row)), row["number"]
            intruder.execute(
                "UPDATE events SET prev_hash = ?, hash = ? WHERE number = ?", (last, made, number)
            )
            last = made
        intruder.execute("UPDATE meta SET head_number = ?, head_hash = ?", (number, last))
        intruder.commit()


def test_a_journal_that_was_rewritten_and_hashed_anew_does_not_have_the_hash_that_was_kept(
    desk: Path, run: Run
) -> None:
    kept = documented(run)
    rewrite(desk / "journal.db", "UPDATE events SET actor = 'cli:mallory' WHERE number = 2")
    code, out, _ = run()
    assert code == 0, "by itself it is whole: that is what the hash is kept for"
    assert "The journal is whole" in out
    code, out, _ = run("--expect", kept["newest"])
    assert code == 7
    assert "Another journal" in out
    assert "Do: stop rotating" in out
    told = documented(run, "--expect", kept["newest"])
    assert (told["ok"], told["since"], told["expected"]) == (False, None, kept["newest"])
    assert told["newest"] != kept["newest"]


def test_a_kept_hash_stays_in_the_chain_and_what_came_since_is_counted(desk: Path, run: Run) -> None:
    kept = documented(run)
    assert kept["expected"] is kept["since"] is None
    assert f"Newest hash: {kept['newest']}" in run()[1]

    async def go_on() -> None:
        journal = await SqlJournal.open_url(f"sqlite:///{desk / 'journal.db'}")
        rotation = await opened(journal, "another")
        for _ in range(2):
            rotation = await step(journal, rotation, EventType.DEFERRED, problem="x")
        await journal.close()

    assert documented(run, "--expect", kept["newest"])["since"] == 0
    asyncio.run(go_on())
    code, out, _ = run("--expect", f"  {kept['newest'].upper()} ")
    assert code == 0
    assert "events since then: 3" in out
    told = documented(run, "--expect", kept["newest"])
    assert (told["ok"], told["since"], told["events"]) == (True, 3, kept["events"] + 3)


def test_an_older_copy_in_its_place_does_not_have_the_hash_that_was_kept(desk: Path, run: Run) -> None:
    kept = documented(run)
    rewrite(desk / "journal.db", f"DELETE FROM events WHERE number = {kept['events']}")
    told = documented(run, "--expect", kept["newest"])
    assert told["ok"] is False
    assert told["since"] is None


def test_a_kept_hash_on_an_event_that_was_changed_does_not_make_the_journal_whole(
    desk: Path, run: Run
) -> None:
    kept = documented(run)
    with closing(sqlite3.connect(desk / "journal.db")) as intruder:
        intruder.execute("UPDATE events SET actor = 'cli:mallory' WHERE number = 2")
        intruder.commit()
    code, out, _ = run("--expect", kept["newest"])
    assert code == 7
    assert "Broken: Event 2 was changed" in out


@pytest.mark.parametrize("given", ["", "abc", "z" * 64, "0" * 63, "0" * 65, "sha256:" + "0" * 64])
def test_what_is_no_hash_is_refused_before_anything_is_verified(run: Run, given: str) -> None:
    code, _, err = run("--expect", given)
    assert code == 2
    assert "no hash of a journal" in err
    assert "keyturn verify-journal" in err
