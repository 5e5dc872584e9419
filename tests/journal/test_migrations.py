"""The migrations lead to the tables that the code uses."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine

import keyturn.journal
from keyturn.journal import SqlJournal
from keyturn.journal.schema import REVISION, VERSION_TABLE, metadata
from keyturn.testing.postgres import PostgresServer


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        found = list(compare_metadata(context, metadata))
    engine.dispose()
    return found


async def test_sqlite_is_migrated_to_the_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    await (await SqlJournal.open_url(url)).close()
    assert differences(create_engine(url)) == []


@pytest.mark.postgres
async def test_postgresql_is_migrated_to_the_schema(postgres: PostgresServer) -> None:
    url: URL = postgres.sqlalchemy_url(postgres.create_database())
    await (await SqlJournal.open_url(url.render_as_string(hide_password=False))).close()
    assert differences(create_engine(url)) == []


def test_the_code_knows_the_newest_migration() -> None:
    config = Config()
    folder = Path(keyturn.journal.__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


async def test_a_journal_of_before_is_brought_up_to_date_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await (await SqlJournal.open_url(f"sqlite:///{path}")).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0001'")
    journal = await SqlJournal.open_url(f"sqlite:///{path}")
    try:
        assert (await journal.verify()).breaks == ()
    finally:
        await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(REVISION,)]
