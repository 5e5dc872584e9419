"""Whether the manager key speaks of the account that the credential's key is in.

A manager key of another account lists other keys, takes "revoke" for a key that it does not know, and would
mint the new key over there. So its list is believed when it shows the key that is current; or when that key
is proved dead (`liveness`), and there is nothing to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import KeyRecord, Park
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import listing, liveness, place
from keyturn.engine.liveness import Answer, Life, is_from_here, is_of_this_site, shows
from keyturn.engine.trouble import backoff
from keyturn.engine.work import Rest, Work

# A list may be behind for as long as the venue says that changes take; with the pauses of a deferral so many
# looks take half a minute.
LOOKS = 5


async def refuse_other_account(
    work: Work, listed: Sequence[KeyFacts], current: SlotInfo | None
) -> Rest | None:
    """Come back later, and in the end park, when the manager key does not list the key that is current.

    Args:
        work: of the rotation.
        listed: the manager key's list.
        current: what this step saw in the slot.
    """
    doubt = await doubt_of(work, listed, current)
    if doubt is None:
        return None
    r = work.rotation
    text = f"The manager key of {r.account} does not list the key of {r.credential} that is current"
    if r.failures < LOOKS:
        return await work.defer(backoff(r), f"{text}{doubt.why}.")
    return await work.park(
        Park.MANAGER_KEY,
        f"{text}{doubt.why}: {doubt.means}, and no key was made or revoked there.",
        f"{doubt.todo} Then: keyturn resume {r.credential}",
    )


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a list may be of another account than the key that is current."""

    #: Follows "... the key that is current".
    why: str
    #: What it may mean.
    means: str
    todo: str


async def is_witnessed(
    work: Work, listed: Sequence[KeyFacts], current: SlotInfo | None, *, anywhere: bool = False
) -> bool:
    """Tell whether a list is of the account that current is in; see `doubt_of`."""
    return await doubt_of(work, listed, current, anywhere=anywhere) is None


async def doubt_of(
    work: Work, listed: Sequence[KeyFacts], current: SlotInfo | None, *, anywhere: bool = False
) -> Doubt | None:
    """Say why a list may not be of the account that current is in; None when it is, or nothing can tell.

    Args:
        work: of the rotation whose place was listed.
        listed: the manager key's list.
        current: what this step saw in the slot.
        anywhere: current may lie in another sub-account of the manager key by now.

    Raises:
        ExchangeError: current is not on the list, and the venue cannot be asked whether it lives.
        StoreError: it cannot be read.
    """
    r = work.rotation
    if current is None or current.meta is None:
        return None
    ref = current.meta.key_ref
    if shows(listed, ref):
        return None
    known = await work.world.journal.key(r.exchange, r.account, ref)
    if anywhere and known and known.subaccount != r.subaccount:
        there = await listing.look_in(work, await work.manager(), known.subaccount)
        if shows(there, ref):
            return None
    stored = await work.store.read(work.path, Slot.CURRENT)
    if stored is None or not stored.info.meta or stored.info.meta.key_ref != ref:
        return _other_account(work, "")  # it moves at this moment; the next look tells
    answer = await liveness.ask(work, stored)
    if answer.life is Life.UNKNOWN_TO_VENUE:
        dead = is_of_this_site(work, known) or await is_from_here(work, known, await work.manager())
        return None if dead else _other_site(work, known)
    if answer.life is Life.UNCLEAR:
        # Refused, and gone from the list of the very account that has shown it before.
        return None if await is_from_here(work, known, await work.manager()) else _unclear(work, answer)
    return _other_account(work, " and alive" if answer.is_known else "")


def _other_account(work: Work, why: str) -> Doubt:
    return Doubt(
        why,
        "it manages another account or sub-account",
        "See `subaccount` of the inventory, and whose key the manager key is; put the right one:"
        f" keyturn put --manager {work.rotation.account}.",
    )


def _other_site(work: Work, known: KeyRecord | None) -> Doubt:
    asked = place.here(work.world, work.rotation.account)
    if known is not None and known.known_at is not None:
        means = f"the key was last seen at {known.known_at}, and {asked} was asked"
    else:
        means = f"neither {asked} nor this manager key has ever shown that key, so it may live elsewhere"
    return Doubt(
        ", and the exchange knows no such key",
        means,
        f"See `url`, `environment` and `subaccount` of the account {work.rotation.account} in the inventory,"
        " and at the exchange whose key it is.",
    )


def _unclear(work: Work, answer: Answer) -> Doubt:
    told = answer.error.what if answer.error else ""
    return Doubt(
        f", and whether it lives is not clear ({told.rstrip('.')})",
        "the manager key may be another account's, or the stored key may be no longer whole",
        f"See at the exchange whether the key lives, and whose key the manager key of"
        f" {work.rotation.account} is; put the right one: keyturn put --manager {work.rotation.account}.",
    )
