"""Several processes on one journal, and processes that are killed."""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from keyturn.journal import SqlJournal
from keyturn.testing.journal_cases import opened
from keyturn.testing.postgres import PostgresServer

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/journal.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.sqlalchemy_url(server.create_database()).render_as_string(hide_password=False)


def start(url: str, role: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"JOURNAL_URL": url}
    return subprocess.Popen([sys.executable, WORKER, role], stdout=subprocess.PIPE, env=environment)


async def test_two_processes_can_create_upgrade_and_use_one_journal(url: str) -> None:
    processes = [start(url, "opener") for _ in range(3)]
    said = [(await asyncio.to_thread(process.communicate, timeout=60))[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    journal = await SqlJournal.open_url(url)
    latest = await journal.latest()
    assert len(latest) == 30
    assert all(rotation.seq <= 2 for rotation in latest)
    wins = sum(int(text.split()[1]) for text in said)
    assert wins == sum(rotation.seq == 2 for rotation in latest)
    report = await journal.verify()
    assert report.breaks == ()
    assert report.events == 30 + wins
    await journal.close()


async def test_what_a_killed_process_was_told_is_committed_is_there(url: str) -> None:
    process = start(url, "committer")
    assert process.stdout is not None
    told: dict[str, int] = defaultdict(int)
    for count, line in enumerate(process.stdout, start=1):
        rotation_id, seq = line.decode().split()
        told[rotation_id] = max(told[rotation_id], int(seq))
        if count == 1000:
            process.kill()
    process.wait()
    process.stdout.close()
    assert sum(told.values()) >= 1000
    journal = await SqlJournal.open_url(url)
    for rotation_id, seq in told.items():
        rotation = await journal.get(rotation_id)
        assert rotation is not None
        assert rotation.seq >= seq
    assert (await journal.verify()).breaks == ()
    await opened(journal, "after the crash")
    assert (await journal.verify()).breaks == ()
    await journal.close()
