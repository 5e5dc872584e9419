"""The two documents of a credential: what consumers read, and the pending one beside it.

Both hold the key's fields as plain text values, for any bot or tool to read, and one reserved field,
`keyturn`, a JSON text with everything else. So one read answers whose key it is, and one write moves it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from keyturn.bodies import UNREADABLE
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta
from keyturn.stores.formats import FIELDS, Format, UnreadableError
from keyturn.stores.ledger_text import meta_from_json, meta_to_json
from keyturn.stores.vault.faults import corrupt, misconfigured

FIELD = "keyturn"
FORMAT = 1
_KEY_FIELDS = ("api_key", "secret", "passphrase")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a path as the server shows it. `kv` 0: nothing was ever written there."""

    kv: int
    #: None where it was deleted or destroyed.
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    created: str = ""

    @property
    def write(self) -> str | None:
        """The mark of the write that made it, if keyturn made it."""
        text = (self.data or {}).get(FIELD)
        try:
            return str(json.loads(text)["write"]) if isinstance(text, str) else None
        except UNREADABLE:
            return None


@dataclass(frozen=True, slots=True)
class Pointer:
    """Names an older version of the consumer's path."""

    kv: int
    version: str
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Current:
    """The consumer's path, understood. `version` is None where there is no key."""

    kv: int = 0
    version: str | None = None
    attempt: Attempt | None = None
    meta: KeyMeta | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Fields at the path that are not the key's: kept by every write.
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: How the key stands in the document.
    format: Format = FIELDS
    previous: Pointer | None = None
    #: What this took the place of, so that a repeated promotion can give the same answer.
    replaced: str | None = None
    #: The attempt that was promoted last: it and those before it never come back.
    promoted: Attempt | None = None

    def spent(self, attempt: Attempt | None) -> bool:
        """Tell whether an attempt was promoted already, or one after it of the same rotation."""
        last = self.promoted
        return bool(
            attempt and last and last.rotation_id == attempt.rotation_id and attempt.number <= last.number
        )

    def document(self) -> dict[str, Any]:
        """Give what is written to the path."""
        record = {
            "version": self.version,
            "attempt": _text(self.attempt),
            "meta": meta_to_json(self.meta) if self.meta else None,
            "fields": sorted(self.values),
            "digest": _digest(self.values),
            "previous": _pointer_to_json(self.previous),
            "replaced": self.replaced,
            "promoted": _text(self.promoted),
        }
        return {**_placed(self.format, self.others, self.values), FIELD: _dump(record | _shape(self.format))}


class State(StrEnum):
    """What the pending path is in."""

    EMPTY = "empty"
    CLAIMED = "claimed"
    STAGED = "staged"
    #: Being discarded: it still shows, so that a discard which was cut short is done again.
    DOOMED = "doomed"


@dataclass(frozen=True, slots=True)
class Pending:
    """The pending path, understood."""

    kv: int = 0
    state: State = State.EMPTY
    version: str = ""
    attempt: Attempt | None = None
    meta: KeyMeta | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: How the key stands in the document.
    format: Format = FIELDS
    #: The attempt that claimed last; it outlives its claim.
    fence: Attempt | None = None
    #: Whether a promotion of something that stood here before may still be under way.
    owes: bool = False

    def document(self) -> dict[str, Any]:
        """Give what is written to the path."""
        record = {
            "state": self.state,
            "version": self.version,
            "attempt": _text(self.attempt),
            "meta": meta_to_json(self.meta) if self.meta else None,
            "fields": sorted(self.values),
            "fence": _text(self.fence),
            "owes": self.owes,
        }
        return {**_placed(self.format, {}, self.values), FIELD: _dump(record | _shape(self.format))}


def mark() -> str:
    """Draw a mark that no other write has."""
    return secrets.token_hex(6)


def material_values(material: SecretMaterial) -> dict[str, str]:
    """Open a material for writing.

    Raises:
        StoreError: `MISCONFIGURED` when it uses the reserved field.
    """
    values = material.reveal()
    if FIELD in values:
        raise misconfigured(
            f"A key has a field named {FIELD}, which is reserved in this store.",
            "Give the field another name.",
        )
    return values


def read_current(path: str, seen: Snapshot, expected: Format = FIELDS) -> Current:
    """Understand what stands at the consumer's path.

    Our own documents say in which format they are; `expected` is that of somebody else's. A document
    without our field, or whose key was edited by somebody else since, has no meta; its version is the
    server's number and time, which another content never has.

    Raises:
        StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format.
    """
    if seen.data is None:
        return Current(seen.kv)
    foreign = f"{seen.kv}-{''.join(c for c in seen.created if c.isalnum())}"
    record = _load(path, seen.data)
    if record is None:
        if expected is not FIELDS:
            values, others = _parsed(expected, seen.data), expected.rest(seen.data)
            return Current(seen.kv, foreign, values=values, others=others, format=expected)
        values = {k: seen.data[k] for k in _KEY_FIELDS if isinstance(seen.data.get(k), str)}
        others = {k: v for k, v in seen.data.items() if k not in _KEY_FIELDS}
        return Current(seen.kv, foreign, values=values, others=others)
    try:
        return _current(seen, record, foreign)
    except UNREADABLE:
        problem = f"its field `{FIELD}` is damaged"
    raise corrupt(path, problem)


