"""Whatever the umask allows, nothing that keyturn makes can be changed by others."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyturn.cli import up
from keyturn.cli.template import IDENTITY
from tests.cli.conftest import CREDENTIAL, Home, Venue, cli, home, key_document, venue

__all__ = ["cli", "home", "venue"]


@pytest.fixture(autouse=True)
def umask_000() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def open_to_others(top: Path) -> list[str]:
    """Everything below that somebody else may write to."""
    found = [top, *(Path(folder) / name for folder, a, b in os.walk(top) for name in (*a, *b))]
    return [f"{path} {path.lstat().st_mode:o}" for path in found if path.lstat().st_mode & 0o022]


def test_a_tour_under_umask_000_leaves_nothing_that_others_may_write(home: Home, venue: Venue) -> None:
    """Through init (of the fixture), put, rotate with a file and with a mailbox, sweep, and a new journal."""
    journal = home.folder / "far" / "away" / "journal.db"
    text = home.inventory.read_text()
    text = text.replace("http://127.0.0.1:9", venue.sim.base_url).replace("grace: 24h", "grace: 0s")
    text = text.replace("consumers: [mm-bybit]", "consumers: [mm-bybit, bot]")
    bot = "  bot:\n    kind: client\n    evidence: timed\n    mailbox: post/office/boxes\n"
    text = text.replace("consumers:\n  mm-bybit:", f"consumers:\n{bot}  mm-bybit:")
    text = text.replace("keyturn-data/journal.db", "far/away/journal.db")
    assert "post/office" in text
    assert "[mm-bybit, bot]" in text
    assert "far/away" in text
    home.inventory.write_text(text)
    home.run("put", "--manager", "main", stdin=key_document(venue.manager)).ok()
    with closing(sqlite3.connect(journal)) as held:
        # As long as somebody has it open, the files beside the journal stay.
        held.execute("SELECT count(*) FROM events").fetchone()
        home.run("put", CREDENTIAL, stdin=key_document(venue.bot)).ok()
        home.run("rotate", CREDENTIAL, "--reason", "the quarterly rotation").ok()
        home.run("sweep").ok()
        names = {path.name for path in home.folder.rglob("*")}
        assert names >= {
            "keyturn.yaml", Path(IDENTITY).name, "journal.db-wal", "journal.db-shm", "slots.json", ".lock",
            "bot-key.json", ".bot-key.json.keyturn-mm-bybit.json", "boxes", ".keyturn", ".gitignore",
        }  # fmt: skip
        assert any(name.startswith("notice-") for name in names)
        assert open_to_others(home.folder) == []
    secrets = [home.folder / IDENTITY, home.folder / "bot-key.json", journal]
    assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600] * 3


def test_init_makes_folders_above_that_others_may_not_write_to(tmp_path: Path, cli) -> None:
    cli("init", tmp_path / "srv" / "keys" / "home").ok()
    assert open_to_others(tmp_path / "srv") == []


def test_what_up_makes_is_its_users_alone(tmp_path: Path) -> None:
    up._settle(tmp_path / ".keyturn")
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / ".keyturn").rglob("*")} == {0o700}
