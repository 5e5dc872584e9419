"""Accounts whose exchange bars this machine: all of their credentials wait, whichever of them was told."""

from __future__ import annotations

from collections.abc import Iterable

from keyturn.domain.rotation import EventType, Rotation, State
from keyturn.engine.world import World

#: Of the event that puts a rotation off for a ban.
NOTE = "the exchange bars the address that calls of this account come from"
#: What goes on all the same: it asks stores and consumers, or a person wants it undone now.
_NOT_HELD = frozenset({State.PROMOTED, State.CUTTING_OVER, State.ROLLING_BACK, State.PARKED})


async def accounts(world: World, latest: Iterable[Rotation]) -> frozenset[str]:
    """Give the accounts that are not asked yet, for a rotation of theirs waits for the end of a ban.

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
        if last.type is EventType.DEFERRED and last.data.get("note") == NOTE:
            barred.add(rotation.account)
    return frozenset(barred)


def holds(rotation: Rotation) -> bool:
    """Tell whether a rotation of such an account has nothing to do but to ask the exchange."""
    return rotation.state not in _NOT_HELD
