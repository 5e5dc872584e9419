"""What Prefect may see of a rotation: ids, states, times, fingerprints, texts. No key refs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keyturn.domain.rotation import Rotation, State


@dataclass(frozen=True)
class RotationView:
    """A rotation as it stood when a task looked at it."""

    rotation_id: str
    credential: str
    state: State
    #: True: nothing to do right now. Then `wake_at` says when to come back (None: a person is needed,
    #: or it is over) and `waiting_for` for what.
    rests: bool
    wake_at: datetime | None
    waiting_for: str
    #: How far it has come; unchanged `seq` means that nothing happened.
    seq: int
    old_fingerprint: str | None
    new_fingerprint: str | None
    grace_until: datetime | None
    death_proof: str
    abort_reason: str
    #: What is true after it was undone; empty otherwise.
    undone: str
    parked_why: str
    parked_todo: str

    @property
    def is_open(self) -> bool:
        """Whether the rotation still has something to do."""
        return self.state not in {State.COMPLETED, State.ABORTED}


def view_of(
    rotation: Rotation,
    *,
    rests: bool,
    wake_at: datetime | None = None,
    waiting_for: str = "",
    undone: str = "",
) -> RotationView:
    """Give the public side of a rotation."""
    return RotationView(
        rotation_id=rotation.id,
        credential=rotation.credential,
        state=rotation.state,
        rests=rests,
        wake_at=wake_at,
        waiting_for=waiting_for,
        seq=rotation.seq,
        old_fingerprint=rotation.old_fingerprint,
        new_fingerprint=rotation.new_fingerprint,
        grace_until=rotation.grace_until,
        death_proof=rotation.death_proof,
        abort_reason=rotation.abort_reason,
        undone=undone,
        parked_why=rotation.parked_why,
        parked_todo=rotation.parked_todo,
    )
