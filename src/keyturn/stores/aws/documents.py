"""What one version holds: the bot's fields as flat JSON, and the reserved object `keyturn` beside them.

Versions without a key hold the reserved object alone: a claim, a mark that pending was emptied, or the
mark of a credential that has no key yet. A document without the object is somebody else's; it is shown,
kept and never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from keyturn.bodies import UNREADABLE
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo
from keyturn.stores.formats import FIELDS, Format, UncarriedError, UnreadableError, no_room
from keyturn.stores.ledger_text import meta_from_json, meta_to_json

FIELD = "keyturn"
FORMAT = 1
_KEY_FIELDS = frozenset({"api_key", "secret", "passphrase"})


class Kind(StrEnum):
    """What a version is."""

    KEY = "key"
    CLAIM = "claim"
    #: Pending was emptied; it stays so that nobody stages with an old claim.
    EMPTY = "empty"
    #: The first version of a credential without a key.
    VACANT = "vacant"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a version says about others.

    Attributes:
        over: the staged version that this claim or mark took pending from.
        base: the version that was current then; while it still is, a promotion of `over` may succeed.
        copied: the version that this one is a copy of.
        previous: what was previous when the copy was made.
    """

    over: str | None = None
    base: str | None = None
    copied: str | None = None
    previous: str | None = None


NO_MARKS = Marks()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A version, understood; nothing in it is secret."""

    id: str
    kind: Kind
    #: The version as the port shows it: the id, or for a copy that of its original.
    version: str
    attempt: Attempt | None = None
    meta: KeyMeta | None = None
    marks: Marks = NO_MARKS
    #: Whether the document has fields that are not the key's.
    more: bool = False

    @property
    def holds_key(self) -> bool:
        """Whether there is a value to read."""
        return self.kind in {Kind.KEY, Kind.FOREIGN}

    def info(self, slot: Slot) -> SlotInfo:
        """Give it as the port shows it."""
        return SlotInfo(slot, self.version, self.attempt, self.meta)


@dataclass(frozen=True, slots=True)
class Opened:
    """A version with its document."""

    leaf: Leaf
    document: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)
    #: What it holds where that is no text; somebody else's, and secret like any value.
    data: bytes | None = field(default=None, repr=False)
    #: How the key stands in the document.
    shape: Format = FIELDS
    #: The labels that it had when it was opened.
    labels: tuple[str, ...] = ()


def key_text(
    path: str,
    material: SecretMaterial,
    meta: KeyMeta,
    attempt: Attempt | None,
    beside: Mapping[str, Any],
    shape: Format = FIELDS,
    **notes: Any,
) -> str:
    """Write the document of a key.

    Args:
        path: for messages.
        material: opened here.
        meta: goes into the reserved object.
        attempt: that it belongs to.
        beside: further fields, kept from what was current before; those of the material win.
        shape: how the key stands in the document.
        notes: what else the reserved object holds.

    Raises:
        StoreError: `MISCONFIGURED` when the material uses the reserved field, or `beside` leaves it no room.
    """
    values = material.reveal()
    if FIELD in values:
        raise StoreError(
            StoreFault.MISCONFIGURED,
            f"The key for {path} has a field named {FIELD}, which is reserved in this store.",
            now="Nothing was written.",
            todo="Give the field another name.",
        )
    ours = {"kind": Kind.KEY, "attempt": _text(attempt), "meta": meta_to_json(meta), **notes}
    if shape is FIELDS:
        return _dump({**beside, **values}, ours)
    problem = ""
    try:
        return _dump(shape.place(beside, material), {**ours, "shape": shape.to_json()})
    except UncarriedError as error:
        problem = str(error)
    raise no_room(path, problem)


def mark_text(
    kind: Kind,
    attempt: Attempt | None = None,
    marks: Marks = NO_MARKS,
    beside: Mapping[str, Any] | None = None,
) -> str:
    """Write a document without a key."""
    return _dump(beside or {}, {"kind": kind, "attempt": _text(attempt), **_marks_to_json(marks)})


def copy_of(source: Opened, previous: str | None) -> str | bytes:
    """Write the copy of a version; somebody else's document is copied to the letter, or byte."""
    leaf = source.leaf
    if leaf.kind is Kind.FOREIGN:
        return source.text if source.data is None else source.data
    ours = {
        **source.document[FIELD],
        "version": leaf.version,
        **_marks_to_json(Marks(copied=leaf.id, previous=previous)),
    }
    return _dump({k: v for k, v in source.document.items() if k != FIELD}, ours)


def value_in(answer: Mapping[str, Any]) -> str | bytes:
    """Give what a version holds from AWS's answer."""
    value: str | bytes = (
        answer["SecretBinary"] if "SecretBinary" in answer else answer.get("SecretString", "")
    )
    return value


