"""The licence: the right to revoke one key, given and used in one step. Nothing else revokes a key.

"I lost the race" says nothing about a key: the worker that won may have made it current. So whoever wants a
key gone passes here, in this order:

1. a fence, after which the key can never become current (a later claim of its pending slot, or the discard
   of the version that stands there; in a mirror, a version that no late write expects);
2. a fresh look: no slot of the store or of a mirror shows the key;
3. the intent, by the journal's compare-and-set: nothing has moved there since the rotation was read;
4. the revoke.

A key that fails on the way is left as it is, and its record stays open: `settle` comes back for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.domain.errors import ExchangeError, ExchangeFault, JournalError, JournalFault
from keyturn.domain.keys import Revocation
from keyturn.domain.rotation import EventType, Fate, KeyRecord, Origin, Park, Rotation, State
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import listing, liveness, mirrors, retries
from keyturn.engine.commands import with_reason
from keyturn.engine.place import lies_here
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, SupersededError, Work
from keyturn.ports.exchange import Caller, KeyHandle

# A worker that comes back late writes to a rotation that others move on; each lost compare-and-set means that
# one of them did. Whoever loses so many leaves the rest to them.
_WRITES = 5
_UNDONE = frozenset({State.ABORTING, State.ABORTED})


async def revoke_attempt(
    work: Work, manager: Caller, record: KeyRecord, *, own: bool = False
) -> KeyRecord | None:
    """Revoke the key of an attempt that nobody needs any more.

    Args:
        work: of any rotation of the credential; that of the attempt is read again.
        manager: the manager key of the account.
        record: of the key, with its ref.
        own: this frame has just minted the key and holds its only secret. Nobody else gives up the key of an
            attempt that is still being made.

    Returns:
        The record as it is now; None when the key is in use, another worker goes on with it, or it lies at
        another site than the inventory names.

    Raises:
        ExchangeError: the revoke failed or is open; the intent stands in the journal.
        StoreError: the fence or the look failed; nothing was revoked.
        SupersededError: others moved the rotation on at each try; nothing was revoked.
    """
    if not lies_here(work.world, record):
        return None
    for _ in range(_WRITES):
        hand = await _at_hand(work, record)
        if hand is None or _is_wanted(hand.rotation, record, own=own):
            return None
        await fence(hand, record)
        if hand.rotation.promoted_at is not None:
            await mirrors.fence(hand)
        if await _is_shown(hand, record):
            return None
        doomed = record
        if record.fate is not Fate.REVOKING:
            doomed = replace(record, fate=Fate.REVOKING, recorded_at=hand.now())
        try:
            await hand.commit(
                hand.event(EventType.ORPHAN_REVOKE_INTENDED, retries.intended(record)), keys=(doomed,)
            )
        except SupersededError:
            if hand is work:
                raise
            continue
        answer = await _revoke(hand, manager, doomed, record.subaccount)
        await _refuse_hearsay(hand, manager, doomed, answer)
        return await _note(hand, EventType.ORPHAN_REVOKED, replace(doomed, fate=Fate.REVOKED))
    raise SupersededError


async def _refuse_hearsay(work: Work, manager: Caller, record: KeyRecord, answer: Revocation) -> None:
    """Refuse "it was not there" as the end of a key, where the manager key may be another account's.

    Raises:
        ExchangeError: `REJECTED`, nothing shows that the key was in the account that answered.
    """
    if answer is Revocation.REVOKED or await liveness.is_from_here(work, record, manager):
        return
    current = await work.peek(Slot.CURRENT)
    witness = current.meta.key_ref if current and current.meta else None
    if witness and liveness.shows(await listing.look(work, manager), witness):
        return
    account = work.rotation.account
    raise ExchangeError(
        ExchangeFault.REJECTED,
        f"The key of attempt {record.key_id} is not there for the manager key of {account}, which has never"
        " shown that key: it may live in another account.",
        now="The key counts as alive.",
        todo=f"Put the manager key of the account that it was made in: keyturn put --manager {account}.",
    )


async def may_live(work: Work, record: KeyRecord) -> None:
    """Write that the key which this frame has made may live, also after others have written its attempt off.

    Args:
        work: of the attempt's rotation.
        record: with the key's ref, if an answer told it.

    Raises:
        SupersededError: others moved the rotation on at each try; the key's label is all that names it.
    """
    hand = await _at_hand(work, record)
    if hand is not None and not _is_wanted(hand.rotation, record, own=True):
        await _note(hand, EventType.KEY_MAY_LIVE, replace(record, fate=Fate.INTENDED))


async def fence(work: Work, record: KeyRecord) -> None:
    """Make sure that the key of an attempt can never become current.

    An empty slot and one that a later attempt has claimed are fences already: whoever was slow with this
    attempt can then neither stage nor promote it.

    Raises:
        StoreError: nobody knows whether the fence is up.
    """
    pending = await work.peek(Slot.PENDING)
    if pending and pending.attempt and pending.attempt == record.attempt:
        await work.store.discard(work.path, Slot.PENDING, version=pending.version)


async def _at_hand(work: Work, record: KeyRecord) -> Work | None:
    """Give the attempt's rotation as it is now: the step's own, if nobody moved it on."""
    newest = await work.world.journal.get(record.rotation_id or "")
    if newest is None:
        return None
    same = newest.id == work.rotation.id and newest.seq == work.rotation.seq
    return work if same else Work(work.world, newest)


def _is_wanted(rotation: Rotation, record: KeyRecord, *, own: bool) -> bool:
    """Tell whether the rotation goes on with the key, or has made it the credential's key."""
    if record.attempt is None or record.attempt.number != rotation.attempt:
        return False
    if own and rotation.effective_state is State.MINTING:
        return False
    return rotation.effective_state not in _UNDONE


