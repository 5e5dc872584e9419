"""Verification: the chain holds, and what it tells is what the tables show.

Three things are compared: each chained row with the hash that it carries and with its predecessor;
each rotation with the replay of its events; each key and confirmation with what the chain says was
written. Every difference becomes one sentence for a person.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from keyturn.domain import machine
from keyturn.domain.errors import IllegalTransitionError, JournalError, ProgrammingError
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import EventType, KeyRecord, Rotation
from keyturn.journal.chain import Head, genesis, link
from keyturn.journal.codec import read_event, read_record
from keyturn.journal.rows import (
    WITHOUT_ROTATION,
    Row,
    confirmation_row,
    differing,
    key_row,
    rotation_row,
)
from keyturn.ports.journal import ChainReport

# What comes of reading a row that keyturn did not write.
_NONSENSE = (JournalError, ProgrammingError, TypeError, ValueError, KeyError, AttributeError)


class Verifier:
    """Reads a journal once, in the order of its chain: rows first, tables after, then `report`.

    Args:
        salt: as in the journal's `meta` row; the chain begins with it. Empty for the rows of one rotation,
            which are no chain.
        expect: a hash that was the newest once.
    """

    def __init__(self, salt: str, expect: str | None = None) -> None:
        self._head = genesis(salt)
        self._chain = bool(salt)
        self._expect = expect
        self._expected_at = 0 if expect == self._head.hash else None
        self._count = 0
        self._breaks: list[str] = []
        #: The replayed rotations; None for one whose story is broken, which has been said by then.
        self._rotations: dict[str, Rotation | None] = {}
        self._opened: dict[str, int] = {}
        self._keys: dict[str, tuple[int, str]] = {}
        self._confirmations: dict[tuple[int, int], str] = {}

    def chained(self, row: Row) -> None:
        """Check the next chained row, in the order of numbers."""
        number = row["number"]
        if number != self._head.number + 1:
            missing = f"{self._head.number + 1} to {number - 1}"
            self._breaks.append(f"Before event {number}, the events {missing} are missing.")
        elif row["prev_hash"] != self._head.hash:
            self._breaks.append(f"Event {number} does not follow the event before it.")
        self._head = Head(number, row["hash"])
        self.told(row)
        if row["hash"] == self._expect:
            self._expected_at = self._count

    def told(self, row: Row) -> None:
        """Check a row by itself, whatever came before it, and go on with what it tells."""
        self._count += 1
        number = row["number"]
        if _hash(row) != row["hash"]:
            self._breaks.append(f"Event {number} was changed: its hash does not fit its content.")
        self._attached(row)
        if row["rotation_id"] is not None:
            self._replay(row)
        elif row["type"] not in WITHOUT_ROTATION:
            self._breaks.append(f"Event {number} names no rotation.")

    def _attached(self, row: Row) -> None:
        if not row["attached"]:
            return
        try:
            attached = json.loads(row["attached"])
            for text in attached["keys"]:
                key_id = json.loads(text)["key_id"]
                first = self._keys.get(key_id, (row["number"], ""))[0]
                self._keys[key_id] = (first, text)
            for position, text in enumerate(attached["confirmations"]):
                self._confirmations[row["number"], position] = text
        except _NONSENSE:
            self._breaks.append(f"What was written with event {row['number']} cannot be read.")

    def _replay(self, row: Row) -> None:
        rotation_id, number = row["rotation_id"], row["number"]
        before = self._rotations.get(rotation_id)
        if before is None and rotation_id in self._rotations:
            return
        self._rotations[rotation_id] = None
        try:
            event = read_event(row)
            if before is not None:
                after = machine.apply(before, event)
            elif event.type is EventType.OPENED:
                after = Rotation(**event.data)
                self._opened[rotation_id] = number
            else:
                self._breaks.append(
                    f"Rotation {rotation_id} does not begin with its opening (event {number})."
                )
                return
        except IllegalTransitionError as problem:
            self._breaks.append(f"Event {number} cannot have happened: {problem}.")
            return
        except _NONSENSE:
            self._breaks.append(f"Event {number} of rotation {rotation_id} cannot be read.")
            return
        if (after.id, after.credential, after.seq) != (rotation_id, row["credential"], row["seq"]):
            self._breaks.append(f"Event {number} is not the next step of rotation {rotation_id}.")
            return
        self._rotations[rotation_id] = after

    def head(self, head: Head) -> None:
        """Compare the end of the chain with the head that is kept apart."""
        if head.number != self._head.number:
            self._breaks.append(
                f"Events were removed or added at the end: the end that was recorded is event {head.number}, "
                f"and the last one found is {self._head.number}."
            )
        elif head.hash != self._head.hash:
            self._breaks.append(
                f"The chain ends with event {head.number}, and its hash is not the one that was recorded."
            )

    def rotations(self, rows: Iterable[Row]) -> None:
        """Compare the table of rotations with the replay."""
        told = dict(self._rotations)
        for row in rows:
            name = f"Rotation {row['id']}"
            if row["id"] not in told:
                self._breaks.append(f"{name} stands in the table, but no event opened it.")
                continue
            replayed = told.pop(row["id"])
            if replayed is None:
                continue
            try:
                expected = rotation_row(replayed) | {"number": self._opened[replayed.id]}
            except _NONSENSE:
                self._breaks.append(f"{name} cannot be read from its events.")
                continue
            if columns := differing(expected, row):
                self._breaks.append(f"{name} is not what its events lead to: {', '.join(columns)} differ.")
        self._breaks += [f"Rotation {key} has events, but is missing from the table." for key in told]

    def keys(self, rows: Iterable[Row]) -> None:
        """Compare the table of keys with what the chain says was written."""
        told = dict(self._keys)
        for row in rows:
            name = f"Key {row['key_id']}"
            if row["key_id"] not in told:
                self._breaks.append(f"{name} stands in the table, but no event recorded it.")
                continue
            number, text = told.pop(row["key_id"])
            try:
                expected = key_row(read_record(KeyRecord, text)) | {"number": number}
            except _NONSENSE:
                self._breaks.append(f"{name} cannot be read from the chain.")
                continue
            if columns := differing(expected, row):
                self._breaks.append(f"{name} is not what was recorded last: {', '.join(columns)} differ.")
        self._breaks += [f"Key {key_id} was recorded, but is missing from the table." for key_id in told]

    def confirmations(self, rows: Iterable[Row]) -> None:
        """Compare the table of confirmations with what the chain says was written."""
        told = dict(self._confirmations)
        for row in rows:
            place = (row["number"], row["position"])
            name = f"The confirmation of consumer {row['consumer']} for rotation {row['rotation_id']}"
            if place not in told:
                self._breaks.append(f"{name} stands in the table, but no event recorded it.")
                continue
            try:
                expected = confirmation_row(read_record(Confirmation, told.pop(place)))
            except _NONSENSE:
                self._breaks.append(f"{name} cannot be read from the chain.")
                continue
            if columns := differing(expected, row):
                self._breaks.append(f"{name} is not what was recorded: {', '.join(columns)} differ.")
        self._breaks += [f"A confirmation of event {n} is missing from the table." for n, _ in told]

    def report(self) -> ChainReport:
        """Give what was found."""
        since = None if self._expected_at is None else self._count - self._expected_at
        return ChainReport(self._count, tuple(self._breaks), self._head.hash if self._chain else "", since)


def _hash(row: Row) -> str | None:
    """Give the hash that a row should carry; None when it holds what no chained row can."""
    try:
        return link(row["prev_hash"], row)
    except ProgrammingError:
        return None
