"""What is particular to the journal in a file."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.rotation import EventType, Rotation
from keyturn.journal import SqlJournal, faults
from keyturn.journal.schema import metadata
from keyturn.testing.journal_cases import a_rotation, a_step, opened, step
from keyturn.testing.journal_tampering import fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def open_journal(path: Path, **options: Any) -> SqlJournal:
    return await SqlJournal.open_url(f"sqlite:///{path}", **options)


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqlJournal]:
    journal = await open_journal(path)
    yield journal
    await journal.close()


def run(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def limit_pages(journal: SqlJournal, pages: int) -> None:
    """Give the writer's connections a disk of so many pages."""
    for engine in (journal._write_engine, journal._prompt_engine):
        event.listen(engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))


async def fill_up(journal: SqlJournal, rotation: Rotation) -> tuple[Rotation, JournalError]:
    """Commit until it fails; give what was confirmed last, and the failure."""
    for _ in range(2000):
        try:
            rotation = await step(journal, rotation, EventType.DEFERRED, problem="x" * 900)
        except JournalError as problem:
            return rotation, problem
    raise AssertionError("the disk was never full")


async def test_only_the_owner_may_read_the_files(path: Path) -> None:
    before = os.umask(0)
    try:
        journal = await open_journal(path.parent / "new" / path.name)
        await opened(journal)
        files = list((path.parent / "new").iterdir())
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE((path.parent / "new").stat().st_mode) == 0o700
        await journal.close()
    finally:
        os.umask(before)


async def test_a_commit_is_flushed_to_the_disk(journal: SqlJournal) -> None:
    with journal._write_engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "fullfsync")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1, 1]


async def test_a_reopened_journal_continues_its_chain(path: Path) -> None:
    salts = set()
    rotation = a_rotation()
    for number in range(3):
        journal = await open_journal(path)
        salts.add(await journal.salt())
        rotation = (
            await step(journal, rotation, EventType.DEFERRED)
            if number
            else await opened(journal, id=rotation.id)
        )
        report = await journal.verify()
        assert (report.events, report.breaks) == (number + 1, ())
        await journal.close()
    assert len(salts) == 1


async def test_closing_writes_what_is_queued(path: Path) -> None:
    journal = await open_journal(path)
    tasks = [asyncio.create_task(opened(journal, f"credential-{n}")) for n in range(50)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*tasks)
    journal = await open_journal(path)
    assert len(await journal.latest()) == 50
    await journal.close()


async def test_a_full_disk_is_said_and_loses_nothing(path: Path) -> None:
    journal = await open_journal(path)
    rotation = await opened(journal)
    limit_pages(journal, 100)
    rotation, problem = await fill_up(journal, rotation)
    assert problem.fault is JournalFault.NO_SPACE
    assert "Nothing was written" in problem.now
    assert "room" in problem.todo
    assert await journal.get(rotation.id) == rotation
    assert (await journal.verify()).breaks == ()
    limit_pages(journal, 10_000)
    await step(journal, rotation, EventType.DEFERRED, problem="x" * 900)
    assert (await journal.verify()).breaks == ()
    await journal.close()


async def test_a_disk_that_is_really_full_is_said_and_loses_nothing(small_disk: Any) -> None:
    journal = await open_journal(small_disk.path / "journal.db")
    ballast = small_disk.path / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    rotation, problem = await fill_up(journal, await opened(journal))
    assert problem.fault is JournalFault.NO_SPACE
    assert await journal.get(rotation.id) == rotation
    ballast.unlink()
    await step(journal, rotation, EventType.DEFERRED)
    assert (await journal.verify()).breaks == ()
    await journal.close()


async def test_a_journal_of_a_newer_keyturn_is_left_alone(path: Path) -> None:
    journal = await open_journal(path)
    await opened(journal)
    await journal.close()
    run(path, "UPDATE keyturn_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(JournalError) as caught:
        await open_journal(path)
    assert caught.value.fault is JournalFault.NEWER_VERSION
    assert "not touched" in caught.value.now
    assert path.read_bytes() == before


async def test_a_running_worker_notices_that_the_journal_became_newer(
    journal: SqlJournal, path: Path
) -> None:
    rotation = await opened(journal)
    run(path, "UPDATE keyturn_version SET version_num = '9999'")
    with pytest.raises(JournalError) as caught:
        await step(journal, rotation, EventType.DEFERRED)
    assert caught.value.fault is JournalFault.NEWER_VERSION
    assert await journal.get(rotation.id) == rotation


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look like one " * 50, b"SQLite format 3\0"]
)
async def test_a_file_that_is_no_journal_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError) as caught:
        await open_journal(path)
    assert caught.value.fault is JournalFault.TAMPERED
    assert path.read_bytes() == content


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    run(path, "CREATE TABLE events (id TEXT)")
    with pytest.raises(JournalError, match="something else"):
        await open_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("events",)]


async def test_looking_makes_no_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="no journal") as caught:
        await open_journal(path, create=False)
    assert caught.value.fault is JournalFault.UNAVAILABLE
    assert not path.exists()
    await (await open_journal(path)).close()
    await (await open_journal(path, create=False)).close()


