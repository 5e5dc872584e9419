"""How a flow run ends: the state of a rotation in Prefect's words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect.client.schemas.objects import State as RunState
from prefect.states import Completed, Failed

from keyturn.domain.rotation import State
from tasks.boundary import PlainError, PlainRefusalError
from tasks.view import RotationView

Ending = RunState[Any]


def moment(at: datetime | None) -> str:
    """Write a time the way that messages and artifacts do."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""


def ending(view: RotationView) -> Ending:
    """Give the state in which a run ends that leaves the rotation like this."""
    if view.state is State.COMPLETED:
        return Completed(message=_completed(view))
    if view.state is State.ABORTED:
        return Failed(name="Aborted", message=_aborted(view))
    if view.state is State.PARKED:
        return Failed(name="Parked", message=_parked(view))
    return Completed(name="Waiting", message=_waiting(view))


def _completed(view: RotationView) -> str:
    new = f"{view.credential}: the key {view.new_fingerprint} is current"
    if view.old_fingerprint is None:
        return f"{new}; there was none before it."
    return f"{new}; the old key {view.old_fingerprint} is dead: {view.death_proof}."


def _aborted(view: RotationView) -> str:
    return (
        f"The rotation of {view.credential} was undone: {view.abort_reason or 'somebody asked for it'}\n"
        f"Now: {view.undone}\n"
        f"Do: mend the cause; keyturn history {view.credential} tells the rest."
    )


def _parked(view: RotationView) -> str:
    return (
        f"The rotation of {view.credential} needs a person: {view.parked_why}\n"
        f"Now: rotation {view.rotation_id} is parked; nothing is revoked from there.\n"
        f"Do: {view.parked_todo}"
    )


def _waiting(view: RotationView) -> str:
    until = f" It goes on at {moment(view.wake_at)}, by the sweep." if view.wake_at else ""
    return f"{view.credential} is {view.state} and waits for {view.waiting_for}.{until}"


def told(error: PlainError) -> Ending:
    """Give the state in which a run ends that was refused or failed."""
    name = "Refused" if isinstance(error, PlainRefusalError) else "Failed"
    return Failed(name=name, message=str(error))
