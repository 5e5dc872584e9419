"""The journal as a fake: the rows, the chain and the rules of the real one, in dictionaries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from keyturn.domain.comparison import Findings
from keyturn.domain.errors import ProgrammingError
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import CLOCK_MARGIN, Event, Fate, KeyRecord, Origin, Rotation, State
from keyturn.journal import rows
from keyturn.journal.chain import Batch, Head, genesis
from keyturn.journal.codec import read_event, read_findings, read_record, time_text
from keyturn.journal.rows import Row, Write
from keyturn.journal.verify import Verifier
from keyturn.ports.journal import ChainReport, Change, JournaledEvent

# Rows are read far more often than they are written, and what is read is immutable.
_read = lru_cache(maxsize=4096)(read_record)
_MAY_LIVE = {str(fate) for fate in (Fate.INTENDED, Fate.LIVE, Fate.REVOKING)}


class MemoryJournal:
    """Implements the journal port without a database. Nothing outlives the process."""

    def __init__(self) -> None:
        salt = secrets.token_hex(32)
        head = genesis(salt)
        #: The rows by table; tests tamper with them.
        self.tables: dict[str, list[Row]] = {
            "meta": [{"id": 1, "salt": salt, "head_number": head.number, "head_hash": head.hash}],
            "rotations": [],
            "events": [],
            "keys": [],
            "confirmations": [],
        }
        self._closed = False

    async def salt(self) -> bytes:
        """Give the installation's salt."""
        return bytes.fromhex(self.tables["meta"][0]["salt"])

    async def open(self, rotation: Rotation, opened: Event) -> None:
        """Write a new rotation."""
        await self._write(rows.opening(rotation, opened))

    async def commit(self, change: Change) -> None:
        """Write a step."""
        await self._write(rows.change(change))

    async def record_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Write keys outside a rotation."""
        if keys:
            await self._write(rows.recording(keys))

    async def record_findings(self, findings: Findings) -> None:
        """Write what a comparison of the books found."""
        await self._write(rows.comparing(findings))

    async def findings(self) -> Findings | None:
        """Give what the last comparison of the books found."""
        told = [row for row in self.tables["events"] if row["type"] == rows.BOOKS_COMPARED]
        return read_findings(told[-1]["at"], told[-1]["actor"], told[-1]["data"]) if told else None

    async def _write(self, write: Write) -> None:
        if self._closed:
            raise ProgrammingError("the journal was closed")
        # As with a real one, other tasks run between the request and its effect.
        await asyncio.sleep(0)
        meta, rotations = self.tables["meta"][0], self.tables["rotations"]
        batch = Batch(
            Head(meta["head_number"], meta["head_hash"]),
            {row["id"]: row["seq"] for row in rotations},
            {row["credential"] for row in rotations if row["is_open"]},
        )
        if refusal := batch.add(write):
            raise refusal
        meta.update(head_number=batch.head.number, head_hash=batch.head.hash)
        for row in rotations:
            row.update(batch.changed_rotations.get(row["id"], {}))
        rotations.extend(batch.new_rotations.values())
        self.tables["events"].extend(batch.events)
        self.tables["confirmations"].extend(batch.confirmations)
        for key in self.tables["keys"]:
            if new := batch.keys.pop(key["key_id"], None):
                key.update(new, number=key["number"])
        self.tables["keys"].extend(batch.keys.values())

    async def get(self, rotation_id: str) -> Rotation | None:
        """Give a rotation by id."""
        return _first(self._rotations(lambda row: row["id"] == rotation_id))

    async def open_rotation(self, credential: str) -> Rotation | None:
        """Give the open rotation of a credential."""
        return _first(self._rotations(lambda row: row["credential"] == credential and row["is_open"]))

    async def due(self, now: datetime, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the open rotations whose wake-up time has come, the longest waiting first."""
        until, ahead = time_text(now), time_text(now + CLOCK_MARGIN)
        found = [
            row
            for row in self.tables["rotations"]
            if row["is_open"]
            and (row["wake_at"] is None or row["wake_at"] <= until or row["updated_at"] > ahead)
        ]
        found.sort(key=lambda row: (row["wake_at"] or row["updated_at"], row["number"]))
        return [_read(Rotation, row["record"]) for row in found[:limit]]

    async def latest(self) -> Sequence[Rotation]:
        """Give the newest rotation of every credential that has one."""
        return self._newest(lambda _: True)

    async def last_completed(self) -> Sequence[Rotation]:
        """Give the newest completed rotation of every credential that has one."""
        return self._newest(lambda row: row["state"] == State.COMPLETED)

    def _newest(self, wanted: Callable[[Row], bool]) -> Sequence[Rotation]:
        by_credential = {rotation.credential: rotation for rotation in self._rotations(wanted)}
        return [by_credential[credential] for credential in sorted(by_credential)]

    async def rotations(self, credential: str, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the rotations of a credential, newest first."""
        return self._rotations(lambda row: row["credential"] == credential)[::-1][:limit]

    def _rotations(self, wanted: Callable[[Row], object]) -> list[Rotation]:
        found = sorted(filter(wanted, self.tables["rotations"]), key=lambda row: row["number"])
        return [_read(Rotation, row["record"]) for row in found]

    async def events(self, rotation_id: str) -> Sequence[JournaledEvent]:
        """Give the story of a rotation, oldest first."""
        return [
            JournaledEvent(
                row["number"], rotation_id, row["credential"], row["seq"], read_event(row), row["hash"]
            )
            for row in self.tables["events"]
            if row["rotation_id"] == rotation_id
        ]

    async def keys(self, credential: str) -> Sequence[KeyRecord]:
        """Give every key that the journal knows of a credential, oldest first."""
        return self._keys(lambda row: row["credential"] == credential)

    async def key(self, exchange: str, account: str, key_ref: str) -> KeyRecord | None:
        """Give the record of a key by its ref; None means that it is not ours."""
        wanted = (exchange, account, key_ref)
        found = self._keys(
            lambda row: (
                (row["exchange"], row["account"], row["key_ref"]) == wanted and row["fate"] != Fate.FORGOTTEN
            )
        )
        return found[-1] if found else None

    async def adopted(self) -> Sequence[KeyRecord]:
        """Give every adopted key, of all credentials."""
        return self._keys(lambda row: row["origin"] == Origin.ADOPTED)

    async def unsettled(self) -> Sequence[KeyRecord]:
        """Give the keys that may live and whose rotation has left them behind."""
        rotations = {row["id"]: row for row in self.tables["rotations"]}

        def left_behind(row: Row) -> bool:
            rotation = rotations.get(row["rotation_id"])
            return (
                rotation is not None
                and row["fate"] in _MAY_LIVE
                and row["attempt"] is not None
                and (rotation["state"] == State.ABORTED or rotation["attempt"] > row["attempt"])
            )

        return self._keys(left_behind)

    def _keys(self, wanted: Callable[[Row], bool]) -> list[KeyRecord]:
        found = sorted(
            filter(wanted, self.tables["keys"]), key=lambda row: (row["recorded_at"], row["number"])
        )
        return [_read(KeyRecord, row["record"]) for row in found]

    async def confirmations(self, rotation_id: str) -> Sequence[Confirmation]:
        """Give the proofs that consumers produced for a rotation."""
        return [
            _read(Confirmation, row["record"])
            for row in self.tables["confirmations"]
            if row["rotation_id"] == rotation_id
        ]

    async def verify(self, rotation_id: str | None = None, *, expect: str | None = None) -> ChainReport:
        """Check the hash chain, and that what it tells is what the tables show; of one rotation, or all."""
        if rotation_id is not None:
            return self._verify_one(rotation_id)
        meta = self.tables["meta"][0]
        verifier = Verifier(meta["salt"], expect)
        for row in sorted(self.tables["events"], key=lambda row: row["number"]):
            verifier.chained(row)
        verifier.head(Head(meta["head_number"], meta["head_hash"]))
        verifier.rotations(self.tables["rotations"])
        verifier.keys(self.tables["keys"])
        verifier.confirmations(self.tables["confirmations"])
        return verifier.report()

    def _verify_one(self, rotation_id: str) -> ChainReport:
        verifier = Verifier("")
        told = [row for row in self.tables["events"] if row["rotation_id"] == rotation_id]
        for row in sorted(told, key=lambda row: row["number"]):
            verifier.told(row)
        verifier.rotations(row for row in self.tables["rotations"] if row["id"] == rotation_id)
        proved = (row for row in self.tables["confirmations"] if row["rotation_id"] == rotation_id)
        verifier.confirmations(proved)
        return verifier.report()

    async def close(self) -> None:
        """Refuse further writes."""
        self._closed = True


def _first(rotations: Iterable[Rotation]) -> Rotation | None:
    return next(iter(rotations), None)
