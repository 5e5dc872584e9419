"""Rights that a venue gives to new keys by itself: whether it would here, before a key is minted.

A venue has no call that tells what a new key would get. So it is told by what there is: the keys that
keyturn made in that account, the last rotation that was undone for such a right, and what the venue says of
the account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.domain.additions import addition
from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.inventory import CredentialEntry
from keyturn.domain.keys import KeyFacts
from keyturn.domain.labels import parse_label
from keyturn.domain.manifest import AddedRight, DriverManifest
from keyturn.domain.rotation import Park, Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine.work import Rest, Work
from keyturn.engine.world import World
from keyturn.ports.exchange import Caller, ExchangeDriver

# Rotations that are searched for one that was undone for such a right; the sweep doubles its pauses after
# each, so these are a week's.
_LOOK_BACK = 10
# Faults that say nothing about a key. With any other the key cannot be asked from here, and the next one is.
_PASSING = frozenset(
    {
        ExchangeFault.VENUE_DOWN,
        ExchangeFault.RATE_LIMITED,
        ExchangeFault.OUTCOME_UNKNOWN,
        ExchangeFault.CLOCK_SKEW,
    }
)


@dataclass(frozen=True, slots=True)
class AskedAccount:
    """What is asked whether it would add rights: the venue, the account's keys, and one that can ask."""

    driver: ExchangeDriver
    listed: Sequence[KeyFacts]
    #: The credential's own key, where there is one.
    own: Caller | None
    manager: Caller


def added_by(manifest: DriverManifest) -> frozenset[str]:
    """Give the rights that a venue may add by itself."""
    return frozenset(each.right for each in manifest.adds)


async def refuse_added(work: Work, manager: Caller, listed: Sequence[KeyFacts]) -> Rest | None:
    """Park when a new key would get a right that the inventory does not accept."""
    manifest, entry, r = work.driver.manifest, work.entry, work.rotation
    if not manifest.unaccepted(work.driver.grants_for(entry.permissions), entry.accepts):
        return None
    stored = await work.store.read(work.path, Slot.CURRENT)
    own = Caller(stored.material, entry.egress_proxy) if stored else None
    found = await expected(work.world, r.credential, entry, AskedAccount(work.driver, listed, own, manager))
    if not found:
        return None
    names = ", ".join(each.right for each in found)
    return await work.park(
        Park.ADDED_RIGHT,
        " ".join(addition(manifest, each) for each in found) + " The inventory does not accept that,"
        " and no key was made.",
        f"If the key may have it, write `accepts: [{names}]` into the entry of {r.credential} in the"
        f" inventory. Then: keyturn resume {r.credential}",
    )


async def expected(
    world: World, credential: str, entry: CredentialEntry, account: AskedAccount
) -> list[AddedRight]:
    """Give the rights that are not accepted, and that the venue would add, as far as that can be told.

    Raises:
        ExchangeError: the venue cannot be asked.
    """
    driver = account.driver
    rights = driver.manifest.unaccepted(driver.grants_for(entry.permissions), entry.accepts)
    if not rights:
        return []
    undone = await _undone_for(world, credential)
    found, asked = [], None
    for added in rights:
        had = _had_by_ours(added, account.listed)
        if had is None and added.right not in undone:
            asked = await _told(account) if asked is None else asked
        if had or (had is None and (added.right in undone or added.right in (asked or ()))):
            found.append(added)
    return found


def _had_by_ours(added: AddedRight, listed: Sequence[KeyFacts]) -> bool | None:
    """Tell whether keys that keyturn made there have it; None when none of them can tell."""
    ours = [facts.grants for facts in listed if parse_label(facts.label or "") is not None]
    telling = [grants for grants in ours if added.right in grants or added.is_news(grants)]
    return any(added.right in grants for grants in telling) if telling else None


async def _undone_for(world: World, credential: str) -> str:
    """Give the reasons for which the rotations since the last good one were undone."""
    reasons = []
    for rotation in await world.journal.rotations(credential, limit=_LOOK_BACK):
        if rotation.state is State.COMPLETED:
            break
        reasons.append(_reason(rotation))
    return " ".join(reasons)


def _reason(rotation: Rotation) -> str:
    return rotation.abort_reason if rotation.state is State.ABORTED else ""


async def _told(account: AskedAccount) -> frozenset[str]:
    if account.own is not None:
        try:
            return (await account.driver.introspect(account.own)).added_here
        except ExchangeError as error:
            if error.fault in _PASSING:
                raise
    return (await account.driver.introspect(account.manager)).added_here
