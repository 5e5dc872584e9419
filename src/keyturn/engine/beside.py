"""The end of the keys that lived beside the old one: forgotten by every slot, and in use perhaps until now.

They die in the rotation that found them, after its proofs and its grace. Their secrets are gone, so the list
proves each death; a list counts when it shows the new key, in another account when it showed the key itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from keyturn.domain.errors import JournalError, JournalFault
from keyturn.domain.keys import KeyFacts, Revocation
from keyturn.domain.rotation import EventType, Fate, KeyRecord, Origin, Park
from keyturn.engine import licence, listing, liveness, mirrors, old_keys, settle
from keyturn.engine.liveness import shows
from keyturn.engine.owner import Owner, owner_name
from keyturn.engine.place import lies_here
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, Work
from keyturn.ports.exchange import Caller

# As for the old key: a venue that still lists a key this long after its revoke, at so many looks, keeps it.
_DEATH_MARGIN_SECONDS = 600.0
_DEATH_LOOKS = 10
_DEATH_POLL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a key lies, and the hands that reach it there."""

    #: The rotation's own, or hands for another account of the inventory.
    hand: Work
    manager: Caller
    owner: Owner
    listed: bool


async def end(work: Work) -> Rest | None:
    """Revoke each key that the journal has as living beside the old and the new one; None when none is left.

    Raises:
        KeyturnError: a port failed. What was revoked before stays revoked, and the next step goes on.
        SupersededError: another worker moved the rotation on.
    """
    for record in await old_keys.unnamed(work, None):
        try:
            rest = await _end_one(work, record)
        except JournalError as error:
            if error.fault is not JournalFault.TAMPERED:
                raise
            rest = await work.park(Park.NOT_OURS, error.what, error.todo)
        if rest is not None:
            return rest
    return None


async def _end_one(work: Work, record: KeyRecord) -> Rest | None:
    if not lies_here(work.world, record):
        return await _unproved(work, record, f"It lies at {record.place}, and another place is asked now.")
    found = await _find(work, record)
    if found is None:
        return await _unproved(work, record, f"The account {record.account} is not in the inventory.")
    if found.manager.material.key_ref == record.key_ref:
        return None  # it manages the account: `doctor` names it, and nobody ends it here
    home = found.hand is work
    shown = found.listed or await liveness.is_from_here(found.hand, record, found.manager)
    if not home and not shown:
        why = f"The manager key of {record.account} does not list it, and nothing shows whose list that is."
        return await _unproved(work, record, why)
    if found.listed:
        record = await liveness.seen(found.hand, record, found.manager)
    revoked = await licence.revoke_beside(
        work, replace(record, subaccount=found.owner.subaccount), found.hand, found.manager
    )
    if isinstance(revoked, Rest):
        return revoked
    doomed, told = revoked.record, revoked.answer is Revocation.REVOKED
    if not (shown or told or liveness.is_of_this_site(found.hand, doomed)):
        why = f"Nothing has ever shown that it is of this account. {revoked.open_because}"
        return await _still_alive(work, doomed, why)
    if doubt := await _doubt(work, found, doomed, home=home):
        return await _still_alive(work, doomed, f"{doubt} {revoked.open_because}")
    gone = replace(doomed, fate=Fate.REVOKED, recorded_at=work.now())
    await work.commit(
        work.event(EventType.ORPHAN_REVOKED, f"{record.key_id}: the exchange no longer lists it"),
        keys=(gone,),
    )
    await mirrors.forget_previous(work, record.key_ref)
    return None


async def _find(work: Work, record: KeyRecord) -> _Found | None:
    """Look where the key lies: where it was made or taken in, or where the inventory says by now.

    Raises:
        JournalError: `TAMPERED`, the exchange labels a key of that ref as another one.
    """
    r, hand = work.rotation, work
    if record.account != r.account:
        account = work.world.inventory.accounts.get(record.account)
        if account is None or account.exchange != record.exchange:
            return None
        hand = Work(work.world, replace(r, account=record.account, exchange=record.exchange))
    manager = await hand.manager()
    owners = [Owner(record.account, record.subaccount)]
    if hand is work and record.origin is Origin.ADOPTED and record.subaccount != r.subaccount:
        owners.append(Owner(r.account, r.subaccount))
    for owner in owners:
        listed = await _list(work, hand, manager, owner)
        if _is_listed(record, listed):
            return _Found(hand, manager, owner, listed=True)
    return _Found(hand, manager, owners[0], listed=False)


async def _list(work: Work, hand: Work, manager: Caller, owner: Owner) -> list[KeyFacts]:
    """List what an owner has; of another account nothing is taken up, for this rotation has no part there."""
    if hand is work:
        return await listing.look_in(work, manager, owner.subaccount)
    return list(await hand.driver.list_keys(manager, owner.subaccount))


def _is_listed(record: KeyRecord, listed: list[KeyFacts]) -> bool:
    if record.origin is Origin.MINTED:
        return settle.find(record, listed) is not None
    return shows(listed, record.key_ref)


async def _doubt(work: Work, found: _Found, record: KeyRecord, *, home: bool) -> str:
    """Say why the list does not prove that the key is gone; empty if it does."""
    r = work.rotation
    listed = await _list(work, found.hand, found.manager, found.owner)
    if shows(listed, record.key_ref):
        return f"The exchange still lists the key {record.fingerprint}."
    if not home:
        return ""  # that list has shown the key: it is the right one
    if found.owner.subaccount != r.subaccount:
        listed = await listing.look(work, found.manager)
    if not shows(listed, r.new_ref):
        return f"The list of the manager key of {r.account} does not show the new key, so it proves nothing."
    return ""


async def _still_alive(work: Work, record: KeyRecord, why: str) -> Rest:
    why = why.strip()
    margin = work.driver.manifest.propagation_seconds + _DEATH_MARGIN_SECONDS
    late = work.now() > record.recorded_at + timedelta(seconds=margin)
    if late and work.rotation.failures >= _DEATH_LOOKS:
        return await _unproved(work, record, why)
    return await work.defer(min(_DEATH_POLL_SECONDS, backoff(work.rotation)), why)


async def _unproved(work: Work, record: KeyRecord, why: str) -> Rest:
    r = work.rotation
    owner = owner_name(Owner(record.account, record.subaccount))
    return await work.park(
        Park.NO_PROOF,
        f"The key {record.fingerprint} of {owner}, which no slot names, is not proved dead. {why}",
        f"See that it is gone at the exchange, then: keyturn forget {r.credential} {record.fingerprint},"
        f" and keyturn resume {r.credential}",
    )
