"""The old keys of a rotation: the one that is current, and each that the journal has as living beside it.

A slot that was emptied, moved or restored names less than what lives. So what dies with a rotation is read
from the journal at each step, and nothing of it is kept in between: a worker may die anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import KeyRecord, Park
from keyturn.domain.slots import SlotInfo
from keyturn.engine import books, listing, liveness
from keyturn.engine.liveness import shows
from keyturn.engine.owner import Owner, owner_name
from keyturn.engine.trouble import backoff
from keyturn.engine.witness import LOOKS
from keyturn.engine.work import Rest, Work
from keyturn.ports.exchange import Caller


@dataclass(frozen=True, slots=True)
class OldKey:
    """What a rotation notes of the key that it replaces; empty before the first."""

    old_ref: str | None = None
    old_fingerprint: str | None = None
    old_handle: str | None = None
    #: None where no slot shows it.
    old_version: str | None = None
    account_uid: str | None = None


async def unnamed(work: Work, current: SlotInfo | None) -> list[KeyRecord]:
    """Give the living keys of the credential beside the current one and the rotation's own, newest first."""
    r = work.rotation
    found = await books.beside(work.world, r.credential, current)
    return [k for k in found if k.rotation_id != r.id and k.key_ref not in {r.old_ref, r.new_ref}]


async def old_key(work: Work, current: SlotInfo | None, beside: list[KeyRecord]) -> OldKey:
    """Choose the old key: what is current, or where the slot is empty, the newest of those that live on.

    Args:
        work: of the rotation, before it has begun.
        current: what this step saw in the slot.
        beside: as of `unnamed`.
    """
    if current is not None:
        meta = current.meta
        if meta is None:
            return OldKey(old_version=current.version)
        return OldKey(meta.key_ref, meta.fingerprint, meta.handle, current.version, meta.account_uid)
    r = work.rotation
    record = books.newest_of(beside, r.exchange, r.account)
    if record is None:
        return OldKey()
    return OldKey(record.key_ref, record.fingerprint, record.handle, account_uid=await _uid(work, record))


async def _uid(work: Work, record: KeyRecord) -> str | None:
    """Give who owns a key, so that its successor is held to the same account; None where that is not known.

    Of a key in another sub-account than the new one's it says nothing.
    """
    if record.subaccount != work.rotation.subaccount:
        return None
    made_by = await work.world.journal.get(record.rotation_id) if record.rotation_id else None
    return record.account_uid or (made_by.account_uid if made_by else None)


async def refuse_unlisted(
    work: Work,
    manager: Caller,
    listed: list[KeyFacts],
    current: SlotInfo | None,
    beside: list[KeyRecord],
    old: OldKey,
) -> Rest | None:
    """Come back later, and in the end park, when nothing tells that the list is of these keys' account.

    Their secrets are gone, so that list is what will prove their death. One key that it shows is enough, for
    all places are asked with the same manager key; so is one that it has shown before, and a known owner, to
    whom the new key is held.
    """
    r = work.rotation
    here = [k for k in beside if (k.exchange, k.account) == (r.exchange, r.account)]
    shown = current is not None and current.meta is not None and shows(listed, current.meta.key_ref)
    if not here or shown or old.account_uid or any(shows(listed, k.key_ref) for k in here):
        return None
    if any([await liveness.is_from_here(work, k, manager) for k in here]):
        return None
    for subaccount in {k.subaccount for k in here} - {r.subaccount}:
        there = await listing.look_in(work, manager, subaccount)
        if any(shows(there, k.key_ref) for k in here):
            return None
    marks = ", ".join(k.fingerprint or k.key_id for k in here)
    text = (
        f"The journal has {marks} as living for {r.credential}, no slot names it, and the manager key of"
        f" {owner_name(Owner(r.account, r.subaccount))} does not list it"
    )
    if r.failures < LOOKS:
        return await work.defer(backoff(r), f"{text}.")
    return await work.park(
        Park.MANAGER_KEY,
        f"{text}: it is gone, or lies in another account. No key was made or revoked.",
        f"See at the exchange. Lies it elsewhere: keyturn put --manager {r.account}, with the right one."
        f" Is it gone: keyturn forget {r.credential} {here[0].fingerprint}."
        f" Then: keyturn resume {r.credential}",
    )
