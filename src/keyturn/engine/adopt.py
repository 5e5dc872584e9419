"""Taking in what a person has: a key for a credential, or the manager key of an account.

Adoption is the only way in which a key that keyturn did not mint becomes one that it may revoke; it
takes a person who says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.domain.errors import ExchangeError, ExchangeFault, KeyturnError, RefusedError
from keyturn.domain.keys import KeyFacts, Permission
from keyturn.domain.labels import fingerprint
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Fate, KeyRecord, Origin
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.engine import place
from keyturn.engine.commands import with_reason
from keyturn.engine.liveness import shows
from keyturn.engine.owner import Owner, owner_name
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller
from keyturn.ports.store import SecretStore


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What was stored, and what the exchange says of it."""

    info: SlotInfo
    facts: KeyFacts | None
    #: What could not be looked at, and why; empty when nothing is in doubt.
    unseen: str = ""


async def put_credential(world: World, credential: str, material: SecretMaterial) -> TakenIn:
    """Put a person's key into a credential's current slot and adopt it.

    The very key that stands there already is taken over, in whatever shape it stands.

    Raises:
        RefusedError: unknown credential, a rotation is open, another key is current already, or the key
            is another credential's, an account's manager key, or one of another sub-account.
        ExchangeError: the key does not work at the exchange (unless only its address is refused).
        StoreError: the store did not take it, or what stands there cannot be read.
    """
    _known(world, credential)
    await _no_open_rotation(world, credential)
    entry = world.inventory.credentials[credential]
    await _nobody_elses(world, credential, material.key_ref)
    facts = await _introspect(world, entry.account, Caller(material, entry.egress_proxy))
    unseen = await _refuse_other_owner(world, credential, material.key_ref)
    address = world.inventory.store_of(credential)
    store = world.adapters.store(address.store)
    there = await store.read(address.path, Slot.CURRENT)
    if there is not None and there.material.key_ref != material.key_ref:
        raise _occupied(credential)
    meta = await _meta(world, entry.account, material, facts)
    info = await _shown_as_ours(store, address.path, there, material, meta)
    # Regions that are slow are waited for by the next rotation; what cannot be written is told now.
    await store.spread(address.path)
    known = await world.journal.key(meta.exchange, meta.account, meta.key_ref)
    await world.journal.record_keys([_again(known, record(world, credential, meta, facts))])
    return TakenIn(info, facts, unseen)


def _occupied(credential: str) -> RefusedError:
    return RefusedError(
        f"{credential} has another current key already.",
        now="Nothing was changed.",
        todo=f"{with_reason('rotate', credential)} replaces it safely. If it was put there by mistake:"
        f" keyturn forget {credential}, which leaves it alone at the exchange; then put the right one.",
    )


async def _shown_as_ours(
    store: SecretStore, path: str, there: Stored | None, material: SecretMaterial, meta: KeyMeta
) -> SlotInfo:
    """Write the key, unless it stands there to the letter; what else stands in the document is kept."""
    if there is not None and there.info.meta is not None and there.material == material:
        return there.info
    return await store.put(path, material, meta, expect_current=there.info.version if there else None)


def _again(known: KeyRecord | None, fresh: KeyRecord) -> KeyRecord:
    """Give the record of a key that was met before: it keeps its id, its origin and its age."""
    if known is None or known.credential != fresh.credential:
        return fresh
    return replace(
        fresh,
        key_id=known.key_id,
        origin=known.origin,
        rotation_id=known.rotation_id,
        recorded_at=known.recorded_at,
        handle=fresh.handle or known.handle,
    )