async def _is_shown(work: Work, record: KeyRecord) -> bool:
    """Tell whether a slot of the store or of a mirror shows the key.

    What a roll-back has put into previous is what its abort ends, and stands in nobody's way.
    """
    slots = [Slot.CURRENT] if work.rotation.effective_state in _UNDONE else [Slot.CURRENT, Slot.PREVIOUS]
    for slot in slots:
        info = await work.peek(slot)
        if info and info.meta and info.meta.key_ref == record.key_ref:
            return True
    return await mirrors.show(work, record.key_ref, slots)


async def _note(work: Work, kind: EventType, record: KeyRecord) -> KeyRecord:
    """Write what became of a key, whatever the rotation has come to meanwhile."""
    record = replace(record, recorded_at=work.now())
    for _ in range(_WRITES):
        try:
            await work.commit(work.event(kind, f"attempt {record.key_id}"), keys=(record,))
        except SupersededError:
            newest = await work.world.journal.get(work.rotation.id)
            if newest is None:
                raise
            work = Work(work.world, newest)
        else:
            return record
    raise SupersededError


@dataclass(frozen=True, slots=True)
class Revoked:
    """The old key was told to die."""

    record: KeyRecord
    #: Where it lies; what keyturn minted lies where it minted it, whatever the inventory has said since.
    subaccount: str | None
    #: What the venue answered; None when its outcome is open.
    answer: Revocation | None
    #: What is known of an outcome that is open.
    open_because: str = ""


async def revoke_old(work: Work, manager: Caller, previous: SlotInfo | None) -> Revoked | Rest:
    """Revoke the key that was current before this rotation, after its grace (invariants 2, 4 and 7).

    The new key that is current is the fence: no step of this rotation goes back once the intent is written.

    Args:
        work: of the rotation.
        manager: the manager key of the account.
        previous: what this step saw in that slot.

    Raises:
        ExchangeError: the venue refused.
        JournalError: `TAMPERED`, what stands in the journal is not what this rotation has written there.
        StoreError: a store does not answer; nothing was revoked.
        SupersededError: another worker moved the rotation on; nothing was revoked.
    """
    r = work.rotation
    record = await _owned(work)
    if isinstance(record, Rest):
        return record
    if previous and previous.meta and previous.meta.key_ref != r.old_ref:
        return await work.park(
            Park.NOT_OURS,
            "The journal and the store disagree about which key came before; nothing was revoked.",
            f"keyturn verify-journal, and see who wrote to {work.path}. Then: keyturn resume {r.credential}",
        )
    if rest := await _in_the_way(work, r.old_ref):
        return rest
    record = replace(record, fate=Fate.REVOKING, recorded_at=work.now())
    if r.state is State.GRACE:
        await work.commit(work.event(EventType.REVOKE_INTENDED, revoke_at=work.now()), keys=(record,))
    subaccount = record.subaccount if record.origin is Origin.MINTED else r.subaccount
    doomed = replace(record, key_ref=r.old_ref, handle=r.old_handle)
    told = await _try_revoke(work, manager, doomed, subaccount)
    return replace(told, record=record)


