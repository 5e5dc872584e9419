"""The venue's list of keys, and which of them live against what the journal says.

"Never made" and "revoked" are what was known at that time: a worker that slept may still make the key. So
whoever lists keys takes up again each one that bears a label of ours and that the journal does not expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import Attempt, parse_label
from keyturn.domain.rotation import EventType, Fate, KeyRecord
from keyturn.engine.work import SupersededError, Work
from keyturn.ports.exchange import Caller

_GONE = frozenset({Fate.NEVER_MADE, Fate.REVOKED})
# A list may show a key that was just revoked for as long as the venue says that changes take; a minute more
# covers one that is served from a cache.
_STALE_SECONDS = 60.0


async def look(work: Work, manager: Caller) -> list[KeyFacts]:
    """List all keys of the (sub-)account that the rotation began in, whatever the inventory says by now.

    Raises:
        ExchangeError: they cannot be listed.
        SupersededError: another worker is at the rotation.
    """
    return await look_in(work, manager, work.rotation.subaccount)


async def look_in(work: Work, manager: Caller, subaccount: str | None) -> list[KeyFacts]:
    """List all keys of another sub-account of the rotation's account.

    Raises:
        ExchangeError: they cannot be listed.
        SupersededError: another worker is at the rotation.
    """
    listed = list(await work.driver.list_keys(manager, subaccount))
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
