"""The three slots of a credential in its store, and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial


class Slot(StrEnum):
    """Where a version of a credential stands."""

    PENDING = "pending"
    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class KeyMeta:
    """What is written beside the material, none of it secret."""

    exchange: str
    account: str
    key_ref: str
    fingerprint: str
    #: None for a key that a person put there.
    attempt: Attempt | None
    created_at: datetime
    handle: str | None = None
    account_uid: str | None = None


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot as the store shows it without opening it: the version, and what it says of itself.

    `meta` is None for a pending slot that is claimed and not yet staged, and for a document that
    keyturn did not write.
    """

    slot: Slot
    #: Opaque; equal versions mean equal content. Never reused for other content.
    version: str
    attempt: Attempt | None
    meta: KeyMeta | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A slot, opened."""

    info: SlotInfo
    material: SecretMaterial = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """The reservation of the pending slot for one attempt: what fences off a stale worker."""

    attempt: Attempt
    version: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion, or its reverse, did."""

    current: str
    #: The version that was current before; None when the credential had none.
    previous: str | None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One row of a credential's history in its store; never a value."""

    version: str
    slots: frozenset[Slot]
    attempt: Attempt | None
    fingerprint: str | None
    created_at: datetime | None
    destroyed: bool = False
