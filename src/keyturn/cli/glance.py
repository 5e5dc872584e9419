"""A quick look into a SQLite journal, for `keyturn status`: SQLAlchemy alone would take half of its time.

It reads what the full journal would read, and only from a journal that it surely understands. Whatever
else there is (PostgreSQL, another revision, a file that is missing, locked or damaged) is the full
journal's to open, or to explain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.domain.comparison import Findings
from keyturn.domain.errors import JournalError
from keyturn.domain.rotation import KeyRecord, Rotation
from keyturn.journal.codec import read_findings, read_record

if TYPE_CHECKING:
    from keyturn.settings import LoadedInventory

#: The revision of the schema that the statements below are written for; a test holds it to the newest.
REVISION = "0002"
_PREFIX = "sqlite:///"
# A writer's commit takes milliseconds; after this the full journal says what is wrong.
_LOCK_SECONDS = 2.0

_NEWEST = (
    "SELECT record FROM rotations WHERE number IN (SELECT max(number) FROM rotations {} GROUP BY credential)"
)
_LATEST = _NEWEST.format("") + " ORDER BY credential"
_COMPLETED = _NEWEST.format("WHERE state = 'completed'") + " ORDER BY credential"
_ADOPTED = "SELECT record FROM keys WHERE origin = 'adopted' ORDER BY recorded_at, number"
_FINDINGS = "SELECT at, actor, data FROM events WHERE type = 'books_compared' ORDER BY number DESC LIMIT 1"
_KEYS = "SELECT record FROM keys WHERE credential = ? ORDER BY recorded_at, number"


@dataclass(frozen=True, slots=True)
class Glance:
    """What `status` asks of a journal, as it stood at one moment."""

    _latest: Sequence[Rotation]
    _completed: Sequence[Rotation]
    _adopted: Sequence[KeyRecord]
    _findings: Findings | None
    #: Of the credentials that the findings name.
    _keys: Mapping[str, Sequence[KeyRecord]]

    async def latest(self) -> Sequence[Rotation]:
        """Give the newest rotation of every credential that has one."""
        return self._latest

    async def last_completed(self) -> Sequence[Rotation]:
        """Give the newest completed rotation of every credential that has one."""
        return self._completed

    async def adopted(self) -> Sequence[KeyRecord]:
        """Give every adopted key, of all credentials."""
        return self._adopted

    async def findings(self) -> Findings | None:
        """Give what the last comparison of the books found."""
        return self._findings

    async def keys(self, credential: str) -> Sequence[KeyRecord]:
        """Give the keys of a credential that the findings name, oldest first."""
        return self._keys.get(credential, ())


def glance(loaded: LoadedInventory) -> Glance | None:
    """Look into the journal of an inventory; None when that is the full journal's business."""
    url = loaded.inventory.journal.url
    path = loaded.resolve(url.removeprefix(_PREFIX))
    if not url.startswith(_PREFIX) or "?" in url or not path.is_file():
        return None
    try:
        connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            return _read(connection)
        finally:
            connection.close()
    except (sqlite3.Error, JournalError):
        return None


def _read(connection: sqlite3.Connection) -> Glance | None:
    if connection.execute("SELECT version_num FROM keyturn_version").fetchall() != [(REVISION,)]:
        return None
    # The newest rotation is mostly the newest completed one as well: each text is decoded once.
    known: dict[str, Rotation] = {}

    def rotations(query: str) -> list[Rotation]:
        texts = [text for (text,) in connection.execute(query)]
        return [known.get(text) or known.setdefault(text, read_record(Rotation, text)) for text in texts]

    adopted = [read_record(KeyRecord, text) for (text,) in connection.execute(_ADOPTED)]
    row = connection.execute(_FINDINGS).fetchone()
    findings = read_findings(*row) if row else None
    keys = {
        each.credential: [
            read_record(KeyRecord, text) for (text,) in connection.execute(_KEYS, (each.credential,))
        ]
        for each in (findings.differences if findings else ())
    }
    return Glance(rotations(_LATEST), rotations(_COMPLETED), adopted, findings, keys)
