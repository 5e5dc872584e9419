"""What was found when journal, stores and exchanges were compared: ids, fingerprints and texts, no secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One key of which the books do not say the same."""

    #: Whose it is; also a name that left the inventory.
    credential: str
    #: Of the journal's record; empty for a key that it does not have.
    key_id: str
    what: str
    todo: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What one comparison found."""

    at: datetime
    actor: str
    differences: tuple[Discrepancy, ...]