async def revoke_beside(work: Work, record: KeyRecord, hand: Work, manager: Caller) -> Revoked | Rest:
    """Revoke a key that lived beside the old one and that no slot names, by the old key's rule.

    Args:
        work: of the rotation, past its grace; its looks and its journal carry the licence.
        record: of the key, and where it lies.
        hand: reaches the account in which it lies.
        manager: the manager key there.

    Returns:
        The record as it is now, and what the venue answered; or what to wait for.

    Raises:
        ExchangeError: the venue refused.
        JournalError: `TAMPERED`, as for the old key.
        StoreError: a store does not answer; nothing was revoked.
        SupersededError: another worker moved the rotation on; nothing was revoked.
    """
    await _untampered(work)
    if rest := await _in_the_way(work, record.key_ref):
        return rest
    doomed = record
    if record.fate is not Fate.REVOKING:
        doomed = replace(record, fate=Fate.REVOKING, recorded_at=work.now())
    # Written again where it stands already: the compare-and-set tells that nobody moved on since the look.
    await work.commit(work.event(EventType.ORPHAN_REVOKE_INTENDED, record.key_id), keys=(doomed,))
    return await _try_revoke(hand, manager, doomed, doomed.subaccount)


async def _try_revoke(work: Work, manager: Caller, record: KeyRecord, subaccount: str | None) -> Revoked:
    """Revoke a key whose death is proved afterwards: that tells whether an open outcome was one."""
    try:
        answer = await _revoke(work, manager, record, subaccount)
    except ExchangeError as error:
        if error.fault is not ExchangeFault.OUTCOME_UNKNOWN:
            raise
        return Revoked(record, subaccount, None, error.what)
    return Revoked(record, subaccount, answer)


async def _untampered(work: Work) -> None:
    r = work.rotation
    report = await work.world.journal.verify(r.id)
    if report.breaks:
        raise JournalError(
            JournalFault.TAMPERED,
            f"The journal of {r.id} was changed from outside: {report.breaks[0]}",
            now="Nothing was revoked; the old key and the new one live.",
            todo="keyturn verify-journal shows each place. Restore the journal, or end it by hand.",
        )


async def _owned(work: Work) -> KeyRecord | Rest:
    """Give the record of the old key; park when the journal does not own it."""
    await _untampered(work)
    r = work.rotation
    record = await work.world.journal.key(r.exchange, r.account, r.old_ref or "")
    if record is None or record.credential != r.credential:
        return await work.park(
            Park.NOT_OURS,
            "The journal does not own the old key, so keyturn does not revoke it.",
            f"keyturn adopt {r.credential}, or delete the key at the exchange;"
            f" then: keyturn resume {r.credential}",
        )
    return record


async def _in_the_way(work: Work, dying: str | None) -> Rest | None:
    """Look at the slots right before the revoke; rest when they do not show the new key."""
    r = work.rotation
    current = await work.peek(Slot.CURRENT)
    if current is None or current.meta is None or current.meta.key_ref in {r.old_ref, dying}:
        return await work.park(
            Park.NOT_OURS,
            "The store shows the old key as current again, or no key at all; nothing was revoked.",
            f"See who wrote to {work.path}. Then: {with_reason('rollback', r.credential)},"
            f" or: keyturn resume {r.credential}",
        )
    if named := await mirrors.astray(work):
        text = f"The new key is no longer current in {', '.join(named)}; see who wrote there."
        return await work.defer(backoff(r), text)
    if behind := await mirrors.spread(work):
        return await work.defer(backoff(r), f"Not everywhere yet: {mirrors.told(behind)}.")
    return None


async def _revoke(work: Work, manager: Caller, record: KeyRecord, subaccount: str | None) -> Revocation:
    handle = KeyHandle(record.key_ref or "", record.handle, subaccount)
    return await work.driver.revoke_key(manager, handle)
