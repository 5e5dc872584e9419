"""Fields of a key that belong together, for code that reads them one after the other."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyturn.client.holder import Loaded

if TYPE_CHECKING:
    from keyturn.client.link import Link

# Code of the bot's own reads the key and its secret one after the other; a pair within this time is of one
# version. Longer, and a secret that is read alone would be an old one.
_PAIR_SECONDS = 1.0


@dataclass(slots=True)
class _Reading:
    """One version, as one task or thread reads it field by field."""

    link: weakref.ref[Link]
    loaded: Loaded
    #: Monotonic seconds; infinite while a call is signed.
    until: float
    fields: set[str] = field(default_factory=set)


_READING: ContextVar[_Reading | None] = ContextVar("keyturn_reading", default=None)


def read(link: Link, loaded: Loaded, ours: str) -> str | None:
    """Give a field of the version that this task or thread is reading, or begins to read now.

    Args:
        link: of the object that is read.
        loaded: what it is on now.
        ours: keyturn's name of the field. A second look at the same field begins a new reading.
    """
    now, reading = time.monotonic(), _READING.get()
    if reading is None or reading.link() is not link or now > reading.until:
        reading = None
    if reading is None or (ours in reading.fields and reading.until != math.inf):
        reading = _Reading(weakref.ref(link), loaded, now + _PAIR_SECONDS)
        _READING.set(reading)
    reading.fields.add(ours)
    return reading.loaded.material.reveal().get(ours)


@contextmanager
def of(link: Link, loaded: Loaded | None) -> Iterator[None]:
    """Have every field that is read meanwhile be of one version; None: of the bot's own key."""
    token = _READING.set(_Reading(weakref.ref(link), loaded, math.inf) if loaded else None)
    try:
        yield
    finally:
        _READING.reset(token)


def forget() -> None:
    """Begin a new reading with the next field."""
    _READING.set(None)
