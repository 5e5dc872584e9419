"""Moving house: the current key of a credential goes to another store, and its consumers with it.

The old place stays a mirror until the end: rotations that come in between reach both, so nobody is ever
left with a dead key, whichever place they read. The inventory is a person's file, and what it says is what
holds; so every step here looks at what is true, does what is missing, and may be done again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from keyturn.domain.errors import ConsumerError, RefusedError, StoreError, StoreFault
from keyturn.domain.evidence import Evidence, Notice, NoticeKind, place_mark
from keyturn.domain.inventory import StoreAddress
from keyturn.domain.rotation import Fate
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine import mirrors, proofs
from keyturn.engine.world import World


@dataclass(frozen=True, slots=True)
class Moved:
    """How far the consumers are."""

    fingerprint: str
    #: Who proved that they read the new place.
    confirmed: tuple[str, ...]
    #: Who owes that proof still, and why it is not there.
    missing: dict[str, str]
    #: Who read a store and owe no proof: only a person knows.
    silent: tuple[str, ...]


async def copy(world: World, credential: str, to: StoreAddress) -> SlotInfo:
    """Put the current key into the new place as well, and read it back.

    Raises:
        RefusedError: a rotation is open, there is no key, or another key stands at the new place.
        StoreError: a store fails, or does not give back what it was given.
    """
    await refuse_open(world, credential)
    old = world.inventory.store_of(credential)
    current = await _key_at(world, old)
    store = world.adapters.store(to.store)
    there = await store.peek(to.path, Slot.CURRENT)
    await _refuse_stranger(world, credential, to, there, current)
    await mirrors.bring_up(store, to.path, current, there)
    await store.spread(to.path)
    if older := await store.peek(to.path, Slot.PREVIOUS):
        # An earlier copy of this very credential, which a rotation has made old.
        await store.discard(to.path, Slot.PREVIOUS, version=older.version)
    back = await store.read(to.path, Slot.CURRENT)
    if back is None or back.material != current.material or back.info.meta != current.info.meta:
        raise StoreError(
            StoreFault.CORRUPT,
            f"{show(to)} does not give back the key that was put there.",
            now="The old place is as it was, and is what counts.",
            todo="See what else writes there, then move it again.",
        )
    # A rotation that began since may be about to revoke what was copied.
    await refuse_open(world, credential)
    if (await _key_at(world, old)).info.version != current.info.version:
        raise RefusedError(
            f"The key of {credential} changed while it was copied.",
            now="The old place is what counts; the copy is an older key.",
            todo="Move it again: the newer key takes the place of the copy.",
        )
    return back.info


async def tell(world: World, credential: str, old: StoreAddress) -> Moved:
    """Tell the consumers to read the place that the inventory names now, and see who does.

    Raises:
        RefusedError: a rotation is open, or the new place does not hold the credential's living key.
        StoreError: a store fails.
    """
    current = await _settled(world, credential, old)
    failed: dict[str, str] = {}
    for name, notice in _notices(world, credential, current).items():
        try:
            await world.adapters.consumer(name, credential).notify(notice)
        except ConsumerError as error:
            failed[name] = error.what
    return await _proofs(world, credential, current, failed)


async def finish(world: World, credential: str, old: StoreAddress) -> Moved:
    """Destroy the old copy, once every consumer that owes a proof reads the new place.

    Raises:
        RefusedError: a proof is missing, a rotation is open, or the new place does not hold the key.
        StoreError: a store fails.
    """
    current = await _settled(world, credential, old)
    moved = await _proofs(world, credential, current, {})
    if moved.missing:
        raise RefusedError(
            f"Not on the new place yet: {', '.join(moved.missing)}.",
            now=f"The key is at both places; {show(old)} was not touched.",
            todo="See that they run with the changed inventory; keyturn store move tells them again.",
        )
    await refuse_open(world, credential)
    here = world.inventory.store_of(credential)
    if behind := await world.adapters.store(here.store).spread(here.path):
        raise RefusedError(
            f"{show(here)} is not everywhere yet: {', '.join(behind)}.",
            now=f"The key is at both places; {show(old)} was not touched.",
            todo="Wait for what copies it, then run keyturn store move again.",
        )
    store = world.adapters.store(old.store)
    left = await store.peek(old.path, Slot.CURRENT)
    await store.vacate(old.path, expect_current=left.version if left else "")
    return moved


async def refuse_open(world: World, credential: str) -> None:
    """Refuse while a rotation is open: its steps name one store.

    Raises:
        RefusedError: there is one.
    """
    held = await world.journal.open_rotation(credential)
    if held is not None:
        raise RefusedError(
            f"{credential} is being rotated: {held.id}, {held.state}.",
            now="Nothing was moved by this call.",
            todo=f"Let it end (keyturn status {credential}), then move it.",
        )


def show(address: StoreAddress) -> str:
    """Name a place for people."""
    return f"{address.store}:{address.path}"


async def _key_at(world: World, place: StoreAddress) -> Stored:
    stored = await world.adapters.store(place.store).read(place.path, Slot.CURRENT)
    if stored is None or stored.info.meta is None:
        raise RefusedError(
            f"There is no key that keyturn knows at {show(place)}.",
            now="Nothing was changed.",
            todo="Store it with keyturn put, or let keyturn rotate mint one where it shall be.",
        )
    return stored


async def _refuse_stranger(
    world: World, credential: str, to: StoreAddress, there: SlotInfo | None, current: Stored
) -> None:
    """Refuse to write over a key that is not this credential's own."""
    if there is None:
        return
    meta = there.meta
    if meta and current.info.meta and meta.key_ref == current.info.meta.key_ref:
        return
    known = await world.journal.key(meta.exchange, meta.account, meta.key_ref) if meta else None
    if known is None or known.credential != credential:
        raise RefusedError(
            f"Another key stands at {show(to)}.",
            now="Nothing was changed.",
            todo="Choose another path with --path, or take that key away first.",
        )


