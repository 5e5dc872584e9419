"""PLANNED and MINTING: make the exchange create a key and get its secret into the pending slot.

An exchange shows a secret once. So the intent is journaled before the call, the pending slot is
claimed before the call, and minting and staging are one step whose frame alone holds the secret
(invariants 4, 5, 9). Whatever goes wrong in between is found again by the label.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta

from keyturn.domain.errors import ExchangeError, ExchangeFault, StoreError, StoreFault
from keyturn.domain.keys import KeyFacts, MintedKey
from keyturn.domain.labels import MAX_ATTEMPTS, Attempt
from keyturn.domain.rotation import EventType, Fate, KeyRecord, Origin, Park
from keyturn.domain.schedule import retry_delay
from keyturn.domain.slots import Claim, KeyMeta, Slot, SlotInfo
from keyturn.engine import licence, listing, liveness, old_keys, place, revoke, settle, unexplained
from keyturn.engine.commands import with_reason
from keyturn.engine.difference import refuse_unseen
from keyturn.engine.trouble import asked
from keyturn.engine.witness import refuse_other_account
from keyturn.engine.work import Rest, SupersededError, Work
from keyturn.ports.exchange import Caller

# How long a worker that wrote the intent may still be at it: three calls at the inventory's time-out
# (create, stage, journal). Only then another worker takes over; taking over earlier is safe, but mints twice.
_TAKEOVER_CALLS = 3
# How often staging is tried while the secret is still in the frame, and the pause between, in seconds:
# about fifteen seconds in all. After that the key is given up rather than held in memory for longer.
_STAGE_PAUSES = (0.2, 0.5, 1.5, 4.0, 8.0)
# After an intent whose key did not show, the venue's list is believed only when this much more time than
# its stated propagation has passed; a minute covers a list served from a cache.
_SETTLE_MARGIN_SECONDS = 60.0
# A secret that a bot would misread (`12e4` as a number) is one in thousands, and the next one fits. When
# none of this many does, the format is wrong and not the luck.
_MOST_UNFIT = 4
# Faults of staging that trying again with the same key does not mend.
_LOST = frozenset({StoreFault.CONFLICT, StoreFault.DENIED, StoreFault.MISCONFIGURED, StoreFault.UNFIT})


async def plan(work: Work) -> Rest | None:
    """PLANNED: look before anything is changed, write the intent, mint."""
    r = work.rotation
    if (work.entry.account, work.entry.subaccount) != (r.account, r.subaccount):
        # A rotation stays in the place that it began in. Nothing was made there yet: begin again.
        await work.abort("The inventory names another account or sub-account since this rotation was opened.")
        return None
    if rest := await place.refuse_moved_keys(work):
        return rest
    current = await work.peek(Slot.CURRENT)
    if current is not None and (rest := await _refuse_unknown(work, current)):
        return rest
    manager = await work.manager()
    if current and current.meta and current.meta.key_ref == manager.material.key_ref:
        return await revoke.park_manager_key(work)
    listed = await listing.look(work, manager)
    if rest := await refuse_other_account(work, listed, current):
        return rest
    beside = await old_keys.unnamed(work, current)
    old = await old_keys.old_key(work, current, beside)
    if rest := await old_keys.refuse_unlisted(work, manager, listed, current, beside, old):
        return rest
    if rest := await refuse_unseen(work, manager, listed, old.old_ref):
        return rest
    limit = work.driver.manifest.max_keys
    if limit is not None and len(listed) >= limit:
        return await work.park(
            Park.KEY_QUOTA,
            f"The account holds {len(listed)} of the {limit} keys that the venue allows."
            " No key was deleted to make room.",
            "Delete a key that nobody needs at the exchange. Then: "
            f"keyturn resume {work.rotation.credential}",
        )
    await work.driver.await_turn()
    note = f"keys listed: {len(listed)}; living keys that no slot names: {len(beside)}"
    shown = await liveness.sighted(work, manager, listed, old.old_ref)
    await _claim_attempt(work, 1, note, *shown, **asdict(old))
    return await _mint_and_stage(work, manager, [])


async def _refuse_unknown(work: Work, current: SlotInfo) -> Rest | None:
    """Park when current is not a key that the journal knows: it could never be revoked (invariant 2)."""
    r = work.rotation
    known = current.meta and await work.world.journal.key(r.exchange, r.account, current.meta.key_ref)
    if known and known.credential == r.credential:
        return None
    return await work.park(
        Park.NOT_OURS,
        f"The journal does not know the key at {work.path}; rotating it would leave it alive for ever.",
        f"If it is this credential's key: keyturn adopt {r.credential}, then keyturn resume {r.credential}",
    )


async def _claim_attempt(work: Work, number: int, note: str, *shown: KeyRecord, **old: str | None) -> None:
    """Journal the intent to mint attempt `number`: what it may create is ours from here.

    Written when the venue's rate lets the create leave at once: a worker that waits for its turn has claimed
    nothing, and nobody takes it for a dead one.
    """
    intended = key_record(work, number, Fate.INTENDED)
    there = place.here(work.world, work.rotation.account)
    claimed = work.event(EventType.ATTEMPT_CLAIMED, note, attempt=number, place=there, **old)
    await work.commit(claimed, keys=(*shown, intended))


def key_record(work: Work, number: int, fate: Fate, meta: KeyMeta | None = None) -> KeyRecord:
    """Build the journal's record of the key of an attempt, as it is known now."""
    r = work.rotation
    return KeyRecord(
        key_id=str(Attempt(r.id, number)),
        credential=r.credential,
        exchange=r.exchange,
        account=r.account,
        subaccount=work.rotation.subaccount,
        origin=Origin.MINTED,
        fate=fate,
        recorded_at=work.now(),
        rotation_id=r.id,
        key_ref=meta.key_ref if meta else None,
        handle=meta.handle if meta else None,
        fingerprint=meta.fingerprint if meta else None,
        settle_at=work.after(settle_seconds(work)) if fate is Fate.INTENDED else None,
        place=place.here(work.world, r.account),
    )


