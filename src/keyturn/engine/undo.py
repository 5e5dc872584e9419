"""ABORTING and ROLLING_BACK: the way back, before and after the pivot."""

from __future__ import annotations

from dataclasses import replace

from keyturn.domain.errors import JournalError, JournalFault, KeyturnError
from keyturn.domain.evidence import NoticeKind
from keyturn.domain.rotation import EventType, Fate, Park
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import cutover, licence, listing, liveness, mirrors, settle
from keyturn.engine.liveness import Life
from keyturn.engine.trouble import backoff
from keyturn.engine.witness import refuse_other_account
from keyturn.engine.work import Rest, Work


async def abort(work: Work) -> Rest | None:
    """ABORTING: discard pending first, which fences off a late promotion; then revoke what was minted."""
    r = work.rotation
    pending = await work.peek(Slot.PENDING)
    if pending and pending.attempt and pending.attempt.rotation_id == r.id:
        await work.store.discard(work.path, Slot.PENDING, version=pending.version)
    current = await work.peek(Slot.CURRENT)
    if current and current.attempt and current.attempt.rotation_id == r.id:
        # The abort lost the race against the promotion: from here the only way back is a roll-back.
        if r.old_ref is None:
            note = "the abort came too late, and there is no key to go back to"
            stands = work.event(
                EventType.PROMOTED, note, promoted_at=work.now(), new_version=current.version, abort_reason=""
            )
            await work.commit(stands)
            return None
        await work.commit(
            work.event(EventType.ROLLBACK_REQUESTED, promoted_at=work.now(), abort_reason=r.abort_reason)
        )
        return None
    try:
        rest = await _revoke_minted(work, current)
    except JournalError as error:
        if error.fault is not JournalFault.TAMPERED:
            raise
        return await work.park(Park.NOT_OURS, error.what, error.todo)
    if rest:
        return rest
    previous = await work.peek(Slot.PREVIOUS)
    if previous and previous.attempt and previous.attempt.rotation_id == r.id:
        await work.store.discard(work.path, Slot.PREVIOUS, version=previous.version)
    if r.restored_at is not None:
        await mirrors.forget_previous(work, r.new_ref)
    await work.commit(work.event(EventType.ABORTED))
    return None


async def _revoke_minted(work: Work, current: SlotInfo | None) -> Rest | None:
    """Revoke every key that this rotation made, each with a licence of its own."""
    r = work.rotation
    if r.attempt == 0:
        return None
    manager = await work.manager()
    listed = await listing.look(work, manager)
    if rest := await refuse_other_account(work, listed, current):
        return rest
    for record in [k for k in await work.world.journal.keys(r.credential) if k.rotation_id == r.id]:
        facts = settle.find(record, listed)
        key_ref = record.key_ref or (facts.key_ref if facts else None)
        if key_ref is None or record.fate is Fate.REVOKED:
            # Intended and not listed stays open: `settle` looks again, for a list may be stale.
            continue
        # A key that is known by its ref is revoked whether it is listed or not, for the same reason.
        handle = record.handle or (facts.handle if facts else None)
        # A worker that comes after a kill finds no key there, and must know that this account had it.
        known = await liveness.seen(work, record, manager) if facts else record
        doomed = replace(known, key_ref=key_ref, handle=handle)
        if await licence.revoke_attempt(work, manager, doomed) is None:
            # Somebody may have pointed a mirror at it.
            await mirrors.follow(work)
            text = "A store still shows the new key; while it does, the key is not revoked."
            return await work.defer(backoff(work.rotation), text)
    return None


async def roll_back(work: Work) -> Rest | None:
    """ROLLING_BACK: previous becomes current again, consumers are told and confirm; then abort the rest."""
    r = work.rotation
    if r.restored_at is None:
        return await _restore(work)
    if r.noticed_at is None:
        return await cutover.notify(work, NoticeKind.ROLLED_BACK)
    return await cutover.confirm(work, NoticeKind.ROLLED_BACK)


async def _restore(work: Work) -> Rest | None:
    r = work.rotation
    current = await work.peek(Slot.CURRENT)
    if current and _is_old(work, current):
        await _restored(work, current.version, r.new_version)
        return None
    if current is None:
        return await work.park(
            Park.STORE,
            f"No key is current at {work.path}, so the old one cannot take its place.",
            f"See who emptied it. Then: keyturn resume {r.credential}",
        )
    if why := await _nothing_to_restore(work):
        # Nothing was undone yet: the rotation can still go forward.
        return await work.park(
            Park.NO_WAY_BACK,
            f"{why} Nothing was rolled back; the new key is current.",
            f"Go forward instead: keyturn resume {r.credential}",
        )
    done = await work.store.restore_previous(work.path, expect_current=current.version)
    await _restored(work, done.current, done.previous)
    return None


async def foresee(work: Work) -> str:
    """Say what is sure to stop a roll-back, before it is recorded; empty when nothing is, or none can tell.

    The look can be overtaken: `_restore` looks again.
    """
    try:
        current = await work.peek(Slot.CURRENT)
        if current and _is_old(work, current):
            return ""
        return await _nothing_to_restore(work)
    except KeyturnError:
        return ""


def _is_old(work: Work, info: SlotInfo) -> bool:
    return info.meta is not None and info.meta.key_ref == work.rotation.old_ref


async def _nothing_to_restore(work: Work) -> str:
    """Say why the old key cannot be made current again; empty when it can.

    Raises:
        ExchangeError: the exchange cannot be asked whether it lives.
        StoreError: it cannot be read.
    """
    previous = await work.store.read(work.path, Slot.PREVIOUS)
    if previous is None or not _is_old(work, previous.info):
        return "The old key is no longer in the previous slot, so there is nothing to roll back to."
    answer = await liveness.ask(work, previous)
    if answer.serves or answer.life is Life.LACKS_RIGHT:
        return ""
    if answer.life is Life.UNKNOWN_TO_VENUE:
        said = "The exchange does not know the old key any more"
    else:
        said = "The exchange refuses the old key"
    return f"{said}; rolling back would point consumers at a key that does not work."


async def _restored(work: Work, current: str, previous: str | None) -> None:
    # The notices of the promotion no longer count: consumers must be told to go back.
    restored = work.event(
        EventType.RESTORED,
        restored_at=work.now(),
        old_version=current,
        new_version=previous,
        noticed_at=None,
    )
    await work.commit(restored)
