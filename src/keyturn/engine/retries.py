"""How often an exchange was told to revoke a key that its rotation has left behind, and when it is again.

The rotation is closed, or has gone on with a later attempt: nothing of it waits any more. So what was tried
is read from its events, where each revoke has its intent, and the pauses are those of a rotation that is put
off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyturn.domain.rotation import EventType, KeyRecord
from keyturn.domain.schedule import retry_delay
from keyturn.engine import unexplained
from keyturn.ports.journal import JournaledEvent


class EventReader(Protocol):
    """What is asked of a journal here."""

    async def events(self, rotation_id: str) -> Sequence[JournaledEvent]:
        """Give the story of a rotation, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Tries:
    """The revokes of one key that have left no proof of its death."""

    count: int
    last: datetime | None
    rotation_id: str

    @property
    def are_enough(self) -> bool:
        """Whether a person should look: as many as of answers that nobody can explain."""
        return self.count >= unexplained.ROUNDS

    def is_too_soon(self, now: datetime) -> bool:
        """Tell whether the next one should wait.

        After one there is no pause: the worker may have died before its call, or the answer was lost.
        """
        if self.count < 2 or self.last is None or self.last > now:
            return False  # in the last case, by a clock that was ahead
        return now < self.last + retry_delay(self.count - 1, rotation_id=self.rotation_id)


def intended(record: KeyRecord) -> str:
    """Give the note of the event that tells of a revoke before it is tried."""
    return f"attempt {record.key_id}"


async def tries(journal: EventReader, record: KeyRecord) -> Tries:
    """Count the revokes of a key that an attempt made.

    Raises:
        JournalError: it cannot be read.
    """
    rotation_id = record.rotation_id or ""
    events = [each.event for each in await journal.events(rotation_id)]
    told = [
        event.at
        for event in events
        if event.type is EventType.ORPHAN_REVOKE_INTENDED and event.data.get("note") == intended(record)
    ]
    return Tries(len(told), told[-1] if told else None, rotation_id)
