"""Three books are compared: what the journal has as living, what the slots show, what the exchange lists.

None of them is believed alone. A slot that was emptied, moved or restored makes no living key forgotten, and
a list says nothing of a key of another account or sub-account. Nothing is changed here; what differs is
named, with the command that leads on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from keyturn.domain.comparison import Discrepancy
from keyturn.domain.errors import ExchangeError, KeyturnError
from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import parse_label
from keyturn.domain.rotation import Fate, KeyRecord, Origin, Rotation
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import retries
from keyturn.engine.commands import with_reason
from keyturn.engine.liveness import Life, shows, told_by
from keyturn.engine.owner import Owner, owner_name
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller

# So many credentials are looked at at the same time: a throttle for stores that are asked over a network.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Listing:
    """What the manager key of an account lists of one (sub-)account; `problem` when it could not be asked."""

    owner: Owner
    keys: Sequence[KeyFacts] = ()
    #: Of the key that listed them, which may be among them.
    manager_ref: str = ""
    problem: KeyturnError | None = None


@dataclass(frozen=True, slots=True)
class _Book:
    """What journal and store say of one credential."""

    name: str
    records: Sequence[KeyRecord]
    current: SlotInfo | None
    #: The refs that any slot of any of its stores shows.
    slotted: frozenset[str]
    held: Rotation | None
    problem: KeyturnError | None = None

    @property
    def shown(self) -> str | None:
        """The ref of the key that is current, as far as the document says it."""
        return self.current.meta.key_ref if self.current and self.current.meta else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs, and what the managers listed on the way."""

    differences: Sequence[Discrepancy]
    #: The credentials of which all three books were read.
    compared: Sequence[str]
    listings: Mapping[Owner, Listing] = field(default_factory=dict)


def newest_records(records: Iterable[KeyRecord]) -> list[KeyRecord]:
    """Give one record a key: what was written of it last, and not the one that was forgotten since."""
    found: dict[str, KeyRecord] = {}
    for record in records:
        name = record.key_ref or record.key_id
        if name in found and record.fate is Fate.FORGOTTEN:
            continue
        found[name] = record
    return list(found.values())


async def living(world: World, credential: str) -> list[KeyRecord]:
    """Give the keys that the journal has as living for a credential, the newest first."""
    records = newest_records(await world.journal.keys(credential))
    found = [record for record in records if record.may_live]
    return sorted(found, key=lambda record: (record.fate is Fate.LIVE, record.recorded_at), reverse=True)


async def beside(world: World, credential: str, current: SlotInfo | None) -> list[KeyRecord]:
    """Give the living keys of a credential that are not current, the newest first.

    Args:
        world: at hand.
        credential: without an open rotation.
        current: as the store shows it.
    """
    shown = current.meta.key_ref if current and current.meta else None
    return [record for record in await living(world, credential) if record.key_ref != shown]


def newest_of(records: Iterable[KeyRecord], exchange: str, account: str) -> KeyRecord | None:
    """Give the first living key of an account: of those that no slot names, the one that bots use perhaps."""
    here = (r for r in records if (r.exchange, r.account) == (exchange, account) and r.fate is Fate.LIVE)
    return next(here, None)


def unnamed(record: KeyRecord) -> tuple[str, str]:
    """Name a living key that no slot names, and say what it is."""
    owner = owner_name(Owner(record.account, record.subaccount))
    return (
        record.fingerprint or record.key_id,
        f"the journal has it as living in {owner}, and no slot names it",
    )


