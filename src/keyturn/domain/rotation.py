"""The record of one rotation, and of the keys that it made. Ids, times and texts; no secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from keyturn.domain.labels import Attempt

#: A record that lies further in the future than this was written under a clock that was wrong; the clocks of
#: two machines may differ by less, and to wait that much longer does no harm.
CLOCK_MARGIN = timedelta(minutes=1)


class State(StrEnum):
    """Where a rotation stands; what is durable then is said in `machine`."""

    PLANNED = "planned"
    MINTING = "minting"
    STAGED = "staged"
    VERIFIED = "verified"
    PROMOTED = "promoted"
    CUTTING_OVER = "cutting_over"
    GRACE = "grace"
    REVOKING = "revoking"
    COMPLETED = "completed"
    ABORTING = "aborting"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling_back"
    PARKED = "parked"


CLOSED = frozenset({State.COMPLETED, State.ABORTED})
BEFORE_PIVOT = frozenset({State.PLANNED, State.MINTING, State.STAGED, State.VERIFIED})


class Mode(StrEnum):
    """Why a rotation runs."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    #: After an incident: no window, no grace; the proofs stay.
    INCIDENT = "incident"


class Park(StrEnum):
    """Why a rotation waits for a person."""

    #: Consumers that have not confirmed; both keys live. Goes on by itself when they do.
    UNCONFIRMED = "unconfirmed"
    #: The exchange refuses consumers' calls to the new key; both keys live. `resume` accepts what is named.
    REFUSED_CALLS = "refused_calls"
    MANAGER_KEY = "manager_key"
    KEY_QUOTA = "key_quota"
    SECOND_FACTOR = "second_factor"
    CLOCK_SKEW = "clock_skew"
    STORE = "store"
    CONSUMER = "consumer"
    NOT_OURS = "not_ours"
    NO_PROOF = "no_proof"
    #: A roll-back was asked for and the old key cannot be made current again; `resume` gives it up.
    NO_WAY_BACK = "no_way_back"
    NOT_SUPPORTED = "not_supported"
    REJECTED = "rejected"
    #: The exchange answers a change each time with what no table explains; its outcome is open.
    UNEXPLAINED = "unexplained"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    INVENTORY = "inventory"
    #: The inventory names another site than the one where this credential's keys lie; `resume` says that it
    #: is the same.
    MOVED = "moved"
    #: The new key would lack what the living one has, and nobody has accepted that.
    LOSS = "loss"
    #: The venue would add a right by itself that the inventory does not accept.
    ADDED_RIGHT = "added_right"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One effort to replace the key of one credential."""

    id: str
    credential: str
    exchange: str
    account: str
    state: State
    seq: int
    mode: Mode
    reason: str
    actor: str
    created_at: datetime
    updated_at: datetime
    grace_seconds: float
    confirm_seconds: float
    subaccount: str | None = None
    #: Where at the venue its keys are made and revoked (`domain.place`); None before the first attempt, and
    #: in journals from before this was written down.
    place: str | None = None
    attempt: int = 0
    #: When to come back; None means now.
    wake_at: datetime | None = None
    #: Consecutive deferrals without progress, and what was in the way last.
    failures: int = 0
    problem: str = ""
    old_ref: str | None = None
    old_fingerprint: str | None = None
    old_handle: str | None = None
    #: The store's version of the old key, which promotion expects to find as current.
    old_version: str | None = None
    new_ref: str | None = None
    new_fingerprint: str | None = None
    new_handle: str | None = None
    #: The store's version of the new key: pending before the pivot, current after it.
    new_version: str | None = None
    account_uid: str | None = None
    expires_at: datetime | None = None
    probe_by: datetime | None = None
    promoted_at: datetime | None = None
    noticed_at: datetime | None = None
    confirm_by: datetime | None = None
    confirmed_at: datetime | None = None
    grace_until: datetime | None = None
    revoke_at: datetime | None = None
    dead_at: datetime | None = None
    #: How the old key's death was proved.
    death_proof: str = ""
    restored_at: datetime | None = None
    abort_reason: str = ""
    parked: Park | None = None
    parked_why: str = ""
    parked_todo: str = ""
    parked_from: State | None = None
    #: What a person was last shown as lost, and what was accepted as lost (`difference.names_text`).
    loss: str | None = None
    accepted_loss: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the rotation still has something to do."""
        return self.state not in CLOSED

    @property
    def current_attempt(self) -> Attempt:
        """The attempt that is being made."""
        return Attempt(self.id, self.attempt)

    @property
    def effective_state(self) -> State:
        """The state, or the one that a parked rotation was in."""
        return self.parked_from if self.state is State.PARKED and self.parked_from else self.state

    def is_ahead(self, now: datetime) -> bool:
        """Whether its last step was written under a clock that has been set back since."""
        return self.updated_at > now + CLOCK_MARGIN

    def is_due(self, now: datetime) -> bool:
        """Whether there is something to do at this time; what a wrong clock put off is due at once."""
        return self.is_open and (self.wake_at is None or self.wake_at <= now or self.is_ahead(now))


