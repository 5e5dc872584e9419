"""Accounts whose exchange wants no calls now: all of their credentials wait, whichever of them was told.

It bars this machine, or has asked for fewer calls of the account and said for how long.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from keyturn.domain.errors import ExchangeError, ExchangeFault, KeyturnError
from keyturn.domain.rotation import Event, EventType, Rotation, State
from keyturn.engine.world import World

#: Of the event that puts a rotation off for a ban.
NOTE = "the exchange bars the address that calls of this account come from"
#: Begins the note of one that puts a rotation off because fewer calls were asked for; until when follows.
_FEWER = "the exchange asked for no calls of this account before "
#: What goes on all the same: it asks stores and consumers, or a person wants it undone now.
_NOT_HELD = frozenset({State.PROMOTED, State.CUTTING_OVER, State.ROLLING_BACK, State.PARKED})


def note(error: KeyturnError, until: datetime) -> str:
    """Give the note of the event that puts a rotation off; empty where the error is no matter of the account.

    Args:
        error: what was in the way.
        until: the end of the pause that the exchange asked for; this very moment where it asked for none.
    """
    if not isinstance(error, ExchangeError):
        return ""
    if error.fault is ExchangeFault.BARRED_REGION:
        return NOTE
    limited = error.fault is ExchangeFault.RATE_LIMITED and error.retry_after
    return f"{_FEWER}{until.isoformat(timespec='seconds')}" if limited else ""


async def accounts(world: World, latest: Iterable[Rotation]) -> frozenset[str]:
    """Give the accounts that are not asked yet, for a rotation of theirs was told to stay away.

    Args:
        world: at hand.
        latest: the last rotation of each credential.

    Raises:
        JournalError: it cannot be read.
    """
    now, barred = world.clock.now(), set[str]()
    for rotation in latest:
        # Few: a rotation that is well waits without a problem.
        waits = rotation.is_open and rotation.problem and not rotation.is_due(now)
        if not waits or rotation.account in barred:
            continue
        last = (await world.journal.events(rotation.id))[-1].event
        if last.type is EventType.DEFERRED and _stands(last, now):
            barred.add(rotation.account)
    return frozenset(barred)


def _stands(deferred: Event, now: datetime) -> bool:
    """Tell whether the pause of an account is still to be kept, of a rotation that waits by itself."""
    said = str(deferred.data.get("note", ""))
    return said == NOTE or (said.startswith(_FEWER) and now < datetime.fromisoformat(said[len(_FEWER) :]))


def holds(rotation: Rotation) -> bool:
    """Tell whether a rotation of such an account has nothing to do but to ask the exchange."""
    return rotation.state not in _NOT_HELD