def _current(seen: Snapshot, record: dict[str, Any], foreign: str) -> Current:
    data = seen.data or {}
    shape, values, others = _unfolded(data, record)
    intact = record["digest"] == _digest(values)
    version = record["version"]
    return Current(
        kv=seen.kv,
        version=version if intact or version is None else foreign,
        attempt=_attempt(record["attempt"]) if intact else None,
        meta=meta_from_json(record["meta"]) if intact and record["meta"] else None,
        values=values,
        others=others,
        format=shape,
        previous=_pointer_from_json(record["previous"]),
        replaced=record["replaced"],
        promoted=_attempt(record["promoted"]),
    )


def read_pending(path: str, seen: Snapshot) -> Pending:
    """Understand what stands at the pending path.

    Raises:
        StoreError: `CORRUPT`, also for a document that is not ours: nobody else writes there.
    """
    if seen.data is None:
        return Pending(seen.kv)
    record = _load(path, seen.data)
    problem = f"it lacks the field `{FIELD}`, and keyturn alone writes to this folder"
    if record is not None:
        try:
            return _pending(seen, record)
        except UNREADABLE:
            problem = f"its field `{FIELD}` is damaged"
    raise corrupt(path, problem)


def _pending(seen: Snapshot, record: dict[str, Any]) -> Pending:
    shape, values, _ = _unfolded(seen.data or {}, record)
    if sorted(values) != record["fields"]:
        raise ValueError("fields")
    return Pending(
        kv=seen.kv,
        state=State(record["state"]),
        version=str(record["version"]),
        attempt=_attempt(record["attempt"]),
        meta=meta_from_json(record["meta"]) if record["meta"] else None,
        values=values,
        format=shape,
        fence=_attempt(record["fence"]),
        owes=bool(record["owes"]),
    )


def _placed(shape: Format, others: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    if shape is FIELDS or not values:
        return {**others, **values}
    return shape.place(others, SecretMaterial.of(values))


def _shape(shape: Format) -> dict[str, Any]:
    return {} if shape is FIELDS else {"shape": shape.to_json()}


def _unfolded(
    data: Mapping[str, Any], record: Mapping[str, Any]
) -> tuple[Format, dict[str, str], dict[str, Any]]:
    """Give the format of one of our documents, the key in it, and the fields beside the key."""
    shape = Format.from_json(record.get("shape"))
    beside = {k: v for k, v in data.items() if k != FIELD}
    if shape is not FIELDS:
        return shape, _parsed(shape, beside), shape.rest(beside)
    names = set(record["fields"])
    values = {k: v for k, v in beside.items() if k in names and isinstance(v, str)}
    return shape, values, {k: v for k, v in beside.items() if k not in names}


def _parsed(shape: Format, data: Mapping[str, Any]) -> dict[str, str]:
    try:
        return shape.parse(data).reveal()
    except UnreadableError:
        return {}


def as_material(path: str, values: Mapping[str, str]) -> SecretMaterial:
    """Build the material of a document.

    Raises:
        StoreError: `CORRUPT` when a field that signs is missing.
    """
    missing = [name for name in ("api_key", "secret") if name not in values]
    if missing:
        raise corrupt(path, f"it has no text field `{missing[0]}`")
    return SecretMaterial.of(values)


def parse_time(text: str) -> datetime | None:
    """Read the server's time stamps; their nanoseconds are cut to what Python holds."""
    whole, _, rest = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}.{(rest + '000000')[:6]}+00:00")
    except ValueError:
        return None


def _dump(record: dict[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "write": mark(), **record}, separators=(",", ":"))


def _load(path: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
    text = data.get(FIELD)
    if text is None:
        return None
    try:
        record = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise corrupt(path, f"its field `{FIELD}` is damaged")
    if record["format"] > FORMAT:
        raise misconfigured(
            f"{path} was written by a newer keyturn (format {record['format']}).", "Upgrade keyturn here."
        )
    return record


def _digest(values: Mapping[str, str]) -> str:
    # Tells an edit of the key by somebody else. It stands beside the values, so it gives nothing away.
    return hashlib.sha256(json.dumps(sorted(values.items())).encode()).hexdigest()[:32]


def _text(attempt: Attempt | None) -> str | None:
    return None if attempt is None else str(attempt)


def _attempt(text: str | None) -> Attempt | None:
    return None if text is None else Attempt.parse(text)


def _pointer_to_json(pointer: Pointer | None) -> list[Any] | None:
    return None if pointer is None else [pointer.kv, pointer.version, _text(pointer.attempt)]


def _pointer_from_json(row: list[Any] | None) -> Pointer | None:
    return None if row is None else Pointer(int(row[0]), str(row[1]), _attempt(row[2]))
