"""What consumers are told, and what they prove in return."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeyFacts


class Evidence(StrEnum):
    """The grades of proof that a consumer moved, strongest first."""

    #: The consumer reports the fingerprint that it loaded and that a signed call with it worked. Where it has
    #: the means, the report is sealed with that key.
    ACK = "ack"
    #: A person says so, by name: `keyturn confirm`. No consumer owes it, and it stands in for what one owes.
    PERSON = "person"
    #: The exchange shows the new key used and the old one idle.
    OBSERVED = "observed"
    #: The grace period alone.
    TIMED = "timed"


STRENGTH = {Evidence.TIMED: 0, Evidence.OBSERVED: 1, Evidence.PERSON: 2, Evidence.ACK: 2}


class NoticeKind(StrEnum):
    """Why a consumer is told."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    #: The same key, in another store: confirmed by who reads it there.
    MOVED = "moved"


def place_mark(store: str, path: str) -> str:
    """Name a place in a few characters; the `version` of a `MOVED` notice begins with it, and a dot.

    Two stores may count their versions alike, so a version alone does not tell where it was read.
    """
    return hashlib.sha256(f"{store}:{path}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a consumer is told: which key to use from now on. No material, ever."""

    credential: str
    consumer: str
    rotation_id: str
    kind: NoticeKind
    #: Of the key that is current now.
    fingerprint: str
    #: The store's version of it.
    version: str
    confirm_by: datetime
    #: When the key became current, so that no answer can be older; None where nothing tells.
    issued_at: datetime | None = None

    @property
    def notice_id(self) -> str:
        """Name the notice; sending it twice has the effect of sending it once."""
        return f"{self.rotation_id}-{self.kind}"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A consumer's proof that it moved."""

    consumer: str
    rotation_id: str
    fingerprint: str
    evidence: Evidence
    at: datetime
    detail: str = ""


#: As many refused calls are told of one key: a bot that makes thousands must not fill anybody's disk.
MAX_REFUSALS = 32


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call of the consumer's that the exchange refuses to the key of a notice, though the key works."""

    consumer: str
    rotation_id: str
    fingerprint: str
    #: Method and path; never a parameter.
    call: str
    #: The key lacks a right that the call needs, or is not open to the consumer's address.
    fault: Literal[ExchangeFault.MISSING_PERMISSION, ExchangeFault.WRONG_IP]
    at: datetime


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Ask a consumer to try the pending key from where it stands.

    For keys that are bound to the bot's address: keyturn's own machine cannot prove them.
    """

    credential: str
    consumer: str
    rotation_id: str
    attempt: int
    fingerprint: str
    version: str


class ProbeFault(StrEnum):
    """Why a consumer could not try a key at all."""

    #: It may not open the pending slot.
    PENDING_DENIED = "pending_denied"


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What the consumer found: the facts that the exchange gave it, or why the key failed."""

    consumer: str
    fingerprint: str
    at: datetime
    facts: KeyFacts | None
    #: Empty when the key worked; otherwise the value of an `ExchangeFault` or a `ProbeFault`.
    fault: str = ""
