"""How records are written down: JSON texts that are exact, sort by time, and read back equal.

Times are UTC, ISO 8601, always with microseconds, as text in every database: such texts sort as
the times do, and a hash over them does not depend on how a database returns a timestamp.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from keyturn.domain.comparison import Discrepancy, Findings
from keyturn.domain.errors import JournalError, JournalFault, ProgrammingError
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import Event, EventType, KeyRecord, Rotation

T = TypeVar("T", Rotation, KeyRecord, Confirmation)

_encode_json = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def canonical(value: object) -> str:
    """Give the one JSON text of a value: sorted keys, no blanks, ASCII.

    Raises:
        ProgrammingError: the value has no exact JSON form.
    """
    try:
        return _encode_json(value)
    except (TypeError, ValueError) as problem:
        raise ProgrammingError(f"not fit for the journal: {type(problem).__name__}") from None


# Each step writes the same few times into several texts.
@lru_cache(maxsize=256)
def time_text(when: datetime) -> str:
    """Give the text of a time.

    Raises:
        ProgrammingError: the time has no zone.
    """
    if when.tzinfo is not UTC:
        if when.tzinfo is None:
            raise ProgrammingError("a time without a zone was given to the journal")
        when = when.astimezone(UTC)
    return when.isoformat(timespec="microseconds")


def _decoders(record: type) -> Mapping[str, Callable[[Any], Any]]:
    """Find the fields whose JSON form is not their value, from the types that the record declares."""
    found: dict[str, Callable[[Any], Any]] = {}
    for name, hint in typing.get_type_hints(record).items():
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for kind in kinds:
            if kind is datetime:
                found[name] = datetime.fromisoformat
            elif isinstance(kind, type) and issubclass(kind, StrEnum):
                found[name] = kind
    return found


_DECODERS = {record: _decoders(record) for record in (Rotation, KeyRecord, Confirmation)}
#: The fields of each record, and whether None is what a reader takes for one that is left out.
_FIELDS = {record: tuple((f.name, f.default is None) for f in fields(record)) for record in _DECODERS}


def record_text(record: Rotation | KeyRecord | Confirmation) -> str:
    """Give the JSON text of a record; fields that are None, and are so by default, are left out."""
    plain: dict[str, Any] = {}
    for name, optional in _FIELDS[type(record)]:
        value = getattr(record, name)
        if value is not None or not optional:
            plain[name] = time_text(value) if isinstance(value, datetime) else value
    return canonical(plain)


def read_record(kind: type[T], text: str) -> T:
    """Read what `record_text` wrote.

    Raises:
        JournalError: `TAMPERED` when the text is not such a record.
    """
    try:
        return kind(**_decoded(json.loads(text), _DECODERS[kind]))
    except (TypeError, ValueError, AttributeError):
        raise unreadable(f"A {kind.__name__} in the journal cannot be read.") from None


def data_text(event: Event) -> str:
    """Give the JSON text of an event's data."""
    return canonical({k: time_text(v) if isinstance(v, datetime) else v for k, v in event.data.items()})


def read_event(row: Mapping[str, Any]) -> Event:
    """Read an event from its row.

    Raises:
        JournalError: `TAMPERED` when the row is not an event.
    """
    try:
        data = _decoded(json.loads(row["data"]), _DECODERS[Rotation])
        return Event(EventType(row["type"]), datetime.fromisoformat(row["at"]), row["actor"], data)
    except (TypeError, ValueError, AttributeError):
        raise unreadable(f"Event {row['number']} of the journal cannot be read.") from None


def read_findings(at: str, actor: str, data: str) -> Findings:
    """Read what a comparison found from its row.

    Raises:
        JournalError: `TAMPERED` when the row is none.
    """
    try:
        told = json.loads(data)["differences"]
        return Findings(datetime.fromisoformat(at), actor, tuple(Discrepancy(**each) for each in told))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise unreadable("What the last comparison found cannot be read in the journal.") from None


def _decoded(plain: dict[str, Any], decoders: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    for name in plain.keys() & decoders.keys():
        if plain[name] is not None:
            plain[name] = decoders[name](plain[name])
    return plain


def unreadable(what: str) -> JournalError:
    """Build the error for a row that keyturn did not write like this."""
    return JournalError(
        JournalFault.TAMPERED,
        what,
        now="Nothing was changed. The row was not written by keyturn as it stands.",
        todo="Run `keyturn verify-journal`; compare with a backup before you trust this journal.",
    )