async def put_manager(
    world: World, account: str, material: SecretMaterial, *, may_withdraw: bool = False
) -> TakenIn:
    """Put the manager key of an account into its store, in place of the one that is there.

    Args:
        world: where.
        account: its name in the inventory.
        material: the key.
        may_withdraw: a person insists on a key that can move the money out.

    Raises:
        RefusedError: there is no such account in the inventory, the key is a credential's, or it may
            withdraw.
        ExchangeError: the key does not work at the exchange.
        StoreError: the store did not take it.
    """
    entry = world.inventory.accounts.get(account)
    if entry is None:
        raise RefusedError(f"There is no account {account} in the inventory.", now="Nothing was changed.")
    if owner := await _owner(world, entry.exchange, material.key_ref):
        raise _shared(f"That key is recorded as {owner}'s; its next rotation would revoke it.")
    facts = await _introspect(world, account, Caller(material, entry.egress_proxy))
    if facts and Permission.WITHDRAW in facts.permissions and not may_withdraw:
        raise RefusedError(
            "That key may withdraw: whoever steals it takes the money, and keyturn never needs that right.",
            now="Nothing was stored.",
            todo="Take the right away at the exchange, and put the key again."
            f" To insist: keyturn put --manager {account} --may-withdraw",
        )
    store = world.adapters.store(entry.manager.store)
    current = await store.peek(entry.manager.path, Slot.CURRENT)
    meta = await _meta(world, account, material, facts)
    expect = current.version if current else None
    return TakenIn(await store.put(entry.manager.path, material, meta, expect_current=expect), facts)


async def adopt(world: World, credential: str) -> KeyRecord:
    """Record that the key in a credential's current slot is this credential's own.

    A key in any shape that the entry's format can read is taken over: what stands beside it is kept. A
    credential that was renamed in the inventory takes its key over from the name that is gone.

    Raises:
        RefusedError: unknown credential, an empty slot, the key is one of another sub-account, or it is
            recorded for another credential that is in the inventory or being rotated.
        ExchangeError: the exchange does not know the key, or cannot be asked.
        StoreError: what stands there cannot be read, or not be written.
    """
    _known(world, credential)
    address = world.inventory.store_of(credential)
    store = world.adapters.store(address.store)
    stored = await store.read(address.path, Slot.CURRENT)
    if stored is None:
        raise RefusedError(
            f"There is no key at {address.store}:{address.path}.",
            now="Nothing was changed.",
            todo=f"Store the one that you have: keyturn put {credential}. Or let keyturn make one:"
            f" {with_reason('rotate', credential)}",
        )
    entry = world.inventory.credentials[credential]
    exchange = world.inventory.accounts[entry.account].exchange
    key_ref = stored.material.key_ref
    known = await world.journal.key(exchange, entry.account, key_ref)
    own = known is not None and known.credential == credential
    if known is not None and own and known.fate is Fate.LIVE and stored.info.meta is not None:
        return known
    left = known if known and not own and await _is_left(world, known.credential) else None
    await _nobody_elses(world, credential, key_ref, left=left)
    facts = await _introspect(world, entry.account, Caller(stored.material, entry.egress_proxy))
    await _refuse_other_owner(world, credential, key_ref)
    meta = stored.info.meta
    if meta is None:
        # While a rotation is open, what it saw as current must stay that very version.
        await _no_open_rotation(world, credential)
        meta = await _meta(world, entry.account, stored.material, facts)
        await _shown_as_ours(store, address.path, stored, stored.material, meta)
    adopted = _again(known, record(world, credential, meta, facts))
    if left is not None:
        # The same record under the new name: there is one owner of a key at every moment.
        adopted = replace(
            adopted, key_id=left.key_id, subaccount=left.subaccount, handle=meta.handle or left.handle
        )
    await world.journal.record_keys([adopted])
    return adopted


async def _refuse_other_owner(world: World, credential: str, key_ref: str) -> str:
    """Refuse a key that the account's manager key does not list where the inventory says that it is.

    Returns:
        Why that could not be looked at; empty when it was.
    """
    entry = world.inventory.credentials[credential]
    account = world.inventory.accounts[entry.account]
    owner = owner_name(Owner(entry.account, entry.subaccount))
    try:
        manager = await world.adapters.store(account.manager.store).read(account.manager.path, Slot.CURRENT)
        if manager is None:
            return f"There is no manager key yet, so nobody looked whether this is a key of {owner}."
        caller = Caller(manager.material, account.egress_proxy)
        listed = await world.adapters.driver(entry.account).list_keys(caller, entry.subaccount)
    except KeyturnError as error:
        return f"Nobody could look whether this is a key of {owner}: {error.what}"
    if shows(listed, key_ref):
        return ""
    raise RefusedError(
        f"This is no key of {owner}: the manager key does not list it there.",
        now="Nothing was changed.",
        todo=f"Correct `subaccount` (or `account`) of {credential} in the inventory, or take a key of that"
        " owner. One that was made a moment ago may not be listed yet: then try again in a minute.",
    )


