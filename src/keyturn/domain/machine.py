"""The rotation machine: a pure table of states and events.

`PLANNED -> MINTING(n) -> STAGED -> VERIFIED -> PROMOTED* -> CUTTING_OVER -> GRACE -> REVOKING ->
COMPLETED`; `*` is the pivot. What is durable in each state:

* PLANNED: who asked, why, and the policy of the day. Nothing outside has changed.
* MINTING(n): the intent to mint attempt n. The pending slot may be claimed, the key may exist.
* STAGED: the secret stands in pending; the key ref is known.
* VERIFIED: the key works and may do exactly what is declared. The promotion may already have happened.
* PROMOTED: current is the new key, previous the old one.
* CUTTING_OVER: every consumer was told.
* GRACE: every required consumer has proved that it moved; both keys live until `grace_until`.
* REVOKING: the intent to revoke the old key. It may already be dead.
* COMPLETED: one live managed key, and it is current.
* ABORTING, ABORTED: before the pivot: the new key is revoked, pending is discarded.
* ROLLING_BACK: after the pivot, while the old key lives: previous becomes current again, consumers
  are told and confirm, then ABORTING disposes of the new key. With nothing to go back to it is given up,
  and the rotation is PROMOTED again: consumers are told and prove anew.
* PARKED: a person is needed. Nothing is ever revoked from here.

Rules that the table enforces:

* before the pivot a rotation can abort; after it, only go forward or roll back (invariant 3);
* a roll-back is refused once the revoke of the old key is intended;
* REVOKING is reached from GRACE alone (invariant 7);
* every event raises `seq` by one, and the journal compares it before it writes (invariant 6).

What is not here: the effects, their order and their proofs. Those are `keyturn.engine`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from keyturn.domain.errors import IllegalTransitionError
from keyturn.domain.rotation import (
    BEFORE_PIVOT,
    CLOCK_MARGIN,
    CLOSED,
    Event,
    EventType,
    Park,
    Rotation,
    State,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Where an event may happen, where it leads, and which fields it may set."""

    sources: frozenset[State]
    #: None: the state stays.
    target: State | None
    fields: frozenset[str] = frozenset()
    #: False for events that are not progress: they leave the wake-up time and the failure count alone.
    progress: bool = True


def _rule(*sources: State, to: State | None = None, sets: str = "", progress: bool = True) -> Rule:
    return Rule(frozenset(sources), to, frozenset(sets.split()), progress)


_S, _E = State, EventType
_OPEN = frozenset(State) - CLOSED
_WORKING = _OPEN - {_S.PARKED}

#: The times that tell when something happened.
_PAST = frozenset({"promoted_at", "noticed_at", "confirmed_at", "restored_at", "revoke_at", "dead_at"})