def read(path: str, version_id: str, value: str | bytes, expected: Format = FIELDS) -> Opened:
    """Understand a version.

    Args:
        path: for messages.
        version_id: of AWS.
        value: what it holds; bytes are always somebody else's.
        expected: how somebody else's document looks; ours say it themselves.

    Raises:
        StoreError: `CORRUPT`, `MISCONFIGURED` for a newer format. Neither quotes the document.
    """
    if isinstance(value, bytes):
        return Opened(Leaf(version_id, Kind.FOREIGN, version_id), {}, "", value, expected)
    document = _object(value)
    ours = document.get(FIELD)
    if not isinstance(ours, dict) or "format" not in ours:
        more = bool(_rest(document, expected))
        return Opened(Leaf(version_id, Kind.FOREIGN, version_id, more=more), document, value, shape=expected)
    if ours["format"] != FORMAT:
        raise StoreError(
            StoreFault.MISCONFIGURED,
            f"{path} was written by another version of keyturn (format {ours['format']!r}).",
            now="It was left as it is.",
            todo="Upgrade keyturn here.",
        )
    shape = _shape(ours)
    leaf = _leaf(version_id, document, ours, shape) if shape else None
    if leaf is None or shape is None:
        raise corrupt(path, f"its field `{FIELD}` is damaged")
    return Opened(leaf, document, value, shape=shape)


def _shape(ours: Mapping[str, Any]) -> Format | None:
    try:
        return Format.from_json(ours.get("shape"))
    except UNREADABLE:
        return None


def _leaf(
    version_id: str, document: Mapping[str, Any], ours: Mapping[str, Any], shape: Format
) -> Leaf | None:
    try:
        meta = meta_from_json(ours["meta"]) if ours.get("meta") else None
        kind = Kind(ours["kind"])
        # Somebody put another key into our document: it is theirs now.
        edited = kind is Kind.KEY and (
            meta is None or meta.key_ref != _values(document, shape).get("api_key")
        )
        if edited:
            return Leaf(version_id, Kind.FOREIGN, version_id, more=True)
        return Leaf(
            id=version_id,
            kind=kind,
            version=ours.get("version") or version_id,
            attempt=Attempt.parse(ours["attempt"]) if ours.get("attempt") else None,
            meta=meta,
            marks=Marks(ours.get("over"), ours.get("base"), ours.get("copied"), ours.get("previous")),
            more=bool(_rest(document, shape)),
        )
    except UNREADABLE:
        return None


def material_of(path: str, opened: Opened) -> SecretMaterial:
    """Build the material of a version.

    Raises:
        StoreError: `CORRUPT` when a field that signs is missing.
    """
    values = _values(opened.document, opened.shape)
    if opened.leaf.kind is Kind.FOREIGN and opened.shape is FIELDS:
        # What else stands there is theirs, and stays beside the key when that is taken in.
        values = {k: v for k, v in values.items() if k in _KEY_FIELDS}
    missing = [name for name in ("api_key", "secret") if name not in values]
    if missing:
        raise corrupt(path, f"it has no text field `{missing[0]}`")
    return SecretMaterial.of(values)


def beside_the_key(opened: Opened) -> dict[str, Any]:
    """Give the fields that are not the key's: whoever put them there goes on finding them."""
    return _rest(opened.document, opened.shape)


def _values(document: Mapping[str, Any], shape: Format) -> dict[str, str]:
    if shape is FIELDS:
        return {k: v for k, v in document.items() if k != FIELD and isinstance(v, str)}
    try:
        return shape.parse(document).reveal()
    except UnreadableError:
        return {}


def _rest(document: Mapping[str, Any], shape: Format) -> dict[str, Any]:
    beside = {k: v for k, v in document.items() if k != FIELD}
    if shape is FIELDS:
        return {k: v for k, v in beside.items() if k not in _KEY_FIELDS}
    return shape.rest(beside)


def corrupt(path: str, problem: str) -> StoreError:
    """Build the error for a version that is no credential."""
    return StoreError(
        StoreFault.CORRUPT,
        f"What is stored at {path} is not a credential: {problem}.",
        now="It was left as it is.",
        todo="Put a JSON object with the text fields `api_key` and `secret` there, or correct the path.",
    )


def follow(version_id: str) -> str:
    """Give the id of the version that comes after another in the chain of pending."""
    return hashlib.sha256(f"keyturn pending after {version_id}".encode()).hexdigest()


def later(one: Attempt | None, other: Attempt) -> bool:
    """Tell whether one attempt came after another of the same rotation."""
    return bool(one and one.rotation_id == other.rotation_id and one.number > other.number)


def _object(text: str) -> dict[str, Any]:
    # A frame of its own that raises nothing: the decoder's exceptions carry the text.
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _dump(fields: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    return json.dumps({**fields, FIELD: {"format": FORMAT, **ours}}, separators=(",", ":"))


def _text(attempt: Attempt | None) -> str | None:
    return None if attempt is None else str(attempt)


def _marks_to_json(marks: Marks) -> dict[str, str]:
    named = {"over": marks.over, "base": marks.base, "copied": marks.copied, "previous": marks.previous}
    return {name: value for name, value in named.items() if value is not None}
