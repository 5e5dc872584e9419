"""Whether the manager key speaks of the account that the credential's key is in.

A manager key of another account lists other keys, takes "revoke" for a key that it does not know, and would
mint the new key over there. So its list is believed when it shows the key that is current; or when that key
is dead, and there is nothing to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.domain.keys import KeyFacts
from keyturn.domain.rotation import Park
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import listing, liveness
from keyturn.engine.liveness import Life
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
    if await is_witnessed(work, listed, current):
        return None
    r = work.rotation
    text = f"The manager key of {r.account} does not list the key of {r.credential} that is current and alive"
    if r.failures < LOOKS:
        return await work.defer(backoff(r), f"{text}.")
    return await work.park(
        Park.MANAGER_KEY,
        f"{text}: it manages another account or sub-account, and no key was made or revoked there.",
        f"See `subaccount` of the inventory, and whose key the manager key is; put the right one:"
        f" keyturn put --manager {r.account}. Then: keyturn resume {r.credential}",
    )


async def is_witnessed(
    work: Work, listed: Sequence[KeyFacts], current: SlotInfo | None, *, anywhere: bool = False
) -> bool:
    """Tell whether a list is of the account that current is in, as far as that can be told.

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
        return True
    ref = current.meta.key_ref
    if shows(listed, ref):
        return True
    known = await work.world.journal.key(r.exchange, r.account, ref) if anywhere else None
    if known and known.subaccount != r.subaccount:
        there = await listing.look_in(work, await work.manager(), known.subaccount)
        if shows(there, ref):
            return True
    stored = await work.store.read(work.path, Slot.CURRENT)
    if stored is None or not stored.info.meta or stored.info.meta.key_ref != ref:
        return False  # it moves at this moment; the next look tells
    answer = await liveness.ask(work, stored)
    return answer.life in {Life.UNKNOWN_TO_VENUE, Life.UNCLEAR}


def shows(listed: Sequence[KeyFacts], key_ref: str | None) -> bool:
    """Tell whether a list has a key."""
    return any(facts.key_ref == key_ref for facts in listed)