def _known(world: World, credential: str) -> None:
    if credential not in world.inventory.credentials:
        raise RefusedError(
            f"There is no credential {credential} in the inventory.",
            now="Nothing was changed.",
            todo="keyturn status lists the names.",
        )


async def _is_left(world: World, owner: str) -> bool:
    """Tell whether a name owns keys and nothing will ever rotate them: it left the inventory, at rest."""
    gone = owner not in world.inventory.credentials
    return gone and await world.journal.open_rotation(owner) is None


async def _nobody_elses(
    world: World, credential: str, key_ref: str, *, left: KeyRecord | None = None
) -> None:
    """Refuse a key whose revoke would break something else than this credential; `left` is nobody's."""
    name = world.inventory.credentials[credential].account
    account = world.inventory.accounts[name]
    owner = await _owner(world, account.exchange, key_ref)
    if owner and owner != credential and (left is None or owner != left.credential):
        raise _shared(f"That key is recorded as {owner}'s.", await _renamed(world, owner))
    manager = await world.adapters.store(account.manager.store).peek(account.manager.path, Slot.CURRENT)
    if manager and manager.meta and manager.meta.key_ref == key_ref:
        raise _shared(f"That key is the manager key of the account {name}.")


async def _owner(world: World, exchange: str, key_ref: str) -> str | None:
    """Name the credential that a key is recorded for, under whatever account of the exchange."""
    for name, account in world.inventory.accounts.items():
        known = await world.journal.key(exchange, name, key_ref) if account.exchange == exchange else None
        if known is not None:
            return known.credential
    return None


async def _renamed(world: World, owner: str) -> str:
    """Say what to do when the owner of a key is not in the inventory; empty when it is."""
    if owner in world.inventory.credentials:
        return ""
    if held := await world.journal.open_rotation(owner):
        return f"Rename it back to {owner}, and let rotation {held.id} end before you change the name."
    return f"Rename it back to {owner}, or give this credential a key of its own."


def _shared(what: str, todo: str = "") -> RefusedError:
    return RefusedError(
        what,
        now="Nothing was changed; revoking it for one would break the other.",
        todo=todo or "Give each credential a key of its own, and each account a manager key of its own.",
    )


async def _no_open_rotation(world: World, credential: str) -> None:
    held = await world.journal.open_rotation(credential)
    if held is not None:
        raise RefusedError(
            f"{credential} is being rotated: {held.id}, {held.state}.",
            now="Nothing was changed.",
            todo=f"Let it end, or: {with_reason('abort', credential)}",
        )


async def _introspect(world: World, account: str, caller: Caller) -> KeyFacts | None:
    """Ask the exchange about the key; None when only the address is refused, which proves it exists."""
    try:
        return await world.adapters.driver(account).introspect(caller)
    except ExchangeError as error:
        if error.fault is ExchangeFault.WRONG_IP:
            return None
        raise


async def _meta(world: World, account: str, material: SecretMaterial, facts: KeyFacts | None) -> KeyMeta:
    exchange = world.inventory.accounts[account].exchange
    return KeyMeta(
        exchange=exchange,
        account=account,
        key_ref=material.key_ref,
        fingerprint=fingerprint(await world.journal.salt(), exchange, material.key_ref),
        attempt=None,
        created_at=(facts.created_at if facts else None) or world.clock.now(),
        handle=facts.handle if facts else None,
        account_uid=facts.account_uid if facts else None,
    )


def record(world: World, credential: str, meta: KeyMeta, facts: KeyFacts | None) -> KeyRecord:
    """Build the journal's record of an adopted key."""
    return KeyRecord(
        key_id=f"adopted-{meta.fingerprint}",
        credential=credential,
        exchange=meta.exchange,
        account=meta.account,
        subaccount=world.inventory.credentials[credential].subaccount,
        origin=Origin.ADOPTED,
        fate=Fate.LIVE,
        # The age of the key counts from its creation, not from the day on which we met it.
        recorded_at=meta.created_at,
        key_ref=meta.key_ref,
        handle=meta.handle,
        fingerprint=meta.fingerprint,
        expires_at=facts.expires_at if facts else None,
        account_uid=meta.account_uid,
        place=place.here(world, meta.account),
        known_at=place.here(world, meta.account) if facts else None,
    )