def _patience(work: Work) -> timedelta:
    """Give how long after its intent a worker counts as being at it still."""
    timeout = work.account.timeout
    return timeout * _TAKEOVER_CALLS + timedelta(seconds=work.driver.manifest.propagation_seconds)


def settle_seconds(work: Work) -> float:
    """Give the seconds after which a key that was intended and is not listed was never made."""
    return _patience(work).total_seconds() + _SETTLE_MARGIN_SECONDS


async def _mint_and_stage(
    work: Work, manager: Caller, stale: list[tuple[KeyFacts, KeyRecord]]
) -> Rest | None:
    """Claim, clear away what earlier attempts left, mint, stage: the claim fences off whoever made them."""
    attempt = work.rotation.current_attempt
    try:
        claim = await work.store.claim(work.path, attempt)
    except StoreError as error:
        if error.fault is StoreFault.CONFLICT:
            raise SupersededError from None
        raise
    for facts, record in stale:
        seen = await liveness.seen(work, record, manager)
        await licence.revoke_attempt(work, manager, replace(seen, key_ref=facts.key_ref, handle=facts.handle))
    fresh = (work.rotation.updated_at + _patience(work) - work.now()).total_seconds()
    if fresh <= 0:
        # This worker was asleep for so long that another may have looked for its key already.
        raise SupersededError
    try:
        minted = await work.driver.create_key(manager, work.spec(attempt), within=fresh)
    except ExchangeError as error:
        return await _mint_failed(work, error)
    try:
        info = await _stage(work, manager, minted, claim)
    except StoreError as error:
        if error.fault is not StoreFault.UNFIT or attempt.number >= _MOST_UNFIT:
            raise
        return await work.defer(1, f"{error.what} It was revoked and another is minted.")
    if info is None or info.meta is None:
        return await work.defer(
            1, "The store did not take the new key; it was revoked and another is minted."
        )
    return await _staged(work, manager, info, made=True)


async def _mint_failed(work: Work, error: ExchangeError) -> Rest | None:
    """Record that no key was made, or that nobody knows; then let the error take its course."""
    r = work.rotation
    if error.fault is ExchangeFault.OUTCOME_UNKNOWN:
        # The call may still arrive: the time in which its key can show begins anew.
        maybe = key_record(work, r.attempt, Fate.INTENDED)
        try:
            unknown = work.event(EventType.MINT_UNKNOWN, unexplained.note(error))
            await work.commit(unknown, keys=(maybe,))
        except SupersededError:
            await licence.may_live(work, maybe)
            raise
        wait = max(1.0, work.driver.manifest.propagation_seconds, asked(error))
        if error.unexplained:
            answers = await unexplained.told(work)
            wait = max(wait, retry_delay(len(answers), rotation_id=r.id).total_seconds())
        return await work.defer(wait, error.what)
    if error.fault is ExchangeFault.REJECTED:
        # Also what a venue says with a code that nobody has seen yet: `settle` looks for the key.
        raise error
    never = key_record(work, r.attempt, Fate.NEVER_MADE)
    refused = work.event(EventType.ORPHAN_SETTLED, "the venue refused to create the key")
    await work.commit(refused, keys=(never,))
    raise error