async def _settled(world: World, credential: str, old: StoreAddress) -> Stored:
    """Make sure that the inventory's place holds the living key, and the old one no other."""
    await refuse_open(world, credential)
    here = world.inventory.store_of(credential)
    current = await _key_at(world, here)
    store = world.adapters.store(old.store)
    left = await store.peek(old.path, Slot.CURRENT)
    if left is None or current.info.meta is None:
        return current
    if left.meta is None or left.meta.key_ref != current.info.meta.key_ref:
        meta = current.info.meta
        known = await world.journal.key(meta.exchange, meta.account, meta.key_ref)
        if known is None or known.credential != credential or known.fate is not Fate.LIVE:
            raise RefusedError(
                f"{show(here)} does not hold the key that {credential} runs on.",
                now=f"The key at {show(old)} is another; nothing was changed.",
                todo=f"Name {show(old)} in the inventory again, then: keyturn store move {credential}"
                f" --to {here.store} --path {here.path}",
            )
        await _refuse_stranger(world, credential, old, left, current)
        await mirrors.bring_up(store, old.path, current, left)
    return current


def _notices(world: World, credential: str, current: Stored) -> dict[str, Notice]:
    """Build what those are told who read a store; a `file` consumer is handed its key by keyturn."""
    here, policy = world.inventory.store_of(credential), world.inventory.policy_of(credential)
    meta, version = current.info.meta, current.info.version
    # The same move has the same name, so that telling twice is telling once.
    mark = place_mark(here.store, here.path)
    name = hashlib.sha256(f"{mark}.{version}".encode()).hexdigest()[:16]
    return {
        consumer: Notice(
            credential=credential,
            consumer=consumer,
            rotation_id=f"move{name}",
            kind=NoticeKind.MOVED,
            fingerprint=meta.fingerprint if meta else "",
            version=f"{mark}.{version}",
            confirm_by=world.clock.now() + policy.confirm_within,
        )
        for consumer in world.inventory.credentials[credential].consumers
        if world.inventory.consumers[consumer].kind != "file"
    }


async def _proofs(world: World, credential: str, current: Stored, failed: dict[str, str]) -> Moved:
    confirmed, missing, silent = [], dict(failed), []
    notices = _notices(world, credential, current)
    for name, notice in notices.items():
        owed = world.inventory.consumers[name].evidence
        if owed is Evidence.TIMED:
            silent.append(name)
            continue
        answer = await proofs.ask(world.adapters.consumer(name, credential), notice, owed)
        if not isinstance(answer, proofs.Missing):
            missing.pop(name, None)
            confirmed.append(name)
        elif answer.why:
            missing[name] = answer.why
        else:
            missing.setdefault(name, "it has not said so yet")
    meta = current.info.meta
    return Moved(meta.fingerprint if meta else "", tuple(confirmed), missing, tuple(silent))