@pytest.mark.parametrize("statement", ["DELETE FROM meta", "UPDATE meta SET salt = 'x'"])
async def test_a_lost_salt_is_said(journal: SqlJournal, path: Path, statement: str) -> None:
    run(path, statement)
    with pytest.raises(JournalError) as caught:
        await journal.salt()
    assert caught.value.fault is JournalFault.TAMPERED
    assert (await journal.verify()).breaks or statement.startswith("UPDATE")


async def test_nothing_is_added_to_a_chain_without_an_end(journal: SqlJournal, path: Path) -> None:
    run(path, "DELETE FROM meta")
    with pytest.raises(JournalError) as caught:
        await opened(journal)
    assert caught.value.fault is JournalFault.TAMPERED


async def test_a_row_that_cannot_be_read_is_said(journal: SqlJournal, path: Path) -> None:
    rotation = await opened(journal)
    run(path, "UPDATE rotations SET record = '{\"id\": 1}'")
    with pytest.raises(JournalError) as caught:
        await journal.get(rotation.id)
    assert caught.value.fault is JournalFault.TAMPERED
    assert "verify-journal" in caught.value.todo


async def test_a_file_that_another_process_holds_is_waited_for_and_then_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_journal(path)).close()
    monkeypatch.setattr("keyturn.journal.database.LOCK_SECONDS", 0.2)
    journal = await open_journal(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError) as caught:
            await opened(journal)
        assert caught.value.fault is JournalFault.UNAVAILABLE
        assert "another process" in caught.value.what
        assert await journal.latest() == []
        holder.execute("ROLLBACK")
    await opened(journal)
    await journal.close()


async def test_a_write_that_cannot_be_taken_fails_alone_and_shows_no_values(journal: SqlJournal) -> None:
    rotations = [await opened(journal, f"credential-{n}") for n in range(8)]
    steps = [a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1) for rotation in rotations]
    # A lone surrogate cannot be encoded, and the actor stands in a column of its own.
    bad = steps[3].events[0]
    object.__setattr__(bad, "actor", "not-a-real-secret-\ud800")
    results = await asyncio.gather(*map(journal.commit, steps), return_exceptions=True)
    failed = [number for number, result in enumerate(results) if result is not None]
    assert failed == [3]
    problem = results[3]
    assert isinstance(problem, JournalError)
    assert problem.fault is JournalFault.UNAVAILABLE
    assert "not-a-real-secret" not in problem.diagnostics()
    assert problem.__cause__ is None
    assert (await journal.verify()).breaks == ()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://user:not-a-real-secret@host/x", "not-a-real-secret", ""],
)
async def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(JournalError) as caught:
        await SqlJournal.open_url(url)
    assert caught.value.fault is JournalFault.UNAVAILABLE
    assert "not-a-real-secret" not in caught.value.diagnostics()
    assert "sqlite:///" in caught.value.todo


async def test_a_folder_that_cannot_be_made_is_said(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(JournalError) as caught:
        await open_journal(path / "journal.db")
    assert caught.value.fault is JournalFault.UNAVAILABLE


def test_a_commit_that_the_disk_spoiled_is_of_unknown_outcome() -> None:
    problem = sqlite3.OperationalError("disk I/O error")
    problem.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    assert faults.failure(problem, "x", committing=True).fault is JournalFault.OUTCOME_UNKNOWN
    assert faults.failure(problem, "x").fault is JournalFault.UNAVAILABLE


async def test_an_open_journal_of_the_right_version_needs_no_alembic(path: Path) -> None:
    await (await open_journal(path)).close()
    program = (
        "import asyncio, sys; from keyturn.journal import SqlJournal\n"
        f"async def main(): await (await SqlJournal.open_url('sqlite:///{path}')).latest()\n"
        "asyncio.run(main())\n"
        "print([name for name in ('alembic', 'psycopg', 'prefect', 'ccxt') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert said.stdout.strip() == "[]"


async def test_a_change_of_any_column_of_any_row_shows(journal: SqlJournal, path: Path) -> None:
    await fill(journal)
    with closing(sqlite3.connect(path)) as intruder:
        for table in metadata.sorted_tables:
            for rowid, *values in intruder.execute(f"SELECT rowid, * FROM {table.name}").fetchall():
                for column, value in zip(table.columns.keys(), values, strict=True):
                    for forged in (None, 7, "x", b"x"):
                        change = f"UPDATE {table.name} SET {column} = ? WHERE rowid = ?"
                        try:
                            intruder.execute(change, (forged, rowid))
                        except sqlite3.IntegrityError:
                            continue
                        intruder.commit()
                        where = f"{table.name}.{column} of {rowid}: {value!r} -> {forged!r}"
                        assert (await journal.verify()).breaks or forged == value, where
                        where_now = rowid if column != "number" or table.name != "events" else forged
                        intruder.execute(change, (value, where_now))
                        intruder.commit()
    assert (await journal.verify()).breaks == ()
