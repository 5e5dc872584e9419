"""The page beside a parameter: who claims pending, what is staged where, and who is writing current now.

It holds no secret. It is a parameter of its own, and the rule that makes its writes a compare-and-set is
this: a version of the page counts only if it names as `base` the last version before it that counts. AWS
numbers the writes; of two that name the same base the first counts and the second is void, and every
reader and both writers come to that by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.bodies import UNREADABLE
from keyturn.domain.labels import Attempt
from keyturn.stores.aws.documents import corrupt
from keyturn.stores.ledger import Held
from keyturn.stores.ledger_text import meta_from_json, meta_to_json

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """Somebody writes current now.

    Attributes:
        over: the version of current that is being replaced; empty for none.
        until: when everybody else may go on, in seconds since 1970.
    """

    over: str
    until: float


@dataclass(frozen=True, slots=True)
class Page:
    """One version of the page. `at` 0: there is none yet."""

    at: int = 0
    base: int = 0
    #: Tells our own write from another's with the same content.
    write: str = ""
    revision: int = 0
    next_number: int = 1
    pending: Held | None = None
    #: The parameter that holds what is staged.
    content: str | None = None
    fence: Attempt | None = None
    #: The version of current whose previous was discarded.
    dropped: str | None = None
    lease: Lease | None = None
    #: Parameters to delete.
    trash: tuple[str, ...] = field(default=())


def dump(page: Page) -> str:
    """Write a page."""
    pending = page.pending
    data = {
        "format": FORMAT,
        "base": page.base,
        "write": page.write,
        "revision": page.revision,
        "next": page.next_number,
        "pending": None
        if pending is None
        else {
            "version": pending.version,
            "attempt": str(pending.attempt),
            "meta": meta_to_json(pending.meta) if pending.meta else None,
        },
        "content": page.content,
        "fence": str(page.fence) if page.fence else None,
        "dropped": page.dropped,
        "lease": [page.lease.over, page.lease.until] if page.lease else None,
        "trash": list(page.trash),
    }
    return json.dumps(data, separators=(",", ":"))


def load(path: str, number: int, text: str) -> Page:
    """Read a page.

    Raises:
        StoreError: `CORRUPT`: it is not one.
    """
    page = _load(number, text)
    if page is None:
        raise corrupt(path, "the parameter `.keyturn` beside it is damaged")
    return page


def _load(number: int, text: str) -> Page | None:
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            return None
        return Page(
            at=number,
            base=int(data["base"]),
            write=str(data["write"]),
            revision=int(data["revision"]),
            next_number=int(data["next"]),
            pending=_held(data["pending"]),
            content=data["content"],
            fence=Attempt.parse(data["fence"]) if data["fence"] else None,
            dropped=data["dropped"],
            lease=Lease(str(data["lease"][0]), float(data["lease"][1])) if data["lease"] else None,
            trash=tuple(data["trash"]),
        )
    except UNREADABLE:
        return None


def _held(data: Mapping[str, Any] | None) -> Held | None:
    if data is None:
        return None
    meta = meta_from_json(dict(data["meta"])) if data["meta"] else None
    return Held(data["version"], Attempt.parse(data["attempt"]), meta)
