"""Transactions that the event loop drafts: what is in their way, and who else writes."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.rotation import EventType
from keyturn.journal import SqlJournal
from keyturn.testing.journal_cases import opened, step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqlJournal]:
    journal = await SqlJournal.open_url(f"sqlite:///{path}")
    yield journal
    await journal.close()


def transactions(journal: SqlJournal) -> tuple[list[str], list[str]]:
    """The threads in which the loop's drafts and the patient writer's transactions begin."""
    drafted: list[str] = []
    patient: list[str] = []
    for engine, seen in ((journal._prompt_engine, drafted), (journal._write_engine, patient)):
        event.listen(engine, "begin", lambda _, seen=seen: seen.append(threading.current_thread().name))
    return drafted, patient


async def test_what_gathers_while_a_commit_is_under_way_is_one_transaction_of_the_loops_own(
    journal: SqlJournal,
) -> None:
    drafted, patient = transactions(journal)
    await asyncio.gather(*(opened(journal, f"credential-{n}") for n in range(40)))
    assert set(drafted) == {threading.current_thread().name}
    assert len(drafted) <= 3
    assert patient == []
    assert (await journal.verify()).breaks == ()


async def test_a_lock_that_another_process_holds_for_a_moment_stops_neither_the_write_nor_the_loop(
    journal: SqlJournal, path: Path
) -> None:
    rotation = await opened(journal)
    _, patient = transactions(journal)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(step(journal, rotation, EventType.DEFERRED, problem="x"))
        turns = 0
        for _ in range(20):
            await asyncio.sleep(0.01)
            turns += 1
        assert not writing.done()
        holder.execute("ROLLBACK")
    assert (await writing).seq == rotation.seq + 1
    assert turns == 20
    assert len(patient) == 1
    assert (await journal.verify()).breaks == ()


async def test_a_commit_without_an_answer_leaves_the_outcome_open_and_the_next_write_works(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = await opened(journal)
    prompt = journal._writer._prompt
    assert prompt
    real = prompt._connection.commit

    def cut() -> None:
        real()
        problem = sqlite3.OperationalError("disk I/O error")
        problem.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise problem

    monkeypatch.setattr(prompt._connection, "commit", cut)
    with pytest.raises(JournalError) as caught:
        await step(journal, rotation, EventType.DEFERRED, problem="x")
    assert caught.value.fault is JournalFault.OUTCOME_UNKNOWN
    found = await journal.get(rotation.id)
    assert found
    assert found.seq == rotation.seq + 1
    await step(journal, found, EventType.DEFERRED, problem="y")
    assert (await journal.verify()).breaks == ()


def test_event_loops_that_come_and_go_and_stand_side_by_side_write_to_one_journal(path: Path) -> None:
    journal = asyncio.run(SqlJournal.open_url(f"sqlite:///{path}"))

    async def work(name: str) -> None:
        for n in range(20):
            await opened(journal, f"{name}-{n}")

    asyncio.run(work("first"))
    threads = [threading.Thread(target=asyncio.run, args=(work(name),)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    asyncio.run(work("last"))

    async def judge() -> None:
        assert len(await journal.latest()) == 80
        assert (await journal.verify()).breaks == ()
        await journal.close()

    asyncio.run(judge())


async def test_a_caller_that_is_cancelled_leaves_the_others_their_answers(journal: SqlJournal) -> None:
    tasks = [asyncio.create_task(opened(journal, f"credential-{n}")) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [3]
    assert (await journal.verify()).breaks == ()