async def _stage(work: Work, manager: Caller, minted: MintedKey, claim: Claim) -> SlotInfo | None:
    """Write the secret to pending; None when the store would not take it and the key was revoked again."""
    r = work.rotation
    meta = KeyMeta(
        exchange=r.exchange,
        account=r.account,
        key_ref=minted.key_ref,
        fingerprint=await work.fingerprint(minted.key_ref),
        attempt=claim.attempt,
        created_at=work.now(),
        handle=minted.handle,
        account_uid=r.account_uid,
    )
    for pause in (*_STAGE_PAUSES, None):
        try:
            return await work.store.stage(work.path, minted.material, meta, claim)
        except StoreError as error:
            if error.fault is StoreFault.CONFLICT and (staged := await _already_staged(work, claim.attempt)):
                return staged
            lost = error.fault in _LOST
            if not lost and pause is not None:
                await work.world.clock.sleep(pause)
                continue
            record = key_record(work, claim.attempt.number, Fate.INTENDED, meta)
            await _give_up(work, manager, await liveness.seen(work, record, manager))
            if error.fault is StoreFault.CONFLICT:
                raise SupersededError from None
            if lost:
                raise
            return None
    return None


async def _already_staged(work: Work, attempt: Attempt) -> SlotInfo | None:
    """Tell a conflict with ourselves (the lost answer of our own write) from one with another worker."""
    pending = await work.peek(Slot.PENDING)
    return pending if pending and pending.attempt == attempt and pending.meta else None


async def _give_up(work: Work, manager: Caller, record: KeyRecord) -> None:
    """Revoke the key that this frame has minted, unless others go on with it.

    A key whose slots cannot be looked at is written down by its ref; `settle` comes back for it.
    """
    try:
        await licence.revoke_attempt(work, manager, record, own=True)
    except StoreError:
        await licence.may_live(work, record)
    except ExchangeError:
        # The intent to revoke it stands in the journal.
        return


async def _staged(work: Work, manager: Caller, info: SlotInfo, *, made: bool = False) -> Rest | None:
    """Journal that the secret is safe. A worker that lost to a later attempt gives its key up.

    Args:
        work: of the rotation.
        manager: the manager key that is current.
        info: what stands in the pending slot.
        made: whether this very manager key made the key, in this step.
    """
    assert info.meta is not None  # noqa: S101 - narrowed by both callers
    meta, r = info.meta, work.rotation
    live = key_record(work, r.attempt, Fate.LIVE, meta)
    if made:
        live = await liveness.seen(work, live, manager)
    staged = work.event(
        EventType.STAGED,
        new_ref=meta.key_ref,
        new_fingerprint=meta.fingerprint,
        new_handle=meta.handle,
        new_version=info.version,
    )
    try:
        await work.commit(staged, keys=(live,))
    except SupersededError:
        # Another worker may have found the key in pending and made it current: the licence tells.
        await _give_up(work, manager, live)
        raise
    return None


async def recover(work: Work) -> Rest | None:
    """MINTING, found on the way: a worker died here, or the outcome of its call is unknown.

    If pending holds this attempt's key, nothing was lost. Otherwise the next attempt is claimed, which
    fences the dead worker off; then every key with a label of an earlier attempt is revoked, since its
    secret is lost; then a new one is minted.
    """
    r = work.rotation
    pending = await work.peek(Slot.PENDING)
    if pending and pending.attempt == r.current_attempt and pending.meta:
        return await _staged(work, await work.manager(), pending)
    patience = _patience(work)
    if not r.problem and work.now() < r.updated_at + patience:
        return Rest(
            r.updated_at + patience, "the worker that is minting, or the time after which it counts as dead"
        )
    if r.attempt >= MAX_ATTEMPTS:
        return await work.park(
            Park.TOO_MANY_ATTEMPTS,
            f"{r.attempt} attempts to mint a key failed; last: {r.problem or 'a worker died'}",
            f"Mend the cause, then: {with_reason('abort', r.credential)}, and rotate again",
        )
    manager = await work.manager()
    listed = await listing.look(work, manager)
    current = await work.peek(Slot.CURRENT)
    if rest := await refuse_other_account(work, listed, current):
        return rest
    if rest := await refuse_unseen(work, manager, listed, r.old_ref):
        return rest
    if unexplained.is_enough(answers := await unexplained.told(work)):
        return await unexplained.park(work, answers)
    stale = await _stale_keys(work, listed)
    await work.driver.await_turn()
    await _claim_attempt(work, r.attempt + 1, f"stale keys: {len(stale)}")
    return await _mint_and_stage(work, manager, stale)


async def _stale_keys(work: Work, listed: list[KeyFacts]) -> list[tuple[KeyFacts, KeyRecord]]:
    """Give the listed keys that attempts of this rotation made so far, with their journal records."""
    r = work.rotation
    records = [k for k in await work.world.journal.keys(r.credential) if k.rotation_id == r.id]
    found = [(settle.find(record, listed), record) for record in records]
    return [(facts, record) for facts, record in found if facts is not None]
