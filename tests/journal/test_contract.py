from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Executable, create_engine, delete, insert, select, text, update
from sqlalchemy.pool import NullPool

from keyturn.journal import SqlJournal
from keyturn.journal.schema import metadata
from keyturn.testing.journal_contract import JournalContract
from keyturn.testing.journal_tampering import Row, Tampering
from keyturn.testing.memory_journal import MemoryJournal
from keyturn.testing.postgres import PostgresServer


class MemoryTampering:
    def __init__(self, journal: MemoryJournal) -> None:
        self._tables = journal.tables

    def rows(self, table: str) -> list[Row]:
        return [dict(row) for row in self._tables[table]]

    def _found(self, table: str, where: Mapping[str, Any]) -> list[Row]:
        return [row for row in self._tables[table] if where.items() <= row.items()]

    def change(self, table: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        for row in self._found(table, where):
            row.update(values)

    def remove(self, table: str, where: Mapping[str, Any]) -> None:
        gone = self._found(table, where)
        self._tables[table][:] = [row for row in self._tables[table] if row not in gone]

    def insert(self, table: str, row: Row) -> None:
        self._tables[table].append(row)


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()

    @pytest.fixture
    def second(self, journal: MemoryJournal) -> MemoryJournal:
        return journal

    @pytest.fixture
    def tampering(self, journal: MemoryJournal) -> Tampering:
        return MemoryTampering(journal)


class SqlTampering:
    def __init__(self, url: str | URL) -> None:
        self._engine = create_engine(url, poolclass=NullPool)

    def _run(self, statement: Executable, row: Row | None = None) -> list[Row]:
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # An intruder with the rights of the owner is not stopped by foreign keys.
                connection.execute(text("SET session_replication_role = replica"))
            result = connection.execute(statement, row)
            return [dict(found) for found in result.mappings()] if result.returns_rows else []

    def rows(self, table: str) -> list[Row]:
        found = metadata.tables[table]
        return self._run(select(found).order_by(*found.primary_key))

    def change(self, table: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._run(update(metadata.tables[table]).filter_by(**where).values(**values))

    def remove(self, table: str, where: Mapping[str, Any]) -> None:
        self._run(delete(metadata.tables[table]).filter_by(**where))

    def insert(self, table: str, row: Row) -> None:
        self._run(insert(metadata.tables[table]), row)


class TestSqlite(JournalContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/journal.db"

    @pytest.fixture
    async def journal(self, url: str) -> AsyncIterator[SqlJournal]:
        journal = await SqlJournal.open_url(url)
        yield journal
        await journal.close()

    @pytest.fixture
    async def second(self, journal: SqlJournal, url: str) -> AsyncIterator[SqlJournal]:
        second = await SqlJournal.open_url(url)
        yield second
        await second.close()

    @pytest.fixture
    def tampering(self, journal: SqlJournal, url: str) -> Tampering:
        return SqlTampering(url)


@pytest.mark.postgres
class TestPostgresql(JournalContract):
    @pytest.fixture
    def database(self, postgres: PostgresServer) -> str:
        return postgres.create_database()

    @pytest.fixture
    async def journal(self, postgres: PostgresServer, database: str) -> AsyncIterator[SqlJournal]:
        journal = await SqlJournal.open_url(postgres.url(database), password=postgres.password)
        yield journal
        await journal.close()

    @pytest.fixture
    async def second(
        self, journal: SqlJournal, postgres: PostgresServer, database: str
    ) -> AsyncIterator[SqlJournal]:
        second = await SqlJournal.open_url(postgres.url(database), password=postgres.password)
        yield second
        await second.close()

    @pytest.fixture
    def tampering(self, journal: SqlJournal, postgres: PostgresServer, database: str) -> Tampering:
        return SqlTampering(postgres.sqlalchemy_url(database))
