"""What is particular to the journal on a server: connections that break, and servers that refuse."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import pytest

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.rotation import EventType
from keyturn.journal import SqlJournal
from keyturn.testing.journal_cases import a_step, opened, step
from keyturn.testing.postgres import PostgresServer

pytestmark = pytest.mark.postgres


class Cutter:
    """A proxy before the server that can cut every connection just before or just after a commit passes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut = ""
        self.commits = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._pump(upstream_reader, writer))
        while data := await reader.read(65536):
            if b"COMMIT" in data and self.cut:
                self.commits += 1
                if self.cut == "after":
                    answers.cancel()
                    # It must have let go: two may not read at once.
                    await asyncio.gather(answers, return_exceptions=True)
                    upstream_writer.write(data)
                    await upstream_reader.read(1)  # the server has answered: it is done
                break
            upstream_writer.write(data)
        writer.close()
        upstream_writer.close()
        await asyncio.gather(answers, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
async def journal(postgres: PostgresServer, database: str) -> AsyncIterator[SqlJournal]:
    journal = await SqlJournal.open_url(postgres.url(database), password=postgres.password)
    yield journal
    await journal.close()


def end_sessions(postgres: PostgresServer, database: str) -> None:
    postgres.execute(
        "postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )


@pytest.mark.parametrize(("cut", "seq"), [("before", 1), ("after", 2)])
async def test_a_connection_that_breaks_at_the_commit_leaves_the_outcome_open(
    postgres: PostgresServer, database: str, journal: SqlJournal, cut: str, seq: int
) -> None:
    rotation = await opened(journal)
    async with Cutter(postgres.port) as cutter:
        url = f"postgresql://{postgres.user}@127.0.0.1:{cutter.port}/{database}"
        broken = await SqlJournal.open_url(url, password=postgres.password)
        await opened(broken, "okx-main")
        cutter.cut = cut
        with pytest.raises(JournalError) as caught:
            await step(broken, rotation, EventType.DEFERRED)
        assert caught.value.fault is JournalFault.OUTCOME_UNKNOWN
        assert cutter.commits == 1
        cutter.cut = ""
        found = await broken.get(rotation.id)
        assert found is not None
        assert found.seq == seq
        assert (await broken.verify()).breaks == ()
        await step(broken, found, EventType.DEFERRED)
        await broken.close()


async def test_a_restarted_server_is_found_again(
    postgres: PostgresServer, database: str, journal: SqlJournal
) -> None:
    rotation = await opened(journal)
    assert await journal.get(rotation.id) == rotation
    end_sessions(postgres, database)
    assert await journal.get(rotation.id) == rotation
    end_sessions(postgres, database)
    rotation = await step(journal, rotation, EventType.DEFERRED)
    assert len(await journal.events(rotation.id)) == 2


async def test_a_server_that_is_away_has_surely_written_nothing(
    postgres: PostgresServer, database: str, journal: SqlJournal
) -> None:
    rotation = await opened(journal)
    postgres.execute("postgres", f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS false')
    end_sessions(postgres, database)
    try:
        for call in (step(journal, rotation, EventType.DEFERRED), journal.get(rotation.id)):
            with pytest.raises(JournalError) as caught:
                await call
            assert caught.value.fault is JournalFault.UNAVAILABLE
            assert caught.value.todo
    finally:
        postgres.execute("postgres", f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS true')
    assert await journal.get(rotation.id) == rotation
    await step(journal, rotation, EventType.DEFERRED)


async def test_a_refused_login_is_said_without_the_password(postgres: PostgresServer, database: str) -> None:
    for password, port in (("not-a-real-secret-1", postgres.port), (postgres.password, 1)):
        url = f"postgresql://{postgres.user}@127.0.0.1:{port}/{database}"
        with pytest.raises(JournalError) as caught:
            await SqlJournal.open_url(url, password=password)
        assert caught.value.fault is JournalFault.UNAVAILABLE
        assert password not in caught.value.diagnostics()
        assert caught.value.__cause__ is None


async def test_a_write_that_cannot_be_taken_fails_alone(journal: SqlJournal) -> None:
    rotations = [await opened(journal, f"credential-{n}") for n in range(8)]
    steps = [a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1) for rotation in rotations]
    object.__setattr__(steps[5].events[0], "actor", "not-a-real-secret-\0")  # no text in PostgreSQL holds it
    results = await asyncio.gather(*map(journal.commit, steps), return_exceptions=True)
    assert [number for number, result in enumerate(results) if result is not None] == [5]
    problem = results[5]
    assert isinstance(problem, JournalError)
    assert "not-a-real-secret" not in problem.diagnostics()
    assert (await journal.verify()).breaks == ()


async def test_a_journal_of_a_newer_keyturn_is_left_alone(
    postgres: PostgresServer, database: str, journal: SqlJournal
) -> None:
    rotation = await opened(journal)
    postgres.execute(database, "UPDATE keyturn_version SET version_num = '9999'")
    with pytest.raises(JournalError) as caught:
        await SqlJournal.open_url(postgres.url(database), password=postgres.password)
    assert caught.value.fault is JournalFault.NEWER_VERSION
    with pytest.raises(JournalError) as caught:
        await step(journal, rotation, EventType.DEFERRED)
    assert caught.value.fault is JournalFault.NEWER_VERSION


async def test_a_database_that_prefect_uses_is_refused(postgres: PostgresServer, database: str) -> None:
    postgres.execute(database, "CREATE TABLE events (id text)")
    with pytest.raises(JournalError, match="something else"):
        await SqlJournal.open_url(postgres.url(database), password=postgres.password)


async def test_a_server_that_does_not_flush_is_asked_to(postgres: PostgresServer, database: str) -> None:
    postgres.execute("postgres", f'ALTER DATABASE "{database}" SET synchronous_commit = off')
    journal = await SqlJournal.open_url(postgres.url(database), password=postgres.password)
    with journal._write_engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    await journal.close()
