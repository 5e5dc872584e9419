"""Rotations, keys and steps as the journal's contract needs them. Times run from `START`, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from keyturn.domain import machine
from keyturn.domain.evidence import Confirmation, Evidence
from keyturn.domain.labels import new_rotation_id
from keyturn.domain.rotation import (
    Event,
    EventType,
    Fate,
    KeyRecord,
    Mode,
    Origin,
    Park,
    Rotation,
    State,
)
from keyturn.ports.journal import Change, Journal

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

_TO_COMPLETION: tuple[tuple[EventType, dict[str, Any]], ...] = (
    (EventType.ATTEMPT_CLAIMED, {"attempt": 1}),
    (EventType.STAGED, {"new_ref": "ref-1", "new_fingerprint": "fp1", "new_version": "1"}),
    (EventType.VERIFIED, {"account_uid": "10001"}),
    (EventType.PROMOTED, {"promoted_at": START}),
    (EventType.NOTICES_SENT, {"noticed_at": START, "confirm_by": START + timedelta(hours=1)}),
    (EventType.CUTOVER_CONFIRMED, {"confirmed_at": START, "grace_until": START}),
    (EventType.COMPLETED, {}),
)


def minutes(count: float) -> datetime:
    """Give the time so many minutes after the start."""
    return START + timedelta(minutes=count)


def a_rotation(credential: str = "bybit-main", **values: Any) -> Rotation:
    """Make a rotation that is about to be opened."""
    plain = Rotation(
        id=new_rotation_id(),
        credential=credential,
        exchange="bybit",
        account="main",
        state=State.PLANNED,
        seq=1,
        mode=Mode.MANUAL,
        reason="a test",
        actor="pytest",
        created_at=START,
        updated_at=START,
        grace_seconds=86400.5,
        confirm_seconds=3600.0,
    )
    return replace(plain, **values)


def a_full_rotation() -> Rotation:
    """Make a rotation in which no field has its default: what is lost in writing shows."""
    plain = a_rotation()
    values: dict[str, Any] = {}
    for position, field in enumerate(fields(Rotation)):
        if "datetime" in str(field.type):
            values[field.name] = minutes(position) + timedelta(microseconds=position)
        elif "str" in str(field.type) and getattr(plain, field.name) in {None, ""}:
            values[field.name] = f'{field.name} ü ✓ "quoted" \\ \u2028'
    values |= {"state": State.PARKED, "parked_from": State.GRACE, "parked": Park.UNCONFIRMED}
    return a_rotation(**values, mode=Mode.INCIDENT, attempt=7, failures=3)


def a_key(rotation: Rotation, fate: Fate, number: int = 1, **values: Any) -> KeyRecord:
    """Make the record of the key that an attempt of a rotation minted."""
    plain = KeyRecord(
        key_id=f"{rotation.id}-{number}",
        credential=rotation.credential,
        exchange=rotation.exchange,
        account=rotation.account,
        subaccount=None,
        origin=Origin.MINTED,
        fate=fate,
        recorded_at=minutes(number),
        rotation_id=rotation.id,
    )
    return replace(plain, **values)


def an_adopted_key(credential: str = "bybit-main", **values: Any) -> KeyRecord:
    """Make the record of a key that a person brought."""
    plain = KeyRecord(
        key_id=f"adopted-{credential}",
        credential=credential,
        exchange="bybit",
        account="main",
        subaccount="sub",
        origin=Origin.ADOPTED,
        fate=Fate.LIVE,
        recorded_at=START,
        key_ref=f"ref-of-{credential}",
        handle="77",
        fingerprint="fp0",
    )
    return replace(plain, **values)


def a_confirmation(rotation: Rotation, consumer: str = "bot-1") -> Confirmation:
    """Make a consumer's proof."""
    return Confirmation(consumer, rotation.id, "fp1", Evidence.ACK, minutes(3), "balance read")


async def opened(journal: Journal, credential: str = "bybit-main", **values: Any) -> Rotation:
    """Open a rotation."""
    rotation = a_rotation(credential, **values)
    await journal.open(rotation, machine.opened(rotation, rotation.actor))
    return rotation


def a_step(
    rotation: Rotation,
    kind: EventType,
    *,
    keys: Sequence[KeyRecord] = (),
    confirmations: Sequence[Confirmation] = (),
    **data: Any,
) -> Change:
    """Make the change that one event brings."""
    event = Event(kind, minutes(rotation.seq), "pytest", data)
    after = machine.apply(rotation, event)
    return Change(rotation.seq, (event,), after, tuple(keys), tuple(confirmations))


async def step(journal: Journal, rotation: Rotation, kind: EventType, **parts: Any) -> Rotation:
    """Commit one event, and give the rotation after it."""
    change = a_step(rotation, kind, **parts)
    await journal.commit(change)
    return change.after


async def claimed(journal: Journal, rotation: Rotation, attempt: int = 1) -> Rotation:
    """Commit the claim of an attempt, with the intent to mint its key."""
    intent = a_key(rotation, Fate.INTENDED, attempt)
    return await step(journal, rotation, EventType.ATTEMPT_CLAIMED, keys=[intent], attempt=attempt)


async def completed(journal: Journal, rotation: Rotation) -> Rotation:
    """Take a fresh rotation to its end."""
    for kind, data in _TO_COMPLETION:
        rotation = await step(journal, rotation, kind, **data)
    return rotation


async def aborted(journal: Journal, rotation: Rotation) -> Rotation:
    """Give a rotation up."""
    rotation = await step(journal, rotation, EventType.ABORT_REQUESTED, abort_reason="a test")
    return await step(journal, rotation, EventType.ABORTED)
