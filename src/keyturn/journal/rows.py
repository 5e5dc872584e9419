"""The journal's rows: what each table holds for a record, the same in every database and in the fake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from keyturn.domain.comparison import Findings
from keyturn.domain.errors import ProgrammingError
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import Event, EventType, KeyRecord, Origin, Rotation
from keyturn.journal.codec import canonical, data_text, record_text, time_text
from keyturn.ports.journal import Change

Row = dict[str, Any]

#: The type of a chained row that is no event of a rotation: a key was written outside one.
KEY_RECORDED = "key_recorded"
#: Likewise: the books were compared.
BOOKS_COMPARED = "books_compared"
#: What a chained row may be that names no rotation.
WITHOUT_ROTATION = frozenset({KEY_RECORDED, BOOKS_COMPARED})


@dataclass(frozen=True, slots=True)
class Draft:
    """A chained row before it has its number."""

    rotation_id: str | None
    credential: str
    seq: int | None
    type: str
    at: str
    actor: str
    data: str
    keys: tuple[Row, ...] = ()
    confirmations: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """One independent unit of writing: all of it or nothing."""

    drafts: tuple[Draft, ...]
    #: The rotation as it stands afterwards; None for keys that belong to none.
    rotation: Row | None = None
    #: None: the rotation is new.
    expect_seq: int | None = None


def opening(rotation: Rotation, opened: Event) -> Write:
    """Prepare a new rotation.

    Raises:
        ProgrammingError: the event does not open a rotation.
    """
    if opened.type is not EventType.OPENED:
        raise ProgrammingError(f"a rotation cannot begin with {opened.type}")
    return Write((_draft(rotation, rotation.seq, opened),), rotation_row(rotation))


def change(step: Change) -> Write:
    """Prepare a step of a rotation.

    Raises:
        ProgrammingError: the events do not lead from `expect_seq` to the record's `seq`.
    """
    rotation = step.after
    if not step.events or rotation.seq != step.expect_seq + len(step.events):
        raise ProgrammingError(
            f"{len(step.events)} events do not lead from {step.expect_seq} to {rotation.seq}"
        )
    *earlier, last = (
        _draft(rotation, seq, event) for seq, event in enumerate(step.events, step.expect_seq + 1)
    )
    if step.keys or step.confirmations:
        last = replace(
            last,
            keys=tuple(map(key_row, step.keys)),
            confirmations=tuple(map(confirmation_row, step.confirmations)),
        )
    return Write((*earlier, last), rotation_row(rotation), step.expect_seq)


def recording(keys: Sequence[KeyRecord]) -> Write:
    """Prepare keys that are written outside a rotation, as one unit."""
    return Write(
        tuple(
            Draft(None, row["credential"], None, KEY_RECORDED, row["recorded_at"], "", "{}", keys=(row,))
            for row in map(key_row, keys)
        )
    )


def comparing(findings: Findings) -> Write:
    """Prepare what a comparison found; it belongs to no credential alone."""
    data = canonical({"differences": [asdict(each) for each in findings.differences]})
    return Write((Draft(None, "", None, BOOKS_COMPARED, time_text(findings.at), findings.actor, data),))


def _draft(rotation: Rotation, seq: int, event: Event) -> Draft:
    return Draft(
        rotation.id,
        rotation.credential,
        seq,
        str(event.type),
        time_text(event.at),
        event.actor,
        data_text(event),
    )


def attached(draft: Draft) -> str:
    """Give the text that stands in the chain for what is written with an event; empty when nothing is.

    It holds the whole records, so that the chain vouches for the tables of keys and confirmations too.
    """
    if not draft.keys and not draft.confirmations:
        return ""
    return canonical(
        {
            "keys": [row["record"] for row in draft.keys],
            "confirmations": [row["record"] for row in draft.confirmations],
        }
    )


def rotation_row(rotation: Rotation) -> Row:
    """Give the row of a rotation, less its number."""
    return {
        "id": rotation.id,
        "credential": rotation.credential,
        "state": str(rotation.state),
        "seq": rotation.seq,
        "is_open": int(rotation.is_open),
        "attempt": rotation.attempt,
        "wake_at": time_text(rotation.wake_at) if rotation.wake_at else None,
        "created_at": time_text(rotation.created_at),
        "updated_at": time_text(rotation.updated_at),
        "record": record_text(rotation),
    }


def key_row(key: KeyRecord) -> Row:
    """Give the row of a key, less its number."""
    return {
        "key_id": key.key_id,
        "credential": key.credential,
        "exchange": key.exchange,
        "account": key.account,
        "key_ref": key.key_ref,
        "origin": str(key.origin),
        "fate": str(key.fate),
        "rotation_id": key.rotation_id,
        "attempt": key.attempt.number if key.attempt and key.origin is Origin.MINTED else None,
        "recorded_at": time_text(key.recorded_at),
        "record": record_text(key),
    }


def confirmation_row(confirmation: Confirmation) -> Row:
    """Give the row of a confirmation, less its number and position."""
    return {
        "rotation_id": confirmation.rotation_id,
        "consumer": confirmation.consumer,
        "record": record_text(confirmation),
    }


def differing(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Name the columns in which a row is not what it should be."""
    return sorted(name for name, value in expected.items() if actual[name] != value)
