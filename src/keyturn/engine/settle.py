"""Orphans: keys that the journal intended and that no rotation looks after any more.

A worker died between "created" and "stored", a list was stale, a revoke got no answer. Each such key
is named in the journal, and `licence` tells whether it may be revoked. A key that the journal does not name
is reported elsewhere and never touched.

"Never made" and "revoked" are what was known at that time: a worker that slept may still make the key. So
whoever lists keys takes up again each one that bears a label of ours and lives against the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import Attempt, parse_label
from keyturn.domain.rotation import EventType, Fate, KeyRecord
from keyturn.domain.slots import Slot
from keyturn.engine import licence
from keyturn.engine.witness import is_witnessed
from keyturn.engine.work import SupersededError, Work
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller

_GONE = frozenset({Fate.NEVER_MADE, Fate.REVOKED})
# A list may show a key that was just revoked for as long as the venue says that changes take; a minute more
# covers one that is served from a cache.
_STALE_SECONDS = 60.0


async def settle(world: World, credential: str) -> list[KeyRecord]:
    """Look after the unsettled keys of a credential; give those that were settled now.

    Raises:
        KeyturnError: a port failed; what was settled before stays settled, the rest is for next time.
        SupersededError: another worker is at it.
    """
    records = [k for k in await world.journal.unsettled() if k.credential == credential]
    opened = await world.journal.open_rotation(credential)
    settled: list[KeyRecord] = []
    listed: dict[tuple[str, str | None], list[KeyFacts]] = {}
    for record in records:
        if opened and _looked_after(record, opened.id, opened.attempt, opened.old_ref):
            continue
        rotation = await world.journal.get(record.rotation_id) if record.rotation_id else None
        if rotation is None or (rotation.is_open and rotation.is_ahead(world.clock.now())):
            continue  # of the latter, its next step sets the times right
        work = Work(world, rotation)
        place = (rotation.account, rotation.subaccount)
        if place not in listed:
            listed[place] = await look(work, await work.manager())
        found = find(record, listed[place])
        if found is None:
            current = await work.peek(Slot.CURRENT)
            if not await is_witnessed(work, listed[place], current, anywhere=True):
                continue  # the list of another account says nothing of this key
        done = await _settle_one(work, record, found)
        settled.extend([done] if done else [])
    return settled


def _looked_after(record: KeyRecord, rotation_id: str, attempt: int, old_ref: str | None) -> bool:
    """Whether the open rotation still has this key in its hands."""
    if record.key_ref is not None and record.key_ref == old_ref:
        return True
    return record.rotation_id == rotation_id and record.key_id == f"{rotation_id}-{attempt}"


async def look(work: Work, manager: Caller) -> list[KeyFacts]:
    """List the keys of the rotation's place, and write which of them live against what the journal says.

    Raises:
        ExchangeError: they cannot be listed.
        SupersededError: another worker is at the rotation.
    """
    listed = await work.list_keys(manager)
    for facts in listed:
        attempt = parse_label(facts.label or "")
        if attempt is not None:
            await _take_up(work, attempt, facts)
    return listed


async def _take_up(work: Work, attempt: Attempt, facts: KeyFacts) -> None:
    r, journal = work.rotation, work.world.journal
    known = await journal.key(r.exchange, r.account, facts.key_ref)
    if known is not None and known.fate not in _GONE:
        return
    rotation = r if attempt.rotation_id == r.id else await journal.get(attempt.rotation_id)
    if rotation is None or (rotation.exchange, rotation.account) != (r.exchange, r.account):
        return  # a label of another installation, and never touched
    made = [k for k in await journal.keys(rotation.credential) if k.attempt == attempt]
    alive = await _alive(work, made, facts)
    if alive is None:
        return
    hand = work if rotation is r else Work(work.world, rotation)
    try:
        await hand.commit(hand.event(EventType.KEY_MAY_LIVE, f"{alive.key_id}: it is listed"), keys=(alive,))
    except SupersededError:
        if hand is work:
            raise  # of another rotation the next list tells again


async def _alive(work: Work, made: Sequence[KeyRecord], facts: KeyFacts) -> KeyRecord | None:
    """Give the record that a listed key of an attempt should have; None when the journal expects it.

    Args:
        work: at hand.
        made: what the journal knows of the attempt.
        facts: of the listed key.
    """
    same = next((k for k in made if k.key_ref == facts.key_ref), None)
    nameless = next((k for k in made if k.key_ref is None), None)
    record = same or nameless
    now = work.now()
    if record is None and not made:
        return None  # the journal knows of no such attempt: the label alone makes no key ours
    if record is not None:
        margin = timedelta(seconds=work.driver.manifest.propagation_seconds + _STALE_SECONDS)
        if record.fate not in _GONE or (record.fate is Fate.REVOKED and now < record.recorded_at + margin):
            return None
        fate = Fate.INTENDED if record.fate is Fate.NEVER_MADE else Fate.LIVE
        return replace(record, fate=fate, key_ref=facts.key_ref, handle=facts.handle, recorded_at=now)
    mark = await work.fingerprint(facts.key_ref)
    return replace(
        made[0],
        key_id=f"{made[0].attempt}+{mark}",
        fate=Fate.LIVE,
        key_ref=facts.key_ref,
        handle=facts.handle,
        fingerprint=mark,
        recorded_at=now,
        settle_at=None,
    )


def find(record: KeyRecord, listed: list[KeyFacts]) -> KeyFacts | None:
    """Find a minted key of the journal in the venue's list, by its ref or by its label.

    Raises:
        JournalError: `TAMPERED`, the venue labels the key of that ref as another one. The label is the
            second witness: a row of the journal alone must not have somebody else's key revoked.
    """
    found = None
    for facts in listed:
        label = parse_label(facts.label or "")
        named = label is not None and label == record.attempt
        if facts.key_ref == record.key_ref and facts.label is not None and not named:
            raise JournalError(
                JournalFault.TAMPERED,
                f"The journal takes a key for attempt {record.key_id}; at the exchange it has another label.",
                now="That key was not touched.",
                todo="Run `keyturn verify-journal`. If the journal is whole, somebody has renamed the key:"
                " delete it at the exchange.",
            )
        if facts.key_ref == record.key_ref or (named and record.key_ref is None):
            found = found or facts
    return found


async def _settle_one(work: Work, record: KeyRecord, facts: KeyFacts | None) -> KeyRecord | None:
    now = work.now()
    key_ref = record.key_ref or (facts.key_ref if facts else None)
    if key_ref is None and record.settle_at and now < record.settle_at:
        return None  # the venue's list may still be stale
    if key_ref is None:
        await licence.fence(work, record)
        gone = replace(record, fate=Fate.NEVER_MADE, recorded_at=now)
        await work.commit(work.event(EventType.ORPHAN_SETTLED, f"{record.key_id}: {gone.fate}"), keys=(gone,))
        return gone
    handle = record.handle or (facts.handle if facts else None)
    # Listed or not: a list may be stale, and revoking what is gone is harmless.
    doomed = replace(record, key_ref=key_ref, handle=handle)
    return await licence.revoke_attempt(work, await work.manager(), doomed)
