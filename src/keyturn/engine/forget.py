"""Letting go of a key that is none of a credential's: one that was put by mistake, or that nobody can reach.

The exchange is not asked and nothing is revoked there: the key may be somebody else's. It is taken out of the
journal first, so that no rotation revokes it whatever happens next, and then out of the stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keyturn.domain.errors import RefusedError
from keyturn.domain.inventory import StoreAddress
from keyturn.domain.rotation import Fate, KeyRecord, Origin, Rotation
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine.books import newest_records
from keyturn.engine.commands import with_reason
from keyturn.engine.move import show
from keyturn.engine.world import World


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was let go of."""

    record: KeyRecord
    #: Where it stood as current: whoever reads there finds no key now.
    emptied: tuple[str, ...]


async def forget(world: World, credential: str, mark: str | None = None) -> Forgotten:
    """Take a key out of the journal and the stores; at the exchange it lives on.

    The same call again goes on where an earlier one stopped.

    Args:
        world: at hand.
        credential: whose key it is taken for; also one that left the inventory.
        mark: the key's fingerprint; None for the one that is current.

    Raises:
        RefusedError: there is no such key, a rotation has it in hand, or keyturn minted it and it is in use.
        StoreError: a store fails.
    """
    addresses = _addresses(world, credential)
    record = await _meant(world, credential, addresses, mark)
    standing = [address for address in addresses if await _stands(world, address, Slot.CURRENT, record)]
    held = await world.journal.open_rotation(credential)
    # What an earlier call has written down is in no rotation's hands, and a slot that shows it holds one up.
    used = bool(standing) and record.fate is not Fate.FORGOTTEN
    if held is not None and (used or _in_hand(held, record)):
        raise RefusedError(
            f"Rotation {held.id} of {credential} is open ({held.state}) and has this key in hand.",
            now="Nothing was changed.",
            todo=f"Let it end (keyturn history {credential}), or: {with_reason('abort', credential)}",
        )
    if standing and record.origin is Origin.MINTED:
        raise RefusedError(
            f"Keyturn minted the key {record.fingerprint} for {credential}, and it is in use.",
            now="Nothing was changed.",
            todo=f"{with_reason('rotate', credential)} replaces it and revokes it.",
        )
    gone = replace(record, fate=Fate.FORGOTTEN, recorded_at=world.clock.now())
    if record.fate is not Fate.FORGOTTEN:
        await world.journal.record_keys([gone])
    for address in addresses:
        await _take_out(world, address, record)
    return Forgotten(gone, tuple(map(show, standing)))


def _addresses(world: World, credential: str) -> Sequence[StoreAddress]:
    entry = world.inventory.credentials.get(credential)
    return () if entry is None else (world.inventory.store_of(credential), *entry.mirrors)


async def _meant(
    world: World, credential: str, addresses: Sequence[StoreAddress], mark: str | None
) -> KeyRecord:
    """Find the key that is meant among those that may live, or that an earlier call has begun with."""
    known = [
        record
        for record in newest_records(await world.journal.keys(credential))
        if record.may_live or record.fate is Fate.FORGOTTEN
    ]
    if mark is not None:
        found = [record for record in known if record.fingerprint == mark]
    else:
        found = [
            record
            for record in known
            if addresses and await _stands(world, addresses[0], Slot.CURRENT, record)
        ]
    if found:
        return found[-1]
    named = ", ".join(record.fingerprint or record.key_id for record in known if record.may_live)
    what = f"of the fingerprint {mark}" if mark else "in its current slot"
    raise RefusedError(
        f"The journal has no living key of {credential} {what}.",
        now="Nothing was changed.",
        todo=f"It has these as living: {named}. Name one: keyturn forget {credential} FINGERPRINT"
        if named
        else "What stands in a store and is not in the journal, keyturn never touches: take it out there.",
    )


def _in_hand(held: Rotation, record: KeyRecord) -> bool:
    return record.rotation_id == held.id or record.key_ref in {held.old_ref, held.new_ref}


async def _stands(world: World, address: StoreAddress, slot: Slot, record: KeyRecord) -> SlotInfo | None:
    info = await world.adapters.store(address.store).peek(address.path, slot)
    return info if info and info.meta and info.meta.key_ref == record.key_ref else None


async def _take_out(world: World, address: StoreAddress, record: KeyRecord) -> None:
    store = world.adapters.store(address.store)
    if current := await _stands(world, address, Slot.CURRENT, record):
        await store.vacate(address.path, expect_current=current.version)
    elif previous := await _stands(world, address, Slot.PREVIOUS, record):
        await store.discard(address.path, Slot.PREVIOUS, version=previous.version)
