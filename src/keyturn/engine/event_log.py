"""The engine's log: a line for each event that stands in the journal, by names, ids and states alone.

What venues, stores and people said stands in the journal too. None of it is repeated here, since logs are
copied to places that no journal goes to.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from keyturn.domain import machine
from keyturn.domain.rotation import Event, EventType, Rotation, State

log = logging.getLogger("keyturn.engine")

# A person has something to do, or something outside is in the way.
_WARNINGS = frozenset({EventType.PARKED, EventType.DEFERRED, EventType.KEY_MAY_LIVE})


def opened(rotation: Rotation) -> None:
    """Log that a rotation was opened."""
    if log.isEnabledFor(logging.INFO):
        _write(EventType.OPENED, None, rotation, rotation.actor)


def committed(before: Rotation, events: Sequence[Event]) -> None:
    """Log the events of a step that stands in the journal.

    Args:
        before: the rotation as it was.
        events: what happened to it, in order.
    """
    if not log.isEnabledFor(logging.INFO):
        return  # Python prints a warning that nobody has asked for, and the command line tells it already
    for event in events:
        after = machine.apply(before, event)
        _write(event.type, before.state, after, event.actor)
        before = after


def _write(kind: EventType, was: State | None, rotation: Rotation, actor: str) -> None:
    told: dict[str, Any] = {
        "event": str(kind),
        "credential": rotation.credential,
        "rotation": rotation.id,
        "state": str(rotation.state),
        "exchange": rotation.exchange,
        "account": rotation.account,
        "attempt": rotation.attempt,
        "actor": actor,
    }
    if was is not None and was is not rotation.state:
        told["was"] = str(was)
    if rotation.state is State.PARKED and rotation.parked:
        told["parked"] = str(rotation.parked)
    if rotation.wake_at is not None:
        told["wake_at"] = rotation.wake_at.isoformat(timespec="seconds")
    level = logging.WARNING if kind in _WARNINGS else logging.INFO
    way = f"{was} -> {rotation.state}" if "was" in told else str(rotation.state)
    log.log(level, "%s %s: %s (%s)", rotation.credential, rotation.id, kind, way, extra={"keyturn": told})