class Origin(StrEnum):
    """How a key came to us."""

    MINTED = "minted"
    #: A person put it into the store and said that it is this credential's key.
    ADOPTED = "adopted"


class Fate(StrEnum):
    """What became of a key that the journal knows."""

    #: The intent is written; whether the key exists is not known yet.
    INTENDED = "intended"
    LIVE = "live"
    #: A revoke is intended; it may or may not have happened.
    REVOKING = "revoking"
    REVOKED = "revoked"
    #: The venue does not list it and the time in which it could still appear has passed.
    NEVER_MADE = "never_made"
    #: A person said that it is none of this credential's; it lives on, and keyturn does not touch it.
    FORGOTTEN = "forgotten"


#: The fates of keys that the journal has as living.
LIVING = frozenset({Fate.LIVE, Fate.REVOKING})


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key that keyturn made or was given: the licence to revoke it."""

    #: The attempt (`<rotation>-<n>`) or, for adopted keys, `adopted-<fingerprint>`; a key that a renamed
    #: credential took over keeps the one that it had. A second key that bears an attempt's label, because
    #: a proxy repeated the call, has its fingerprint behind the attempt: `<rotation>-<n>+<fingerprint>`.
    key_id: str
    credential: str
    exchange: str
    account: str
    subaccount: str | None
    origin: Origin
    fate: Fate
    recorded_at: datetime
    rotation_id: str | None = None
    key_ref: str | None = None
    handle: str | None = None
    fingerprint: str | None = None
    #: For `INTENDED`: absence from the venue's list is believed only after this time.
    settle_at: datetime | None = None
    #: When the venue itself ends the key, for adopted keys; a minted key's stands in its rotation.
    expires_at: datetime | None = None
    #: Who owns it at the venue, in the venue's own form, for adopted keys; as above.
    account_uid: str | None = None
    #: Where at the venue it lies (`domain.place`); None in journals from before this was written down.
    place: str | None = None
    #: The place that has shown that it knows the key: by a list, by making it, or by taking a call signed
    #: with it. Another place's "no such key" says nothing of it.
    known_at: str | None = None
    #: The fingerprint of the manager key whose account has shown it, by a list or by making it.
    listed_by: str | None = None

    @property
    def may_live(self) -> bool:
        """Whether the journal has it as a key that lives, or that is only about to die."""
        return self.fate in LIVING and self.key_ref is not None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that made it; None for a key that a person made."""
        made_by_hand = self.key_id.startswith("adopted-")
        return None if made_by_hand else Attempt.parse(self.key_id.partition("+")[0])


class EventType(StrEnum):
    """What can happen to a rotation."""

    OPENED = "opened"
    ATTEMPT_CLAIMED = "attempt_claimed"
    MINT_UNKNOWN = "mint_unknown"
    STAGED = "staged"
    PROBE_REQUESTED = "probe_requested"
    VERIFIED = "verified"
    PROMOTED = "promoted"
    NOTICES_SENT = "notices_sent"
    CONSUMER_CONFIRMED = "consumer_confirmed"
    CUTOVER_CONFIRMED = "cutover_confirmed"
    REVOKE_INTENDED = "revoke_intended"
    OLD_KEY_DEAD = "old_key_dead"
    COMPLETED = "completed"
    DEFERRED = "deferred"
    CLOCK_SET_BACK = "clock_set_back"
    ABORT_REQUESTED = "abort_requested"
    ABORTED = "aborted"
    ROLLBACK_REQUESTED = "rollback_requested"
    ROLLBACK_GIVEN_UP = "rollback_given_up"
    RESTORED = "restored"
    PARKED = "parked"
    RESUMED = "resumed"
    ORPHAN_REVOKE_INTENDED = "orphan_revoke_intended"
    ORPHAN_REVOKED = "orphan_revoked"
    ORPHAN_SETTLED = "orphan_settled"
    LOSS_ACCEPTED = "loss_accepted"
    #: A key of an attempt that was written off may live: a worker came back late, or a list shows it.
    KEY_MAY_LIVE = "key_may_live"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as it stands in the journal."""

    type: EventType
    at: datetime
    actor: str
    #: Field of `Rotation` -> new value, and free notes under the key `note`.
    data: dict[str, Any]
