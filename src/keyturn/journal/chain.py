"""The hash chain, and the rules by which writes are taken into it.

Every chained row carries the hash of the one before, in one chain over all rotations; the head is
kept apart, so that a removal of the last rows shows too. The chain begins at the journal's salt.
It makes careless or partial tampering visible. Somebody who may write to the database and knows this
code can compute a new chain: against that, keep copies of the head (the row in `meta`) where only
others can write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.journal.codec import canonical
from keyturn.journal.rows import Draft, Row, Write, attached

_HASHED = ("number", "rotation_id", "credential", "seq", "type", "at", "actor", "data", "attached")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    number: int
    hash: str


def genesis(salt: str) -> Head:
    """Give the head of an empty journal."""
    return Head(0, hashlib.sha256(f"keyturn journal {salt}".encode()).hexdigest())


def link(prev_hash: str, row: Mapping[str, Any]) -> str:
    """Give the hash of a row that follows the one with `prev_hash`."""
    text = canonical([prev_hash, *(row[name] for name in _HASHED)])
    return hashlib.sha256(text.encode()).hexdigest()


def _chained(head: Head, draft: Draft) -> Row:
    row: Row = {
        "number": head.number + 1,
        "rotation_id": draft.rotation_id,
        "credential": draft.credential,
        "seq": draft.seq,
        "type": draft.type,
        "at": draft.at,
        "actor": draft.actor,
        "data": draft.data,
        "attached": attached(draft),
        "prev_hash": head.hash,
    }
    row["hash"] = link(head.hash, row)
    return row


@dataclass(slots=True)
class Batch:
    """Writes gathered for one transaction; each is taken or refused on its own.

    Args:
        head: the end of the chain as the transaction sees it.
        seqs: the `seq` of each rotation that the writes name and that exists.
        busy: the credentials, of those for which a rotation is to be opened, that have one open.
    """

    head: Head
    seqs: dict[str, int]
    busy: set[str]
    new_rotations: dict[str, Row] = field(default_factory=dict)
    changed_rotations: dict[str, Row] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    keys: dict[str, Row] = field(default_factory=dict)
    confirmations: list[Row] = field(default_factory=list)

    def add(self, write: Write) -> JournalError | None:
        """Take a write, or say why not; a refused one leaves nothing."""
        rotation = write.rotation
        if rotation is not None:
            refusal = (
                self._refuse_open(rotation)
                if write.expect_seq is None
                else self._refuse_change(write, rotation)
            )
            if refusal:
                return refusal
        first = self.head.number + 1
        for draft in write.drafts:
            self._append(draft)
        if rotation is not None:
            self._place(rotation, first, new=write.expect_seq is None)
        return None

    def _append(self, draft: Draft) -> None:
        row = _chained(self.head, draft)
        self.events.append(row)
        number = row["number"]
        self.head = Head(number, row["hash"])
        for key in draft.keys:
            # Of a key that exists already the database keeps the number, as is done here.
            first = self.keys.get(key["key_id"], {"number": number})["number"]
            self.keys[key["key_id"]] = {**key, "number": first}
        for position, confirmation in enumerate(draft.confirmations):
            self.confirmations.append({**confirmation, "number": number, "position": position})

    def _refuse_open(self, rotation: Row) -> JournalError | None:
        if rotation["credential"] in self.busy:
            return conflict(
                f"Credential {rotation['credential']} already has an open rotation.",
                todo="Let that one finish, or resume, abort or roll it back.",
            )
        if rotation["id"] in self.seqs:
            return conflict(f"There is a rotation {rotation['id']} already.", todo="Draw another id.")
        return None

    def _refuse_change(self, write: Write, rotation: Row) -> JournalError | None:
        seq = self.seqs.get(rotation["id"])
        if seq == write.expect_seq:
            return None
        found = "is not in the journal" if seq is None else f"is at step {seq}"
        return conflict(
            f"Rotation {rotation['id']} {found}; this worker believed step {write.expect_seq}.",
            todo="Read it again; another worker moved it on.",
        )

    def _place(self, rotation: Row, number: int, *, new: bool) -> None:
        key = rotation["id"]
        self.seqs[key] = rotation["seq"]
        if new:
            self.new_rotations[key] = {**rotation, "number": number}
        elif key in self.new_rotations:
            self.new_rotations[key] |= rotation
        else:
            self.changed_rotations[key] = rotation
        if rotation["is_open"]:
            self.busy.add(rotation["credential"])
        else:
            self.busy.discard(rotation["credential"])


def conflict(what: str, *, todo: str) -> JournalError:
    """Build the error for a write that came second."""
    return JournalError(JournalFault.CONFLICT, what, now="Nothing was written.", todo=todo)