TRANSITIONS: Mapping[EventType, Rule] = {
    _E.ATTEMPT_CLAIMED: _rule(
        _S.PLANNED,
        _S.MINTING,
        to=_S.MINTING,
        sets="attempt old_ref old_fingerprint old_handle old_version account_uid place",
    ),
    _E.MINT_UNKNOWN: _rule(_S.MINTING),
    _E.STAGED: _rule(_S.MINTING, to=_S.STAGED, sets="new_ref new_fingerprint new_handle new_version"),
    _E.PROBE_REQUESTED: _rule(_S.STAGED, sets="probe_by"),
    _E.VERIFIED: _rule(_S.STAGED, to=_S.VERIFIED, sets="account_uid expires_at"),
    _E.PROMOTED: _rule(
        _S.VERIFIED,
        _S.ABORTING,  # an abort of the first key that lost the race: there is nothing to go back to
        to=_S.PROMOTED,
        sets="promoted_at new_version old_version abort_reason",
    ),
    _E.NOTICES_SENT: Rule(
        frozenset({_S.PROMOTED, _S.ROLLING_BACK}), None, frozenset({"noticed_at", "confirm_by"})
    ),
    # Parked, too: a person gives the proof that is waited for.
    _E.CONSUMER_CONFIRMED: _rule(_S.CUTTING_OVER, _S.ROLLING_BACK, _S.PARKED, progress=False),
    _E.CUTOVER_CONFIRMED: Rule(
        frozenset({_S.CUTTING_OVER, _S.ROLLING_BACK}),
        None,
        frozenset({"confirmed_at", "grace_until", "wake_at"}),
    ),
    _E.REVOKE_INTENDED: _rule(_S.GRACE, to=_S.REVOKING, sets="revoke_at"),
    _E.OLD_KEY_DEAD: _rule(_S.REVOKING, sets="dead_at death_proof"),
    _E.COMPLETED: _rule(_S.GRACE, _S.REVOKING, to=_S.COMPLETED),
    _E.DEFERRED: Rule(_WORKING, None, frozenset({"wake_at", "failures", "problem"}), progress=False),
    _E.CLOCK_SET_BACK: Rule(
        _OPEN,
        None,
        _PAST | {"wake_at", "failures", "problem", "probe_by", "confirm_by", "grace_until"},
        progress=False,
    ),
    _E.ABORT_REQUESTED: Rule(BEFORE_PIVOT | {_S.PARKED}, _S.ABORTING, frozenset({"abort_reason"})),
    _E.ABORTED: _rule(_S.ABORTING, to=_S.ABORTED),
    _E.ROLLBACK_REQUESTED: _rule(
        _S.PROMOTED,
        _S.CUTTING_OVER,
        _S.GRACE,
        _S.PARKED,
        _S.ABORTING,  # an abort that lost the race against the promotion
        to=_S.ROLLING_BACK,
        sets="abort_reason promoted_at",
    ),
    _E.ROLLBACK_GIVEN_UP: _rule(_S.PARKED, to=_S.PROMOTED, sets="abort_reason"),
    _E.RESTORED: _rule(_S.ROLLING_BACK, sets="restored_at old_version new_version noticed_at"),
    _E.PARKED: Rule(
        _WORKING,
        _S.PARKED,
        frozenset({"parked", "parked_why", "parked_todo", "wake_at", "problem", "loss"}),
        progress=False,
    ),
    _E.RESUMED: Rule(frozenset({_S.PARKED}), None, frozenset({"problem", "place"})),
    # A person gave up rights or addresses of the old key; before anything is minted (again).
    _E.LOSS_ACCEPTED: _rule(_S.PLANNED, _S.MINTING, sets="accepted_loss", progress=False),
    _E.ORPHAN_REVOKE_INTENDED: Rule(frozenset(State), None, progress=False),
    _E.ORPHAN_REVOKED: Rule(frozenset(State), None, progress=False),
    _E.ORPHAN_SETTLED: Rule(frozenset(State), None, progress=False),
    _E.KEY_MAY_LIVE: Rule(frozenset(State), None, progress=False),
}

# Where an event's target depends on where it came from.
_SPLIT: Mapping[tuple[EventType, State], State] = {
    (_E.NOTICES_SENT, _S.PROMOTED): _S.CUTTING_OVER,
    (_E.CUTOVER_CONFIRMED, _S.CUTTING_OVER): _S.GRACE,
    (_E.CUTOVER_CONFIRMED, _S.ROLLING_BACK): _S.ABORTING,
}


def allowed(rotation: Rotation, event: EventType) -> bool:
    """Tell whether the event may happen to the rotation as it stands."""
    rule = TRANSITIONS.get(event)
    if rule is None or rotation.state not in rule.sources:
        return False
    was = rotation.effective_state
    if event is _E.ABORT_REQUESTED:
        return was in BEFORE_PIVOT
    if event is _E.ROLLBACK_REQUESTED:
        reversible = rotation.old_ref is not None and rotation.restored_at is None
        return reversible and was in {_S.PROMOTED, _S.CUTTING_OVER, _S.GRACE, _S.ABORTING}
    if event is _E.PROMOTED and rotation.state is _S.ABORTING:
        return rotation.old_ref is None
    if event is _E.ROLLBACK_GIVEN_UP:
        unrestored = was is _S.ROLLING_BACK and rotation.restored_at is None
        return unrestored and rotation.parked is Park.NO_WAY_BACK
    if event is _E.CONSUMER_CONFIRMED:
        told_to_go_back = rotation.restored_at is not None and rotation.noticed_at is not None
        return was is _S.CUTTING_OVER or (was is _S.ROLLING_BACK and told_to_go_back)
    if event is _E.COMPLETED:
        return rotation.old_ref is None if rotation.state is _S.GRACE else rotation.dead_at is not None
    if event is _E.NOTICES_SENT and rotation.state is _S.ROLLING_BACK:
        return rotation.restored_at is not None
    return True


