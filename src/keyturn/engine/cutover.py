"""VERIFIED to GRACE: the pivot, the notices, and the consumers' proofs that they moved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from keyturn.domain.errors import ConsumerError, ConsumerFault, StoreError, StoreFault
from keyturn.domain.evidence import Confirmation, Evidence, Notice, NoticeKind
from keyturn.domain.rotation import EventType, Park, State
from keyturn.domain.slots import Slot
from keyturn.engine import liveness, mirrors, old_keys, proofs, refusals
from keyturn.engine.aftermath import THEIRS_WAS_KEPT
from keyturn.engine.commands import by_person, with_reason
from keyturn.engine.notices import notices
from keyturn.engine.proofs import Missing
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
    told = await refusals.told(work) if kind is NoticeKind.PROMOTED else refusals.Told()
    if told.calls:
        if events:
            await work.commit(*events, confirmations=tuple(new))
        return await refusals.park(work, told.calls)
    if told.doubt:
        events.append(proofs.doubted(work, told.doubt))
    if work.now() >= confirm_by:
        if events:
            await work.commit(*events, confirmations=tuple(new))
        return await _give_up_waiting(work, kind, waiting, behind)
    waited = (work.now() - (r.noticed_at or work.now())).total_seconds()
    pause = min(_POLL_CAP_SECONDS, max(_POLL_FLOOR_SECONDS, waited / 4))
    until = min(confirm_by, work.after(pause))
    problem = f"Not everywhere yet: {mirrors.told(behind)}." if behind else ""
    problem = f"{problem} {proofs.discounted(waiting)}".strip()
    if problem != r.problem:
        events.append(work.event(EventType.DEFERRED, wake_at=until, problem=problem))
    if events:
        await work.commit(*events, confirmations=tuple(new))
    return Rest(until, "confirmation by " + ", ".join([*waiting, *behind]))


async def _give_up_waiting(
    work: Work, kind: NoticeKind, waiting: Mapping[str, Missing], behind: Mapping[str, str]
) -> Rest:
    """Park for want of proofs; looks again by itself."""
    names = ", ".join([*waiting, *([mirrors.told(behind)] if behind else [])])
    known = proofs.reasons(waiting) + await _known_of(work, waiting)
    todo = [f"See that {', '.join(waiting)} runs and loads the current key.{proofs.todos(waiting)}"]
    todo = todo if waiting else []
    todo += [f"See why {', '.join(behind)} does not follow."] if behind else []
    by_hand = " or ".join(by_person(work.rotation.credential, name) for name in waiting)
    seen = f" If you have seen that it runs on it: {by_hand}" if waiting else ""
    return await work.park(
        Park.UNCONFIRMED,
        f"Not confirmed by {names}; both keys live and nothing is revoked.{known}",
        f"{' '.join(todo)} The rotation then goes on by itself.{seen} {_way_out(work, kind)}",
        wake_at=work.after(_POLL_CAP_SECONDS),
    )


async def _known_of(work: Work, waiting: Iterable[str]) -> str:
    """Say what is known to be wrong with consumers that do not confirm; empty if nothing is."""
    consumers, found = work.consumers(), list[str]()
    for name in waiting:
        # One that cannot be asked was told of already.
        with suppress(ConsumerError):
            found += [f"{each.detail}." for each in await consumers[name].check() if not each.ok]
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
) -> tuple[list[Confirmation], dict[str, Missing], dict[str, str]]:
    """Ask who owes a proof, and bring up mirrors and copies.

    Returns:
        The new proofs, the consumers still missing and why, and what is behind in the stores and why.
    """
    consumers = work.consumers()
    new: list[Confirmation] = []
    missing: dict[str, Missing] = {}
    for name, notice in (await _owing(work, kind, confirm_by)).items():
        answer = await proofs.ask(consumers[name], notice, _owed(work, name))
        if isinstance(answer, Missing):
            missing[name] = answer
        else:
            new.append(answer)
    return new, missing, await mirrors.follow(work)


async def unproved(work: Work, kind: NoticeKind) -> dict[str, str]:
    """Give the consumers whose proof the journal does not have, and the fingerprint that they owe it for."""
    owing = await _owing(work, kind, work.rotation.confirm_by or work.now())
    return {name: notice.fingerprint for name, notice in owing.items()}


async def _owing(work: Work, kind: NoticeKind, confirm_by: datetime) -> dict[str, Notice]:
    """Give the notices of those who owe a proof that the journal does not have."""
    told = notices(work, kind, confirm_by)
    before = await work.world.journal.confirmations(work.rotation.id) if told else ()
    proved = {
        proof.consumer
        for proof in before
        if proof.consumer in told
        and proof.fingerprint == told[proof.consumer].fingerprint
        and proofs.enough(proof, _owed(work, proof.consumer))
    }
    return {
        name: notice
        for name, notice in told.items()
        if name not in proved and _owed(work, name) is not Evidence.TIMED
    }


def _owed(work: Work, consumer: str) -> Evidence:
    return work.world.inventory.consumers[consumer].evidence


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
