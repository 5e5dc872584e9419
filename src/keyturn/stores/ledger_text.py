"""The ledger as JSON text, and back; nothing in it is secret."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keyturn.domain.labels import Attempt
from keyturn.domain.slots import KeyMeta
from keyturn.stores.ledger import Held, Ledger, Row

FORMAT = 1


class NewerFormatError(ValueError):
    """The text was written by a later version of keyturn."""


@dataclass(frozen=True, slots=True)
class Page:
    """A ledger with the public key that its newest version is encrypted for (None before the first)."""

    ledger: Ledger = field(default_factory=Ledger)
    recipient: str | None = None


def _attempt(text: str | None) -> Attempt | None:
    return None if text is None else Attempt.parse(text)


def _text(attempt: Attempt | None) -> str | None:
    return None if attempt is None else str(attempt)


def meta_to_json(meta: KeyMeta) -> dict[str, Any]:
    """Give the JSON object of a key's description."""
    return {
        "exchange": meta.exchange,
        "account": meta.account,
        "key_ref": meta.key_ref,
        "fingerprint": meta.fingerprint,
        "attempt": _text(meta.attempt),
        "created_at": meta.created_at.isoformat(),
        "handle": meta.handle,
        "account_uid": meta.account_uid,
    }


def meta_from_json(data: dict[str, Any]) -> KeyMeta:
    """Read what `meta_to_json` gave.

    Raises:
        LookupError, TypeError, ValueError: it is something else.
    """
    return KeyMeta(
        exchange=data["exchange"],
        account=data["account"],
        key_ref=data["key_ref"],
        fingerprint=data["fingerprint"],
        attempt=_attempt(data["attempt"]),
        created_at=datetime.fromisoformat(data["created_at"]),
        handle=data["handle"],
        account_uid=data["account_uid"],
    )


def _held_to_json(held: Held | None) -> dict[str, Any] | None:
    if held is None:
        return None
    meta = meta_to_json(held.meta) if held.meta else None
    return {"version": held.version, "attempt": _text(held.attempt), "meta": meta}


def _held_from_json(data: dict[str, Any] | None) -> Held | None:
    if data is None:
        return None
    meta = meta_from_json(data["meta"]) if data["meta"] is not None else None
    return Held(data["version"], _attempt(data["attempt"]), meta)


def dump(page: Page) -> bytes:
    """Write a page."""
    ledger = page.ledger
    rows = [[r.version, _text(r.attempt), r.fingerprint, r.created_at.isoformat()] for r in ledger.rows]
    data = {
        "format": FORMAT,
        "revision": ledger.revision,
        "next": ledger.next_number,
        "recipient": page.recipient,
        "pending": _held_to_json(ledger.pending),
        "current": _held_to_json(ledger.current),
        "previous": _held_to_json(ledger.previous),
        "replaced": ledger.replaced,
        "fence": _text(ledger.fence),
        "versions": rows,
    }
    return (json.dumps(data, separators=(",", ":")) + "\n").encode()


def load(text: bytes) -> Page:
    """Read what `dump` wrote.

    Raises:
        NewerFormatError: a later version of keyturn wrote it.
        ValueError: it is not a ledger.
    """
    try:
        data = json.loads(text)
        newer = data["format"] > FORMAT
        page = None if newer else _page(data)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a ledger: {error!r}") from None
    if page is None:
        raise NewerFormatError(data["format"])
    return page


def _page(data: dict[str, Any]) -> Page:
    rows = tuple(Row(v, _attempt(a), f, datetime.fromisoformat(c)) for v, a, f, c in data["versions"])
    ledger = Ledger(
        revision=int(data["revision"]),
        next_number=int(data["next"]),
        pending=_held_from_json(data["pending"]),
        current=_held_from_json(data["current"]),
        previous=_held_from_json(data["previous"]),
        replaced=data["replaced"],
        fence=_attempt(data["fence"]),
        rows=rows,
    )
    if not ledger.kept() <= {row.version for row in rows}:
        raise ValueError("not a ledger: a slot names a version that was never written")
    return Page(ledger, data["recipient"])
