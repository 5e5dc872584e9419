"""The living key of a credential beside the new one, for a plan: asked of the venue, and nothing is changed.

What a living key may do is told by the manager key's list, or else by the key itself. Where neither can be
had the plan says so; the rotation compares again before it mints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keyturn.domain.additions import addition, how_to_accept
from keyturn.domain.difference import Change, Difference, compare, read_names, side_of
from keyturn.domain.errors import ExchangeError, KeyturnError
from keyturn.domain.inventory import CredentialEntry
from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import KeyRecord, Rotation
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine import books
from keyturn.engine.added import AskedAccount, expected
from keyturn.engine.difference import against_declared
from keyturn.engine.owner import Owner, owner_name
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller

_BY_LIST, _BY_KEY = "the manager key's list", "the key itself"


@dataclass(frozen=True, slots=True)
class Compared:
    """A living key beside the one that replaces it."""

    #: None: it is not known; `missing` says why.
    difference: Difference | None = None
    missing: str = ""
    #: Whether there is a living key all the same.
    must_be_known: bool = False
    #: Who told what the living key may do.
    told_by: str = ""
    #: Of what is lost: what a person has accepted, and what parks the rotation until one does.
    accepted: frozenset[str] = frozenset()
    unaccepted: frozenset[str] = frozenset()
    #: What the venue would add by itself and parks the rotation, and what it may add.
    added: tuple[str, ...] = ()
    may_add: tuple[str, ...] = ()
    #: What stands in the way, found on the way.
    obstacles: tuple[str, ...] = ()


@dataclass(slots=True)
class Lists:
    """The venue's lists of keys that one plan needs, each asked for once."""

    world: World
    _managers: dict[str, asyncio.Task[Stored | None]] = field(default_factory=dict)
    _lists: dict[tuple[str, str | None], asyncio.Task[Sequence[KeyFacts]]] = field(default_factory=dict)

    async def manager(self, account: str) -> Caller | None:
        """Give the manager key of an account; None when there is none.

        Raises:
            StoreError: it cannot be read.
        """
        entry = self.world.inventory.accounts[account]
        if account not in self._managers:
            store = self.world.adapters.store(entry.manager.store)
            self._managers[account] = asyncio.ensure_future(store.read(entry.manager.path, Slot.CURRENT))
        stored = await self._managers[account]
        return Caller(stored.material, entry.egress_proxy) if stored else None

    async def of(self, account: str, subaccount: str | None, manager: Caller) -> Sequence[KeyFacts]:
        """Give the keys of an account or sub-account.

        Raises:
            ExchangeError: the venue cannot be asked, or refused.
        """
        owner = (account, subaccount)
        if owner not in self._lists:
            driver = self.world.adapters.driver(account)
            self._lists[owner] = asyncio.ensure_future(driver.list_keys(manager, subaccount))
        return await self._lists[owner]


async def compared(
    lists: Lists,
    name: str,
    current: SlotInfo | None,
    held: Rotation | None = None,
    beside: Sequence[KeyRecord] = (),
) -> Compared:
    """Compare the key of a credential that lives with the one that would be, or was, made.

    Args:
        lists: of this plan.
        name: the credential.
        current: what stands in its current slot.
        held: its open rotation.
        beside: what the journal has as living and no slot names, the newest first.
    """
    entry = lists.world.inventory.credentials[name]
    obstacles: list[str] = []
    listed: Sequence[KeyFacts] | None = None
    manager: Caller | None = None
    try:
        if (manager := await lists.manager(entry.account)) is None:
            path = lists.world.inventory.accounts[entry.account].manager.path
            obstacles.append(f"there is no manager key at {path}")
        else:
            listed = await lists.of(entry.account, entry.subaccount, manager)
    except KeyturnError as error:
        obstacles.append(error.what)
    if held is not None and held.new_ref:
        return _of_open(lists.world, held, listed, obstacles)
    own = await _own(lists.world, name, current, obstacles)
    if current is None:
        found = await _forgotten(lists, name, beside, manager)
    else:
        found = await _current(lists.world, name, current, listed, own, obstacles)
    told = replace(_against_new(lists.world, name, found, held), obstacles=tuple(obstacles))
    if listed is None or manager is None:
        return told
    return await _with_additions(
        lists.world,
        name,
        told,
        AskedAccount(lists.world.adapters.driver(entry.account), listed, own, manager),
    )


def _of_open(
    world: World, held: Rotation, listed: Sequence[KeyFacts] | None, obstacles: list[str]
) -> Compared:
    """Compare the two keys of an open rotation, which both live."""
    by_ref = {facts.key_ref: facts for facts in listed or ()}
    old, new = by_ref.get(held.old_ref or ""), by_ref.get(held.new_ref or "")
    if held.old_ref is None:
        missing = "there is no key before this one: nothing is lost"
    elif listed is None:
        missing = "the venue's list of keys could not be had"
    else:
        missing = "the venue does not list both keys"
    if old is None or new is None:
        return Compared(missing=missing, obstacles=tuple(obstacles))
    difference = compare(world.manifests[held.exchange], side_of(old), side_of(new))
    return Compared(
        difference,
        told_by=_BY_LIST,
        accepted=difference.lost & read_names(held.accepted_loss),
        obstacles=tuple(obstacles),
    )


