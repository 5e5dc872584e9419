"""Orphans: keys that the journal intended and that no rotation looks after any more.

A worker died between "created" and "stored", a list was stale, a revoke got no answer. Each such key
is named in the journal, and `licence` tells whether it may be revoked. A key that the journal does not name
is reported elsewhere and never touched. An exchange that does not revoke one is told again ever more rarely,
and for as long as the key may live; `books` names it to a person.
"""

from __future__ import annotations

from dataclasses import replace

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import parse_label
from keyturn.domain.rotation import EventType, Fate, KeyRecord
from keyturn.domain.slots import Slot
from keyturn.engine import licence, listing, liveness, retries
from keyturn.engine.place import lies_here
from keyturn.engine.witness import is_witnessed
from keyturn.engine.work import Work
from keyturn.engine.world import World


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
        if not lies_here(world, record):
            continue  # what another site says of it is no word about it
        if record.fate is Fate.REVOKING and await _too_soon(world, record):
            continue
        rotation = await world.journal.get(record.rotation_id) if record.rotation_id else None
        if rotation is None or (rotation.is_open and rotation.is_ahead(world.clock.now())):
            continue  # of the latter, its next step sets the times right
        work = Work(world, rotation)
        place = (rotation.account, rotation.subaccount)
        if place not in listed:
            listed[place] = await listing.look(work, await work.manager())
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


async def _too_soon(world: World, record: KeyRecord) -> bool:
    return (await retries.tries(world.journal, record)).is_too_soon(world.clock.now())


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
    manager = await work.manager()
    if facts is not None:
        record = await liveness.seen(work, record, manager)
    doomed = replace(record, key_ref=key_ref, handle=handle)
    return await licence.revoke_attempt(work, manager, doomed)
