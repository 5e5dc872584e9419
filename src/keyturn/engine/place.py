"""Whether a credential's keys lie where the inventory has them now.

The inventory's `url`, `site` and `environment` say where an account is called. When they change, a key that
lives at the old place is unknown at the new one: it would count as dead, and its successor would be made over
there. So the journal holds where each key lies, and a change parks until a person says that it is the same
place (a proxy, another name of the site).
"""

from __future__ import annotations

from dataclasses import replace

from keyturn.domain.errors import RefusedError
from keyturn.domain.place import place_of
from keyturn.domain.rotation import Fate, KeyRecord, Park
from keyturn.engine.work import Rest, Work
from keyturn.engine.world import World

_LIVING = frozenset({Fate.INTENDED, Fate.LIVE, Fate.REVOKING})


def here(world: World, account: str) -> str:
    """Name the place of an account as the inventory has it now.

    Raises:
        RefusedError: it is not in the inventory.
    """
    entry = world.inventory.accounts.get(account)
    if entry is None:
        raise RefusedError(
            f"Account {account} is not in the inventory.",
            now="Nothing was changed.",
            todo="Put the entry back.",
        )
    return place_of(entry, world.manifests[entry.exchange])


def lies_here(world: World, record: KeyRecord) -> bool:
    """Tell whether a call of the key's account would reach the place where it lies, as far as is known.

    What another place says of a key is no word about it: nothing is concluded, and nothing revoked, there.
    """
    if record.place is None or record.account not in world.inventory.accounts:
        return True
    return record.place == here(world, record.account)


async def left_behind(world: World, credential: str) -> list[KeyRecord]:
    """Give the keys of a credential that may live and lie elsewhere than the inventory has them."""
    records = await world.journal.keys(credential)
    return [record for record in records if record.fate in _LIVING and not lies_here(world, record)]


async def refuse_moved_rotation(work: Work) -> Rest | None:
    """Park a rotation whose keys were made elsewhere, before anything is asked or done at this place."""
    r = work.rotation
    if r.place is None or r.account not in work.world.inventory.accounts:
        return None  # of the latter, the step tells
    return None if r.place == here(work.world, r.account) else await _park(work, [r.place])


async def refuse_moved_keys(work: Work) -> Rest | None:
    """Park, before anything is made, when living keys of the credential lie elsewhere."""
    places = await _other_places(work.world, work.rotation.credential)
    return await _park(work, places) if places else None


async def obstacles(world: World, credential: str) -> list[str]:
    """Say, for a plan, that a rotation would park since living keys of the credential lie elsewhere."""
    places = await _other_places(world, credential)
    account = world.inventory.credentials[credential].account
    return [_told(credential, places, here(world, account))] if places else []


async def _other_places(world: World, credential: str) -> list[str]:
    return sorted({record.place for record in await left_behind(world, credential) if record.place})


async def _park(work: Work, places: list[str]) -> Rest:
    r = work.rotation
    return await work.park(Park.MOVED, _told(r.credential, places, here(work.world, r.account)), _todo(work))


def _told(credential: str, places: list[str], now: str) -> str:
    return (
        f"The living keys of {credential} lie at {', '.join(places)}, and the inventory names {now} by now."
        " Nothing was asked, made or revoked there."
    )


def _todo(work: Work) -> str:
    r = work.rotation
    return (
        f"If that is the same site (a proxy, another name of it): keyturn resume {r.credential}. Else put"
        f" `url`, `site` and `environment` of account {r.account} back, and then: keyturn resume"
        f" {r.credential}. If the account itself moved to another site, its keys did not: delete them at the"
        " old one first."
    )


async def taken_over(work: Work) -> tuple[str, tuple[KeyRecord, ...]]:
    """Give this place, and the records of the keys that a person says lie here."""
    now = here(work.world, work.rotation.account)
    behind = await left_behind(work.world, work.rotation.credential)
    return now, tuple(replace(record, place=now) for record in behind)
