"""Taking in what a person has: a key for a credential, or the manager key of an account.

Adoption is the only way in which a key that keyturn did not mint becomes one that it may revoke; it
takes a person who says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.domain.errors import ExchangeError, ExchangeFault, RefusedError
from keyturn.domain.keys import KeyFacts, Permission
from keyturn.domain.labels import fingerprint
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Fate, KeyRecord, Origin
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo
from keyturn.engine.commands import with_reason
from keyturn.engine.liveness import site_of
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What was stored, and what the exchange says of it."""

    info: SlotInfo
    facts: KeyFacts | None


async def put_credential(world: World, credential: str, material: SecretMaterial) -> TakenIn:
    """Put a person's key into a credential's current slot and adopt it.

    Raises:
        RefusedError: unknown credential, a rotation is open, another key is current already, or the key
            is another credential's or an account's manager key.
        ExchangeError: the key does not work at the exchange (unless only its address is refused).
        StoreError: the store did not take it.
    """
    _known(world, credential)
    await _no_open_rotation(world, credential)
    entry = world.inventory.credentials[credential]
    await _nobody_elses(world, credential, material.key_ref)
    facts = await _introspect(world, entry.account, Caller(material, entry.egress_proxy))
    address = world.inventory.store_of(credential)
    store = world.adapters.store(address.store)
    current = await store.peek(address.path, Slot.CURRENT)
    if current is not None and not (current.meta and current.meta.key_ref == material.key_ref):
        raise RefusedError(
            f"{credential} has a current key already.",
            now="Nothing was changed.",
            todo=f"{with_reason('rotate', credential)} replaces it safely.",
        )
    meta = await _meta(world, entry.account, material, facts)
    info = current or await store.put(address.path, material, meta, expect_current=None)
    # Regions that are slow are waited for by the next rotation; what cannot be written is told now.
    await store.spread(address.path)
    await world.journal.record_keys([record(world, credential, meta, facts)])
    return TakenIn(info, facts)


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

    A credential that was renamed in the inventory takes its key over from the name that is gone.

    Raises:
        RefusedError: unknown credential, an empty slot, a document that is not keyturn's, or the key is
            recorded for another credential, that is in the inventory or being rotated.
        ExchangeError: the exchange does not know the key, or cannot be asked.
    """
    _known(world, credential)
    address = world.inventory.store_of(credential)
    stored = await world.adapters.store(address.store).read(address.path, Slot.CURRENT)
    if stored is None or stored.info.meta is None:
        raise RefusedError(
            f"There is no key that keyturn can read at {address.path}.",
            now="Nothing was changed.",
            todo=f"Store it with: keyturn put {credential}",
        )
    entry = world.inventory.credentials[credential]
    exchange = world.inventory.accounts[entry.account].exchange
    meta = stored.info.meta
    known = await world.journal.key(exchange, entry.account, meta.key_ref)
    if known is not None and known.credential == credential:
        return known
    left = known if known and await _is_left(world, known.credential) else None
    await _nobody_elses(world, credential, meta.key_ref, left=left)
    facts = await _introspect(world, entry.account, Caller(stored.material, entry.egress_proxy))
    adopted = record(world, credential, meta, facts)
    if left is not None:
        # The same record under the new name: there is one owner of a key at every moment.
        adopted = replace(
            adopted, key_id=left.key_id, subaccount=left.subaccount, handle=meta.handle or left.handle
        )
    await world.journal.record_keys([adopted])
    return adopted


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
        known_at=site_of(world.inventory.accounts[meta.account]) if facts else None,
    )