async def _own(world: World, name: str, current: SlotInfo | None, obstacles: list[str]) -> Caller | None:
    """Read the credential's own key, to ask the venue about it."""
    if current is None:
        return None
    address = world.inventory.store_of(name)
    try:
        stored = await world.adapters.store(address.store).read(address.path, Slot.CURRENT)
    except KeyturnError as error:
        obstacles.append(error.what)
        return None
    return Caller(stored.material, world.inventory.credentials[name].egress_proxy) if stored else None


@dataclass(frozen=True, slots=True)
class _Found:
    """The living key, or why nothing is known of it; both empty where there is none."""

    facts: KeyFacts | None = None
    missing: str = ""
    told_by: str = _BY_LIST
    #: Whose it is, where that is not whom the inventory names.
    owner: Owner | None = None


async def _current(
    world: World,
    name: str,
    current: SlotInfo,
    listed: Sequence[KeyFacts] | None,
    own: Caller | None,
    obstacles: list[str],
) -> _Found:
    """Find what the key that is current may do, and whose it is."""
    entry = world.inventory.credentials[name]
    ref = own.material.key_ref if own else current.meta.key_ref if current.meta else None
    living = next((facts for facts in listed or () if facts.key_ref == ref), None)
    if living is not None:
        return _Found(living)
    records = books.newest_records(await world.journal.keys(name))
    owner = _other_owner(entry, next((record for record in records if record.key_ref == ref), None))
    missing = "what the living key may do is not known"
    if own is None:
        return _Found(missing=missing, owner=owner)
    try:
        living = await world.adapters.driver(entry.account).introspect(own)
    except ExchangeError as error:
        return _Found(missing=f"{missing}: {error.what.rstrip('.')}", owner=owner)
    if listed is not None:
        where = f": it is one of {owner_name(owner)}" if owner else ""
        obstacles.append(
            f"the manager key of {entry.account} does not list the key that is current and alive{where}"
        )
    return _Found(living, told_by=_BY_KEY, owner=owner)


async def _forgotten(lists: Lists, name: str, beside: Sequence[KeyRecord], manager: Caller | None) -> _Found:
    """Find what the key may do that the journal has as living, where the slot is empty."""
    entry = lists.world.inventory.credentials[name]
    exchange = lists.world.inventory.accounts[entry.account].exchange
    record = books.newest_of(beside, exchange, entry.account)
    if record is None:
        # Those of other accounts die in the rotation, too; what they may do is nobody's measure here.
        marks = [f"{r.fingerprint} of {owner_name(Owner(r.account, r.subaccount))}" for r in beside]
        return _Found(missing=f"what lives is another account's: {', '.join(marks)}" if marks else "")
    owner, mark = _other_owner(entry, record), record.fingerprint or record.key_id
    missing = f"what the living key {mark} may do is not known"
    if manager is None:
        return _Found(missing=missing, owner=owner)
    try:
        there = await lists.of(entry.account, record.subaccount, manager)
    except ExchangeError as error:
        return _Found(missing=f"{missing}: {error.what.rstrip('.')}", owner=owner)
    living = next((facts for facts in there if facts.key_ref == record.key_ref), None)
    if living is None:
        missing += f": {owner_name(Owner(record.account, record.subaccount))} does not list it"
    return _Found(living, missing, owner=owner)


def _other_owner(entry: CredentialEntry, record: KeyRecord | None) -> Owner | None:
    if record is None:
        return None
    owner = Owner(record.account, record.subaccount)
    return None if owner == (entry.account, entry.subaccount) else owner


def _against_new(world: World, name: str, found: _Found, held: Rotation | None) -> Compared:
    """Compare a living key with what is declared."""
    entry = world.inventory.credentials[name]
    declared = Owner(entry.account, entry.subaccount)
    if found.facts is None:
        missing = found.missing or "there is no key before this one: nothing is lost"
        if found.owner is not None:
            missing += f"; it is one of {owner_name(found.owner)}, the new one of {owner_name(declared)}"
        return Compared(missing=missing, must_be_known=bool(found.missing))
    try:
        difference = against_declared(world, world.adapters.driver(entry.account), entry, found.facts)
    except ExchangeError as error:
        return Compared(missing=error.what.rstrip("."))
    if found.owner is not None:
        account = Change("account", owner_name(found.owner), owner_name(declared))
        difference = replace(difference, changed=(account, *difference.changed))
    accepted = difference.lost & (entry.accept_loss | read_names(held.accepted_loss if held else None))
    return Compared(
        difference,
        told_by=found.told_by,
        accepted=accepted,
        unaccepted=difference.lost - accepted,
    )


async def _with_additions(world: World, name: str, told: Compared, asked: AskedAccount) -> Compared:
    """Say which rights the venue would add by itself, and which it may."""
    entry, manifest = world.inventory.credentials[name], asked.driver.manifest
    if manifest.unsupported(entry.permissions):
        return told
    rights = manifest.unaccepted(asked.driver.grants_for(entry.permissions), entry.accepts)
    try:
        sure = await expected(world, name, entry, asked)
    except ExchangeError:
        sure = []
    said = {each.right: f"{addition(manifest, each)} {how_to_accept(name, each)}" for each in rights}
    by_itself = {each.right for each in sure}
    return replace(
        told,
        added=tuple(text for right, text in said.items() if right in by_itself),
        may_add=tuple(text for right, text in said.items() if right not in by_itself),
    )