def apply(rotation: Rotation, event: Event) -> Rotation:
    """Give the rotation after the event.

    Raises:
        IllegalTransitionError: the event does not belong to this state, or sets a field that is not its own.
    """
    if not allowed(rotation, event.type):
        raise IllegalTransitionError(f"{event.type} in {rotation.state} of rotation {rotation.id}")
    rule = TRANSITIONS[event.type]
    changes: dict[str, Any] = {k: v for k, v in event.data.items() if k != "note"}
    if stray := changes.keys() - rule.fields:
        raise IllegalTransitionError(f"{event.type} may not set {', '.join(sorted(stray))}")
    if rule.progress:
        changes = {"wake_at": None, "failures": 0, "problem": ""} | changes
    target = _SPLIT.get((event.type, rotation.state), rule.target)
    if event.type is _E.PARKED:
        changes["parked_from"] = rotation.state
    elif rotation.state is _S.PARKED and rule.progress:
        target = target or rotation.parked_from
        changes |= {"parked": None, "parked_why": "", "parked_todo": "", "parked_from": None}
        # A bot that was asked before to try the new key is asked anew: what was wrong may be mended.
        changes["probe_by"] = None
    return replace(
        rotation, state=target or rotation.state, seq=rotation.seq + 1, updated_at=event.at, **changes
    )


def event(kind: EventType, at: datetime, actor: str, /, note: str = "", **data: Any) -> Event:
    """Build an event; `data` names fields of `Rotation`."""
    return Event(kind, at, actor, {**data, **({"note": note} if note else {})})


def clock_set_back(rotation: Rotation, at: datetime, actor: str) -> Event:
    """Build the event that judges a rotation by the clock as it is, when its last step lies in the future.

    Nothing has happened after now, and no deadline is later than if its time began now.
    """
    confirming, grace = timedelta(seconds=rotation.confirm_seconds), timedelta(seconds=rotation.grace_seconds)
    latest = dict.fromkeys(_PAST, at) | {"wake_at": at, "grace_until": at + grace}
    latest["confirmed_at"] -= CLOCK_MARGIN  # no longer a moment ago: the key is looked at once more
    latest |= {"probe_by": at + confirming, "confirm_by": at + confirming}
    told = {name: getattr(rotation, name) for name in latest}
    changed = {name: min(when, latest[name]) for name, when in told.items() if when is not None}
    if rotation.state in {_S.GRACE, _S.ABORTING}:  # a roll-back has its grace before it ends the new key
        changed["wake_at"] = changed.get("grace_until")
    # Counted as a failure: a key that was verified a moment ago by that clock is looked at once more.
    note = f"the last step was written at {rotation.updated_at:%Y-%m-%d %H:%M} UTC by a clock that was ahead"
    # What was in the way then may have been the clock.
    return event(_E.CLOCK_SET_BACK, at, actor, note, failures=rotation.failures + 1, problem="", **changed)


def opened(rotation: Rotation, actor: str) -> Event:
    """Build the event that begins a rotation; it carries the whole record, so that events replay."""
    return Event(
        EventType.OPENED, rotation.created_at, actor, {k: v for k, v in _fields(rotation) if v is not None}
    )


def _fields(rotation: Rotation) -> list[tuple[str, Any]]:
    return [(f.name, getattr(rotation, f.name)) for f in fields(rotation)]
