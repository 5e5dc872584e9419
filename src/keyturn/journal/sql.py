"""The journal in SQLite (one machine) or PostgreSQL (several)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from keyturn.domain.comparison import Findings
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import Event, KeyRecord, Rotation, State
from keyturn.journal import reads, rows
from keyturn.journal.database import (
    Database,
    create_file,
    glancing_engine,
    locate,
    missing,
    reading_engine,
    writing_engine,
)
from keyturn.journal.faults import failure
from keyturn.journal.reader import Reader
from keyturn.journal.schema import REVISION
from keyturn.journal.upgrade import revision, upgrade
from keyturn.journal.writer import Writer
from keyturn.ports.journal import ChainReport, Change, JournaledEvent


class SqlJournal:
    """The journal port over SQLAlchemy Core. Made by `open_url`; use `close` when done."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_engine = reading_engine(database)
        self._write_engine = writing_engine(database)
        self._reader = Reader(self._read_engine, database.place, glancing_engine(database))
        self._prompt_engine = writing_engine(database, wait=0) if database.is_sqlite else None
        self._writer = Writer(self._write_engine, database.place, self._prompt_engine)
        self._salt: bytes | None = None

    @classmethod
    async def open_url(cls, url: str, *, password: str | None = None, create: bool = True) -> Self:
        """Open a journal, and bring its schema up to date.

        Args:
            url: `sqlite:///path` or `postgresql://user@host/database`.
            password: for PostgreSQL, when it doesn't stand in the URL.
            create: whether to make a journal where there is none, and to upgrade an old one.

        Raises:
            JournalError: `NEWER_VERSION` (left untouched), `UNAVAILABLE`, `NO_SPACE`, `TAMPERED`.
        """
        database = locate(url, password)
        if database.path and not create and not database.path.exists():
            raise missing(database)
        journal = cls(database)
        try:
            await asyncio.to_thread(journal._prepare, create)
        except BaseException:
            await journal.close()
            raise
        return journal

    def _prepare(self, create: bool) -> None:
        try:
            if create and self._database.path:
                create_file(self._database.path)
            with self._read_engine.connect() as connection:
                found = revision(connection)
            if found is None and not create:
                raise missing(self._database)
            if found != REVISION:
                upgrade(self._write_engine, self._database)
        except (SQLAlchemyError, sqlite3.Error, OSError) as problem:
            raise failure(problem, self._database.place).error() from None

    async def salt(self) -> bytes:
        """Give the installation's salt for fingerprints, made once."""
        if self._salt is None:
            self._salt = await self._reader.read(reads.salt)
        return self._salt

    async def open(self, rotation: Rotation, opened: Event) -> None:
        """Write a new rotation."""
        await self._writer.write(rows.opening(rotation, opened))

    async def commit(self, change: Change) -> None:
        """Write a step."""
        await self._writer.write(rows.change(change))

    async def record_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Write keys outside a rotation."""
        if keys:
            await self._writer.write(rows.recording(keys))

    async def record_findings(self, findings: Findings) -> None:
        """Write what a comparison of the books found."""
        await self._writer.write(rows.comparing(findings))

    async def findings(self) -> Findings | None:
        """Give what the last comparison of the books found; None before the first."""
        return await self._reader.read(reads.findings)

    async def get(self, rotation_id: str) -> Rotation | None:
        """Give a rotation by id."""
        return await self._reader.look_up(reads.rotation, rotation_id)

    async def open_rotation(self, credential: str) -> Rotation | None:
        """Give the open rotation of a credential."""
        return await self._reader.look_up(reads.open_rotation, credential)

    async def due(self, now: datetime, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the open rotations whose wake-up time has come, the longest waiting first."""
        return await self._reader.read(reads.due, now, limit)

    async def latest(self) -> Sequence[Rotation]:
        """Give the newest rotation of every credential that has one."""
        return await self._reader.read(reads.newest)

    async def rotations(self, credential: str, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the rotations of a credential, newest first."""
        return await self._reader.read(reads.history, credential, limit)

    async def last_completed(self) -> Sequence[Rotation]:
        """Give the newest completed rotation of every credential that has one."""
        return await self._reader.read(reads.newest, State.COMPLETED)

    async def events(self, rotation_id: str) -> Sequence[JournaledEvent]:
        """Give the story of a rotation, oldest first."""
        return await self._reader.read(reads.story, rotation_id)

    async def keys(self, credential: str) -> Sequence[KeyRecord]:
        """Give every key that the journal knows of a credential, oldest first."""
        return await self._reader.look_up(reads.keys_of, credential)

    async def key(self, exchange: str, account: str, key_ref: str) -> KeyRecord | None:
        """Give the record of a key by its ref; None means that it is not ours."""
        return await self._reader.look_up(reads.key, exchange, account, key_ref)

    async def adopted(self) -> Sequence[KeyRecord]:
        """Give every adopted key, of all credentials."""
        return await self._reader.read(reads.adopted)

    async def unsettled(self) -> Sequence[KeyRecord]:
        """Give the keys that may live and whose rotation has left them behind."""
        return await self._reader.read(reads.unsettled)

    async def confirmations(self, rotation_id: str) -> Sequence[Confirmation]:
        """Give the proofs that consumers produced for a rotation."""
        return await self._reader.look_up(reads.proofs, rotation_id)

    async def verify(self, rotation_id: str | None = None, *, expect: str | None = None) -> ChainReport:
        """Check the hash chain, and that what it tells is what the tables show; of one rotation, or all."""
        if rotation_id is not None:
            return await self._reader.look_up(reads.verify_one, rotation_id)
        return await self._reader.read(reads.verify, expect)

    async def close(self) -> None:
        """Finish what is queued and release connections."""
        await self._writer.finish()
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._reader.close)
