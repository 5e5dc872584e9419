"""VERIFIED to GRACE: the pivot, the notices, and the consumers' proofs that they moved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from keyturn.domain.errors import ConsumerError, ConsumerFault, StoreError, StoreFault
from keyturn.domain.evidence import STRENGTH, Confirmation, Evidence, NoticeKind
from keyturn.domain.rotation import EventType, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine import liveness, mirrors, old_keys, refusals
from keyturn.engine.aftermath import THEIRS_WAS_KEPT
from keyturn.engine.commands import with_reason
from keyturn.engine.notices import notices
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, Work

# A key that was verified longer ago than this is tried once more before the pivot: a worker may have died
# in between, and current must name a live key at the moment of the promotion (invariant 1).
_FRESH_SECONDS = 60.0
# Confirmations are looked for at once, then ever more slowly, at a quarter of the time waited so far.
_POLL_FLOOR_SECONDS, _POLL_CAP_SECONDS = 0.25, 60.0


async def promote(work: Work) -> Rest | None:
    """VERIFIED: make the attempt's key current in one write of the store."""
    r = work.rotation
    # A failure and a `resume` renew `updated_at`, not the key.
    if r.failures or r.problem or work.now() > r.updated_at + timedelta(seconds=_FRESH_SECONDS):
        current = await work.peek(Slot.CURRENT)
        # A worker may have died between its promotion and the entry in the journal: then pending is empty.
        promoted = current is not None and current.attempt == r.current_attempt
        if not promoted and not await _still_works(work):
            await work.abort("The new key worked when it was verified and is refused now.")
            return None
    try:
        # Of what is promoted already the answer is the same.
        done = await work.store.promote(work.path, r.current_attempt, expect_current=r.old_version)
    except StoreError as error:
        if error.fault not in {StoreFault.CONFLICT, StoreFault.OUTCOME_UNKNOWN}:
            raise
        current = await work.peek(Slot.CURRENT)
        if current and current.attempt == r.current_attempt:
            await _promoted(work, current.version, r.old_version)
            return None
        if error.fault is StoreFault.OUTCOME_UNKNOWN:
            raise
        if (current.version if current else None) != r.old_version:
            why = THEIRS_WAS_KEPT
        else:
            why = "The store refused the promotion: its slots were moved by somebody else."
        await work.abort(why)
        return None
    await _promoted(work, done.current, done.previous)
    return None


async def _promoted(work: Work, current: str, previous: str | None) -> None:
    await work.commit(
        work.event(EventType.PROMOTED, promoted_at=work.now(), new_version=current, old_version=previous)
    )


async def _still_works(work: Work) -> bool:
    pending = await work.store.read(work.path, Slot.PENDING)
    if pending is None:
        return False
    return (await liveness.ask(work, pending)).serves


async def notify(work: Work, kind: NoticeKind = NoticeKind.PROMOTED) -> Rest | None:
    """PROMOTED (and ROLLING_BACK): tell every consumer which key is current now."""
    r = work.rotation
    since = (r.restored_at if kind is NoticeKind.ROLLED_BACK else r.promoted_at) or work.now()
    confirm_by = since + timedelta(seconds=r.confirm_seconds)
    consumers = work.consumers()
    told = notices(work, kind, confirm_by)
    # Consumers of a mirror or a copy should find the key there when they are told; one that is down holds
    # up nobody else, and is waited for together with the confirmations.
    await mirrors.follow(work)
    results = await asyncio.gather(
        *(consumers[name].notify(notice) for name, notice in told.items()), return_exceptions=True
    )
    failed: dict[str, ConsumerError] = {}
    for name, result in zip(told, results, strict=True):
        if isinstance(result, ConsumerError):
            failed[name] = result
        elif isinstance(result, BaseException):
            raise result
    if not failed:
        await work.commit(work.event(EventType.NOTICES_SENT, noticed_at=work.now(), confirm_by=confirm_by))
        return None
    text = "; ".join(f"{name}: {error.what}" for name, error in failed.items())
    refused = any(e.fault in {ConsumerFault.REFUSED, ConsumerFault.MISCONFIGURED} for e in failed.values())
    if refused or work.now() >= confirm_by:
        return await work.park(
            Park.CONSUMER,
            f"Consumers could not be told that the key changed: {text}",
            f"Both keys live. Mend them, then: keyturn resume {r.credential}. {_way_out(work, kind)}",
        )
    return await work.defer(backoff(r), text)


