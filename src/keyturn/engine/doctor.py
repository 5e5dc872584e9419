"""Read-only checks against the real world, before it matters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import timedelta

from keyturn.domain.errors import ExchangeError, KeyturnError
from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import parse_label
from keyturn.domain.manifest import DriverManifest
from keyturn.domain.slots import Slot
from keyturn.engine import books, place
from keyturn.engine.commands import with_reason
from keyturn.engine.difference import living_key
from keyturn.engine.owner import owner_name
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller
from keyturn.ports.store import Finding

# Venues refuse calls whose time stamp is off by more than their window (Bybit 5 s, OKX 30 s); half of the
# smallest is where a person should look at the clock.
_SKEW_SECONDS = 2.5
# What a rotation needs beside the keys that are there: the new one, and one more if a worker dies.
_FREE_SLOTS = 2
# The last days of a key that its venue ends: a week holds a weekend and a person on leave.
_EXPIRES_SOON = timedelta(days=7)


async def doctor(world: World) -> Sequence[Finding]:
    """Check accounts, stores and consumers; nothing is written and nothing is changed."""
    checks: list[Awaitable[list[Finding]]] = [_journal(world), _accounts(world)]
    checks += [_store(world, name) for name in world.inventory.stores]
    checks += [_moved(world, name) for name in world.inventory.credentials]
    checks += [
        _consumer(world, consumer, name)
        for name, entry in world.inventory.credentials.items()
        for consumer in entry.consumers
    ]
    return [finding for group in await asyncio.gather(*checks) for finding in group]


async def _journal(world: World) -> list[Finding]:
    try:
        report = await world.journal.verify()
    except KeyturnError as error:
        return [Finding("journal", ok=False, detail=error.what, todo=error.todo)]
    if report.breaks:
        return [Finding("journal", ok=False, detail=report.breaks[0], todo="keyturn verify-journal")]
    return [Finding("journal", ok=True, detail=f"{report.events} events, chain whole")]


async def _accounts(world: World) -> list[Finding]:
    """Check each account by its manager key, then what lies in it."""
    untold: set[str] = set()
    groups = await asyncio.gather(*(_account(world, name, untold) for name in world.inventory.accounts))
    return [finding for group in groups for finding in group] + await _books(world, untold)


async def _account(world: World, name: str, untold: set[str]) -> list[Finding]:
    """Check an account; add it to `untold` where a manager key is told nothing of its own addresses."""
    entry, subject = world.inventory.accounts[name], f"account {name}"
    driver = world.adapters.driver(name)
    findings = [await _clock(world, name)]
    try:
        stored = await world.adapters.store(entry.manager.store).read(entry.manager.path, Slot.CURRENT)
        if stored is None:
            todo = f"keyturn put --manager {name}"
            return [*findings, Finding(subject, ok=False, detail="there is no manager key", todo=todo)]
        manager = Caller(stored.material, entry.egress_proxy)
        facts = await driver.introspect(manager)
    except KeyturnError as error:
        return [*findings, Finding(subject, ok=False, detail=f"manager key: {error.what}", todo=error.todo)]
    findings += _manager(world, name, driver.manifest, facts)
    if facts.ip_allowlist is None:
        untold.add(name)
    return findings


def _manager(world: World, name: str, manifest: DriverManifest, facts: KeyFacts) -> list[Finding]:
    """Judge what the manager key of an account may do, from where, and for how long."""
    subject, needs, findings = f"account {name}", ", ".join(manifest.manager_needs()), []
    if not facts.permissions & {*manifest.manager_any_of}:
        todo = f"Give it one of: {needs}"
        findings.append(Finding(subject, ok=False, detail="the manager key may not manage keys", todo=todo))
    else:
        findings.append(Finding(subject, ok=True, detail="the manager key works and may manage keys"))
    if more := manifest.manager_excess(facts):
        detail = f"the manager key may also {', '.join(more)}"
        todo = f"Take that right away: to manage keys it needs only one of: {needs}."
        findings.append(Finding(subject, ok=False, detail=detail, todo=todo))
    findings += _binding(subject, facts)
    todo = f"Make a new manager key before then: keyturn put --manager {name}"
    return findings + _expiry(world, subject, "the manager key", facts, todo)


def _binding(subject: str, facts: KeyFacts) -> list[Finding]:
    """Name a manager key that works from anywhere; nothing where the venue does not tell."""
    if facts.ip_allowlist is None or facts.ip_allowlist:
        return []
    todo = "Bind it to this machine's address: whoever steals it could mint keys from anywhere."
    return [Finding(subject, ok=False, detail="the manager key is not bound to addresses", todo=todo)]


def _expiry(world: World, subject: str, what: str, facts: KeyFacts, todo: str) -> list[Finding]:
    """Tell when the venue ends a key; not well in the last days, in which a person must act."""
    if facts.expires_at is None:
        return []
    soon = facts.expires_at - world.clock.now() < _EXPIRES_SOON
    detail = f"{what} ends on {facts.expires_at:%Y-%m-%d}, by the exchange"
    return [Finding(subject, ok=not soon, detail=detail, todo=todo if soon else "")]


async def _clock(world: World, name: str) -> Finding:
    try:
        before = world.clock.now()
        venue = await world.adapters.driver(name).server_time()
        after = world.clock.now()
    except KeyturnError as error:
        return Finding(f"account {name}", ok=False, detail=error.what, todo=error.todo)
    skew = (venue - (before + (after - before) / 2)).total_seconds()
    ok = abs(skew) <= _SKEW_SECONDS
    todo = "" if ok else "Set this machine's clock (NTP)."
    return Finding(f"account {name}", ok=ok, detail=f"clock skew {skew:+.1f} s", todo=todo)


async def _books(world: World, untold: set[str]) -> list[Finding]:
    """Compare journal, stores and exchanges (invariant 8), and see that there is room for new keys."""
    try:
        comparison = await books.compare(world)
    except KeyturnError:
        return []  # the journal's own check tells
    findings = [
        finding for each in comparison.listings.values() for finding in await _place(world, each, untold)
    ]
    differ = {difference.credential for difference in comparison.differences}
    findings += [
        Finding(f"credential {name}", ok=True, detail="journal, store and exchange say the same")
        for name in comparison.compared
        if name not in differ
    ]
    return findings + [
        Finding(f"credential {each.credential}", ok=False, detail=each.what, todo=each.todo)
        for each in comparison.differences
    ]


async def _place(world: World, listing: books.Listing, untold: set[str]) -> list[Finding]:
    account, keys = listing.owner.account, listing.keys
    subject = owner_name(listing.owner)
    if listing.problem is not None:
        # Of the account itself its own check tells.
        told = isinstance(listing.problem, ExchangeError)
        return [Finding(subject, ok=False, detail=listing.problem.what, todo=listing.problem.todo)] * told
    limit = world.adapters.driver(account).manifest.max_keys
    room = limit is None or limit - len(keys) >= _FREE_SLOTS
    of = f" of {limit}" if limit else ""
    todo = "" if room else f"Make room for {_FREE_SLOTS} keys: a rotation adds one before it revokes one."
    findings = [Finding(subject, ok=room, detail=f"{len(keys)}{of} keys", todo=todo)]
    findings += await _bots(world, account, listing.owner.subaccount, keys)
    exchange = world.inventory.accounts[account].exchange
    for facts in keys:
        if facts.key_ref == listing.manager_ref:
            findings += _binding(f"account {account}", facts) if account in untold else []
            continue
        if await world.journal.key(exchange, account, facts.key_ref):
            continue
        attempt = parse_label(facts.label or "")
        if attempt is not None and await world.journal.get(attempt.rotation_id):
            continue  # the comparison names it
        kind = "bears a label of keyturn that this journal does not know" if attempt else "is foreign"
        findings.append(
            Finding(subject, ok=attempt is None, detail=f"a key {kind}; keyturn never touches it")
        )
    return findings


async def _bots(
    world: World, account: str, subaccount: str | None, keys: Sequence[KeyFacts]
) -> list[Finding]:
    """Tell when the venue ends the current keys of a place; a store that fails is told of elsewhere."""
    findings: list[Finding] = []
    for name, entry in world.inventory.credentials.items():
        if (entry.account, entry.subaccount) != (account, subaccount):
            continue
        address = world.inventory.store_of(name)
        try:
            current = await world.adapters.store(address.store).peek(address.path, Slot.CURRENT)
        except KeyturnError:
            continue
        if (facts := living_key(keys, current)) is not None:
            todo = f"Rotate it before then: {with_reason('rotate', name)}"
            findings += _expiry(world, f"credential {name}", "the current key", facts, todo)
    return findings


async def _store(world: World, name: str) -> list[Finding]:
    inventory = world.inventory
    paths = [a.manager.path for a in inventory.accounts.values() if a.manager.store == name]
    paths += [
        inventory.store_of(c).path for c in inventory.credentials if inventory.store_of(c).store == name
    ]
    entries = inventory.credentials.values()
    paths += [m.path for entry in entries for m in entry.mirrors if m.store == name]
    try:
        return list(await world.adapters.store(name).check(paths))
    except KeyturnError as error:
        return [Finding(f"store {name}", ok=False, detail=error.what, todo=error.todo)]


async def _moved(world: World, name: str) -> list[Finding]:
    """Name a credential whose living keys lie at another place than the inventory names."""
    try:
        told = await place.obstacles(world, name)
    except KeyturnError as error:
        return [Finding(f"credential {name}", ok=False, detail=error.what, todo=error.todo)]
    todo = (
        f"If it is the same site: {with_reason('rotate', name)}, then: keyturn resume {name}."
        " Else put `url`, `site` and `environment` of the account back."
    )
    return [Finding(f"credential {name}", ok=False, detail=text, todo=todo) for text in told]


async def _consumer(world: World, consumer: str, credential: str) -> list[Finding]:
    try:
        return list(await world.adapters.consumer(consumer, credential).check())
    except KeyturnError as error:
        return [Finding(f"consumer {consumer}", ok=False, detail=error.what, todo=error.todo)]