async def compare(world: World, names: Iterable[str] | None = None) -> Comparison:
    """Compare the three books of credentials; what a rotation has in hand is its own affair.

    Args:
        world: at hand.
        names: of the inventory; None for all.

    Raises:
        JournalError: the journal fails.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(name: str) -> _Book:
        async with gate:
            return await _book(world, name)

    wanted = list(world.inventory.credentials if names is None else names)
    books = await asyncio.gather(*map(read, wanted))
    listings = await _listings(world, books)
    found: list[Discrepancy] = []
    for book in books:
        if book.held is None:
            found += await _of_credential(world, book, listings)
    open_now = {book.name for book in books if book.held is not None}
    for listing in listings.values():
        found += await _of_list(world, listing, {book.name: book for book in books}, open_now)
    compared = [b.name for b in books if _is_whole(world, b, listings)]
    return Comparison(found, compared, listings)


def _is_whole(world: World, book: _Book, listings: Mapping[Owner, Listing]) -> bool:
    listing = listings.get(_owner_of(world, book.name))
    return book.held is None and book.problem is None and listing is not None and listing.problem is None


def _owner_of(world: World, name: str) -> Owner:
    entry = world.inventory.credentials[name]
    return Owner(entry.account, entry.subaccount)


# -- journal and store -----------------------------------------------------------------------


async def _book(world: World, name: str) -> _Book:
    records = newest_records(await world.journal.keys(name))
    held = await world.journal.open_rotation(name)
    if held is not None:
        return _Book(name, records, None, frozenset(), held)
    try:
        address = world.inventory.store_of(name)
        current = await world.adapters.store(address.store).peek(address.path, Slot.CURRENT)
        shown = {current.meta.key_ref} if current and current.meta else set()
        if any(record.may_live and record.key_ref not in shown for record in records):
            shown |= await _other_slots(world, name)
    except KeyturnError as error:
        return _Book(name, records, None, frozenset(), None, error)
    return _Book(name, records, current, frozenset(shown), None)


async def _other_slots(world: World, name: str) -> set[str]:
    """Give the refs in the slots beside the primary's current, and in all of the mirrors'."""
    primary = world.inventory.store_of(name)
    looks = [(primary, slot) for slot in (Slot.PENDING, Slot.PREVIOUS)]
    looks += [(mirror, slot) for mirror in world.inventory.credentials[name].mirrors for slot in Slot]
    infos = [await world.adapters.store(address.store).peek(address.path, slot) for address, slot in looks]
    return {info.meta.key_ref for info in infos if info and info.meta}


# -- the exchange's lists ---------------------------------------------------------------------


async def _listings(world: World, books: Sequence[_Book]) -> dict[Owner, Listing]:
    """Ask each manager key once for each (sub-)account where a key of the books should be, or was made."""
    owners = dict.fromkeys(_owner_of(world, book.name) for book in books)
    for book in books:
        exchange = world.inventory.accounts[world.inventory.credentials[book.name].account].exchange
        for record in book.records:
            account = world.inventory.accounts.get(record.account)
            if record.may_live and account and account.exchange == record.exchange == exchange:
                owners[Owner(record.account, record.subaccount)] = None
    by_account: dict[str, list[Owner]] = {}
    for owner in owners:
        by_account.setdefault(owner.account, []).append(owner)
    groups = await asyncio.gather(*(_of_account(world, name, each) for name, each in by_account.items()))
    return {listing.owner: listing for group in groups for listing in group}


async def _of_account(world: World, account: str, owners: Sequence[Owner]) -> list[Listing]:
    entry = world.inventory.accounts[account]
    try:
        stored = await world.adapters.store(entry.manager.store).read(entry.manager.path, Slot.CURRENT)
    except KeyturnError as error:
        return [Listing(owner, problem=error) for owner in owners]
    if stored is None:
        missing = KeyturnError(
            f"There is no manager key for account {account}.", todo=f"keyturn put --manager {account}"
        )
        return [Listing(owner, problem=missing) for owner in owners]
    caller = Caller(stored.material, entry.egress_proxy)
    driver, gate = world.adapters.driver(account), asyncio.Semaphore(_AT_ONCE)

    async def listed(owner: Owner) -> Listing:
        # The driver keeps the venue's pace. One after the other, a thousand lists took 50 seconds where each
        # answer takes 50 ms.
        async with gate:
            try:
                keys = await driver.list_keys(caller, owner.subaccount)
            except KeyturnError as error:
                return Listing(owner, problem=error)
        return Listing(owner, keys, stored.material.key_ref)

    return list(await asyncio.gather(*map(listed, owners)))


# -- what differs -----------------------------------------------------------------------------


async def _of_credential(world: World, book: _Book, listings: Mapping[Owner, Listing]) -> list[Discrepancy]:
    if book.problem is not None:
        return [
            Discrepancy(
                book.name, "", f"its store could not be looked at: {book.problem.what}", book.problem.todo
            )
        ]
    orphans = [r for r in book.records if r.may_live and r.key_ref not in book.slotted]
    found = [await _orphan(world, record, listings) for record in orphans]
    if book.current is None:
        return found
    record = next((r for r in book.records if r.key_ref == book.shown and r.fate is not Fate.FORGOTTEN), None)
    if record is None:
        what = "the key that is current is not in the journal, so no rotation may replace it"
        return [*found, Discrepancy(book.name, "", what, f"keyturn adopt {book.name}")]
    return found + await _of_current(world, record, listings)


async def _orphan(world: World, record: KeyRecord, listings: Mapping[Owner, Listing]) -> Discrepancy:
    listing = listings.get(Owner(record.account, record.subaccount))
    lists = "the exchange could not be asked"
    if listing is not None and listing.problem is None:
        listed = shows(listing.keys, record.key_ref)
        lists = "the exchange lists it" if listed else "the exchange does not list it there"
    mark, why = unnamed(record)
    todo = f"The next rotation revokes it: {with_reason('rotate', record.credential)}"
    if listing is not None and listing.manager_ref == record.key_ref:
        lists = "it manages the account"
        todo = f"No rotation revokes that one: keyturn forget {record.credential} {mark}"
    elif (tries := await _tries(world, record)) is not None and tries.are_enough:
        why = f"the exchange was told {tries.count} times to revoke it, and has never said that it did"
        todo = _look_at_it(world, record)
    return Discrepancy(
        record.credential,
        record.key_id,
        f"the key {mark} is forgotten: {why}; {lists}",
        todo,
    )


async def _tries(world: World, record: KeyRecord) -> retries.Tries | None:
    """Count the revokes of a key that an attempt made and that is to die; None of another one."""
    doomed = record.fate is Fate.REVOKING and record.attempt is not None
    return await retries.tries(world.journal, record) if doomed else None


def _look_at_it(world: World, record: KeyRecord) -> str:
    console, label = "the exchange's console", record.key_id
    if record.attempt and record.account in world.inventory.accounts:
        manifest = world.adapters.driver(record.account).manifest
        console, label = manifest.console_url, record.attempt.label(manifest.label.separator)
    return (
        f"Look at {console} for the key {label}, and delete it there. keyturn goes on asking, a few times an"
        " hour."
    )


async def _of_current(
    world: World, record: KeyRecord, listings: Mapping[Owner, Listing]
) -> list[Discrepancy]:
    """Say what is wrong when the key that is current is not listed where the inventory says that it is."""
    name, here = record.credential, _owner_of(world, record.credential)
    listing = listings[here]
    if listing.problem is not None or shows(listing.keys, record.key_ref):
        return []
    for owner, other in listings.items():
        if owner.account == here.account and shows(other.keys, record.key_ref):
            what = (
                f"the key {record.fingerprint} is one of {owner_name(owner)}, and the inventory says"
                f" {owner_name(here)}"
            )
            todo = (
                f"Correct `subaccount` of {name} in the inventory. If the inventory is right, the key was put"
                f" by mistake: keyturn forget {name}, then put the right one."
            )
            return [Discrepancy(name, record.key_id, what, todo)]
    what, todo = await _asked(world, record, here)
    return [Discrepancy(name, record.key_id, what, todo)]


async def _asked(world: World, record: KeyRecord, here: Owner) -> tuple[str, str]:
    """Ask the exchange about a current key that its list does not show; give what is true and what to do."""
    name = record.credential
    unlisted = f"the key that is current ({record.fingerprint}) is not listed in {owner_name(here)}"
    rotate = f"Replace it: {with_reason('rotate', name)}"
    address, entry = world.inventory.store_of(name), world.inventory.credentials[name]
    try:
        stored = await world.adapters.store(address.store).read(address.path, Slot.CURRENT)
        if stored is None:
            return f"{unlisted}, and its secret is gone", rotate
        await world.adapters.driver(here.account).private_read(Caller(stored.material, entry.egress_proxy))
    except ExchangeError as error:
        answer = told_by(error)
        if answer is not None and answer.life is Life.UNKNOWN_TO_VENUE:
            return f"the exchange does not know the key that is current ({record.fingerprint})", rotate
        return f"{unlisted}, and it could not be tried from here: {error.what}", rotate
    except KeyturnError as error:
        return f"{unlisted}, and it could not be read: {error.what}", error.todo
    todo = (
        f"See `account` and `subaccount` of {name} in the inventory, and whose key the manager key is:"
        f" keyturn put --manager {here.account}"
    )
    return f"{unlisted}, and lives: it is one of another account or sub-account", todo


async def _of_list(
    world: World, listing: Listing, books: Mapping[str, _Book], open_now: set[str]
) -> list[Discrepancy]:
    """Name the listed keys that are, or were, ours and that no slot names."""
    exchange, found = world.inventory.accounts[listing.owner.account].exchange, []
    for facts in listing.keys:
        if facts.key_ref == listing.manager_ref:
            continue
        record = await world.journal.key(exchange, listing.owner.account, facts.key_ref)
        if record is None:
            found += await _labelled(world, listing.owner, facts)
        elif record.credential in open_now or _is_slotted(books, record):
            continue
        elif record.credential not in world.inventory.credentials:
            found.append(_stray(listing.owner, record))
        elif not record.may_live:
            what = (
                f"the key {record.fingerprint} is recorded as {record.fate.value.replace('_', ' ')}, and"
                f" {owner_name(listing.owner)} lists it"
            )
            todo = "Delete it at the exchange."
            if record.origin is Origin.MINTED:
                todo = f"The next rotation revokes it once more: {with_reason('rotate', record.credential)}"
            found.append(Discrepancy(record.credential, record.key_id, what, todo))
    return found


def _is_slotted(books: Mapping[str, _Book], record: KeyRecord) -> bool:
    book = books.get(record.credential)
    return book is not None and record.key_ref in book.slotted


def _stray(owner: Owner, record: KeyRecord) -> Discrepancy:
    return Discrepancy(
        record.credential,
        record.key_id,
        f"the key {record.fingerprint} of {record.credential}, which is not in the inventory, lives in"
        f" {owner_name(owner)}",
        "Was it renamed: keyturn adopt NAME, with the new name. Otherwise delete the key at the exchange,"
        f" then: keyturn forget {record.credential} {record.fingerprint}",
    )


async def _labelled(world: World, owner: Owner, facts: KeyFacts) -> list[Discrepancy]:
    """Name a key whose label is one of our attempts, and whose ref the journal never got to know."""
    attempt = parse_label(facts.label or "")
    rotation = await world.journal.get(attempt.rotation_id) if attempt else None
    if rotation is None or (rotation.is_open and rotation.current_attempt == attempt):
        return []
    return [
        Discrepancy(
            rotation.credential,
            str(attempt),
            f"a key that attempt {attempt} made lives in {owner_name(owner)}, and no slot names it",
            "The sweep looks after it: keyturn sweep",
        )
    ]