async def confirm(work: Work, kind: NoticeKind = NoticeKind.PROMOTED) -> Rest | None:
    """CUTTING_OVER (and ROLLING_BACK): collect proofs; all of them, or the rotation parks."""
    r = work.rotation
    confirm_by = r.confirm_by or work.now()
    new, waiting, behind = await collect(work, kind, confirm_by)
    events = [
        work.event(EventType.CONSUMER_CONFIRMED, f"{c.consumer}: {c.evidence}; {c.detail}".rstrip("; "))
        for c in new
    ]
    if not waiting and not behind:
        until = work.after(await _grace_seconds(work, kind))
        done = work.event(
            EventType.CUTOVER_CONFIRMED, confirmed_at=work.now(), grace_until=until, wake_at=until
        )
        await work.commit(*events, done, confirmations=tuple(new))
        return None
    # Who waits for nothing but a right or an address is told so now, and not when the time is up.
    refused = await refusals.reported(work) if kind is NoticeKind.PROMOTED else ()
    if refused:
        if events:
            await work.commit(*events, confirmations=tuple(new))
        return await refusals.park(work, refused)
    if work.now() >= confirm_by:
        if events:
            await work.commit(*events, confirmations=tuple(new))
        return await _give_up_waiting(work, kind, waiting, behind)
    waited = (work.now() - (r.noticed_at or work.now())).total_seconds()
    pause = min(_POLL_CAP_SECONDS, max(_POLL_FLOOR_SECONDS, waited / 4))
    until = min(confirm_by, work.after(pause))
    problem = f"Not everywhere yet: {mirrors.told(behind)}." if behind else ""
    if problem != r.problem:
        events.append(work.event(EventType.DEFERRED, wake_at=until, problem=problem))
    if events:
        await work.commit(*events, confirmations=tuple(new))
    return Rest(until, "confirmation by " + ", ".join([*waiting, *behind]))


async def _give_up_waiting(
    work: Work, kind: NoticeKind, waiting: list[str], behind: Mapping[str, str]
) -> Rest:
    """Park for want of proofs; looks again by itself."""
    names = ", ".join([*waiting, *([mirrors.told(behind)] if behind else [])])
    known = await _known_of(work, waiting)
    todo = [f"See that {', '.join(waiting)} runs and loads the current key."] if waiting else []
    todo += [f"See why {', '.join(behind)} does not follow."] if behind else []
    return await work.park(
        Park.UNCONFIRMED,
        f"Not confirmed by {names}; both keys live and nothing is revoked.{known}",
        f"{' '.join(todo)} The rotation then goes on by itself. {_way_out(work, kind)}",
        wake_at=work.after(_POLL_CAP_SECONDS),
    )


async def _known_of(work: Work, waiting: list[str]) -> str:
    """Say what is known to be wrong with consumers that do not confirm; empty if nothing is."""
    consumers, found = work.consumers(), list[str]()
    for name in waiting:
        try:
            found += [f"{each.detail}." for each in await consumers[name].check() if not each.ok]
        except ConsumerError as error:
            found.append(error.what)
    return "".join(f" {text[:1].upper()}{text[1:]}" for text in found)


def _way_out(work: Work, kind: NoticeKind) -> str:
    """Say what leads on when a consumer will never move."""
    name = work.rotation.credential
    if kind is NoticeKind.PROMOTED and work.rotation.old_version is not None:
        return f"Or go back: {with_reason('rollback', name)}"
    return f"Of one that is gone for good: take it from the entry of {name} in the inventory."


async def _grace_seconds(work: Work, kind: NoticeKind) -> float:
    """Give how long both keys live on; after a roll-back only for those who prove nothing but by time.

    Where no key lived before, nobody uses one: there is nothing to wait for.
    """
    if kind is NoticeKind.PROMOTED:
        first = work.rotation.old_ref is None and not await old_keys.unnamed(work, None)
        return 0.0 if first else work.rotation.grace_seconds
    owed = {work.world.inventory.consumers[name].evidence for name in work.entry.consumers}
    return work.rotation.grace_seconds if Evidence.TIMED in owed else 0.0


async def collect(
    work: Work, kind: NoticeKind, confirm_by: datetime
) -> tuple[list[Confirmation], list[str], dict[str, str]]:
    """Ask who owes a proof, and bring up mirrors and copies.

    Returns:
        The new proofs, the consumers still missing, and what is behind in the stores with the reason.
    """
    r = work.rotation
    told = notices(work, kind, confirm_by)
    owed = {name: work.world.inventory.consumers[name].evidence for name in told}
    proved_before = await work.world.journal.confirmations(r.id) if told else ()
    known = {
        c.consumer
        for c in proved_before
        if told.get(c.consumer)
        and c.fingerprint == told[c.consumer].fingerprint
        and _enough(c, owed[c.consumer])
    }
    waiting = [name for name in told if name not in known and owed[name] is not Evidence.TIMED]
    consumers = work.consumers()
    new: list[Confirmation] = []
    for name in waiting:
        try:
            proofs = await consumers[name].confirmations(told[name])
        except ConsumerError:
            continue  # it stays missing, and is named when the time is up
        good = [p for p in proofs if p.fingerprint == told[name].fingerprint and _enough(p, owed[name])]
        new.extend(good[:1])
    proved = known | {c.consumer for c in new}
    return new, [name for name in waiting if name not in proved], await mirrors.follow(work)


def _enough(proof: Confirmation, owed: Evidence) -> bool:
    return STRENGTH[proof.evidence] >= STRENGTH[owed]


async def reconsider(work: Work) -> Rest | None:
    """PARKED for want of confirmations: go on when they have come after all."""
    r = work.rotation
    if r.parked is not Park.UNCONFIRMED:
        return Rest(None, r.parked_why)
    kind = NoticeKind.ROLLED_BACK if r.parked_from is State.ROLLING_BACK else NoticeKind.PROMOTED
    _, waiting, behind = await collect(work, kind, r.confirm_by or work.now())
    if waiting or behind:
        return Rest(work.after(_POLL_CAP_SECONDS), r.parked_why)
    await work.commit(work.event(EventType.RESUMED, "the missing confirmations came"))
    return None
