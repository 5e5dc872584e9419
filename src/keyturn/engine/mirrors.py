"""What follows the promotion of the primary, and is part of "confirmed": mirrors, and copies inside a store.

A mirror is a further store. A copy is a store's own: another region, or a secret that holds one field. The
promotion is the primary's alone: before it no follower is touched, so one that is down parks nothing.
After it each gets the key that is current in the primary, and until all show it the old key is not
revoked. On the way back they follow in the same way.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import StoreAddress
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine.work import Work
from keyturn.ports.store import SecretStore


async def follow(work: Work) -> dict[str, str]:
    """Bring every mirror and every copy up to the primary's current key; give what is behind, and why.

    Idempotent: what has the key already is only looked at.

    Raises:
        StoreError: the primary cannot be read.
    """
    behind: dict[str, str] = {}
    if addresses := work.entry.mirrors:
        seen = []
        for address in addresses:
            store = work.world.adapters.store(address.store)
            try:
                seen.append((address, store, await store.peek(address.path, Slot.CURRENT)))
            except StoreError as error:
                behind[_name(address)] = error.what
        # Read after the mirrors were looked at: who writes an older key of the primary to a mirror then
        # names a version that is gone from there.
        current = await work.store.read(work.path, Slot.CURRENT)
        if current is None or current.info.meta is None:
            return {_name(address): "the primary has no current key" for address in addresses}
        for address, store, there in seen:
            try:
                if there and not await _ours(work, there):
                    behind[_name(address)] = "a secret stands there that is not this credential's: remove it"
                    continue
                await bring_up(store, address.path, current, there)
            except StoreError as error:
                behind[_name(address)] = error.what
    return await spread(work, without=behind) | behind


async def spread(work: Work, without: Container[str] = ()) -> dict[str, str]:
    """Let the stores bring up their copies; give what does not show the current key yet.

    The reason is empty for a place that is only late.

    Args:
        work: at hand.
        without: mirrors that are known to be behind, and are not asked.
    """
    behind: dict[str, str] = {}
    for address in (work.address, *work.entry.mirrors):
        if _name(address) in without:
            continue
        try:
            places = await work.world.adapters.store(address.store).spread(address.path)
        except StoreError as error:
            behind[f"copies of {address.store}:{address.path}"] = f"{error.what} {error.todo}".strip()
        else:
            behind |= {f"{address.store}:{address.path} in {p}": "" for p in places}
    return behind


def told(behind: Mapping[str, str]) -> str:
    """Say what is behind."""
    return ", ".join(f"{name} ({why.rstrip('.')})" if why else name for name, why in behind.items())


async def _ours(work: Work, there: SlotInfo) -> bool:
    """Tell whether a mirror shows a key of this credential: nothing else is ever written over."""
    r = work.rotation
    known = there.meta and await work.world.journal.key(r.exchange, r.account, there.meta.key_ref)
    return bool(known and known.credential == r.credential)


async def bring_up(store: SecretStore, path: str, current: Stored, there: SlotInfo | None) -> None:
    """Make a key current in another store, too; nothing is written where it is already.

    Args:
        store: the other one.
        path: there.
        current: the key.
        there: what was current there a moment ago.

    Raises:
        StoreError: it is not there.
    """
    meta = current.info.meta
    if meta is None or (there and _same_key(there, current.info)):
        return
    try:
        await store.put(path, current.material, meta, expect_current=there.version if there else None)
    except StoreError as error:
        if error.fault not in {StoreFault.CONFLICT, StoreFault.OUTCOME_UNKNOWN}:
            raise
        # Another worker may have brought it up, or our own write arrived without its answer.
        there = await store.peek(path, Slot.CURRENT)
        if not (there and _same_key(there, current.info)):
            raise


def _same_key(one: SlotInfo, other: SlotInfo) -> bool:
    return bool(one.meta and other.meta and one.meta.key_ref == other.meta.key_ref)


def _name(address: StoreAddress) -> str:
    return f"mirror {address.store}:{address.path}"


async def astray(work: Work) -> list[str]:
    """Give the mirrors that show another key than the new one, freshly read; an empty one gets it again.

    Whoever wrote there after the cut-over had a reason, and bots may have followed: that is left alone.

    Raises:
        StoreError: a mirror does not answer, so nobody knows.
    """
    named = []
    for address in work.entry.mirrors:
        store = work.world.adapters.store(address.store)
        there = await store.peek(address.path, Slot.CURRENT)
        there = there or await _refilled(work, store, address.path)
        if not _shows_new_key(work, there):
            named.append(_name(address))
    return named


async def _refilled(work: Work, store: SecretStore, path: str) -> SlotInfo | None:
    """Give an empty mirror the new key again, if the primary still shows it; tell what is there then."""
    current = await work.store.read(work.path, Slot.CURRENT)
    if current is None or not _shows_new_key(work, current.info):
        return None
    await bring_up(store, path, current, None)
    return await store.peek(path, Slot.CURRENT)


def _shows_new_key(work: Work, there: SlotInfo | None) -> bool:
    return bool(there and there.meta and there.meta.key_ref == work.rotation.new_ref)


async def show(work: Work, key_ref: str | None, slots: Iterable[Slot]) -> bool:
    """Tell whether a mirror shows a key in one of these slots, freshly read.

    Raises:
        StoreError: a mirror does not answer, and it may have the key: one that was never promoted is in none.
    """
    for address in work.entry.mirrors:
        store = work.world.adapters.store(address.store)
        for slot in slots:
            try:
                there = await store.peek(address.path, slot)
            except StoreError:
                if work.rotation.promoted_at is None:
                    break
                raise
            if there and there.meta and there.meta.key_ref == key_ref:
                return True
    return False


async def fence(work: Work) -> None:
    """Write the primary's key to each mirror anew, so that no late write can point a mirror at another key.

    A worker that looked at a mirror before a roll-back may be about to write the key that is given up; it
    names the version that it saw, and that one is gone then.

    Raises:
        StoreError: a mirror does not answer, or the primary cannot be read.
    """
    if not work.entry.mirrors:
        return
    current = await work.store.read(work.path, Slot.CURRENT)
    if current is None or current.info.meta is None:
        return
    for address in work.entry.mirrors:
        store = work.world.adapters.store(address.store)
        there = await store.peek(address.path, Slot.CURRENT)
        if there and not _same_key(there, current.info):
            continue  # what is in the way there is told by the look that follows
        expect = there.version if there else None
        try:
            await store.put(address.path, current.material, current.info.meta, expect_current=expect)
        except StoreError as error:
            if error.fault is not StoreFault.CONFLICT:
                raise
        await _drop_twin(store, address.path, current.info)


async def _drop_twin(store: SecretStore, path: str, current: SlotInfo) -> None:
    """Destroy what a fence has left in previous: the key that is current, once more."""
    previous = await store.peek(path, Slot.PREVIOUS)
    if previous and _same_key(previous, current):
        await store.discard(path, Slot.PREVIOUS, version=previous.version)


async def forget_previous(work: Work, dead_ref: str | None) -> None:
    """Destroy what the mirrors still hold of a key that is dead.

    Raises:
        StoreError: a mirror does not answer; the rotation comes back for it.
    """
    for address in work.entry.mirrors:
        store = work.world.adapters.store(address.store)
        previous = await store.peek(address.path, Slot.PREVIOUS)
        if previous and previous.meta and previous.meta.key_ref == dead_ref:
            await store.discard(address.path, Slot.PREVIOUS, version=previous.version)
