"""What is true now, from the journal and the inventory alone: fast enough to type idly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from keyturn.domain.comparison import Discrepancy
from keyturn.domain.rotation import Rotation, State
from keyturn.domain.schedule import Due
from keyturn.engine import findings
from keyturn.engine.sweep import due_dates
from keyturn.engine.world import World


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """One line of `keyturn status`."""

    credential: str
    exchange: str
    account: str
    #: `idle` when no rotation is open; otherwise the open rotation's state.
    state: str
    #: None when the inventory does not have the credential, or no longer.
    due: Due | None
    #: Of the key that the last promotion made current; None before the first.
    fingerprint: str | None = None
    rotation_id: str | None = None
    last_rotated_at: datetime | None = None
    wake_at: datetime | None = None
    problem: str = ""
    todo: str = ""
    #: Keys of which journal, store and exchange did not say the same when a sweep compared them last.
    differences: tuple[Discrepancy, ...] = ()


async def status(world: World) -> Sequence[CredentialStatus]:
    """Give a line for every credential of the inventory, in its order; then for what is open beside it."""
    latest = {r.credential: r for r in await world.journal.latest()}
    completed = {r.credential: r for r in await world.journal.last_completed()}
    due = await due_dates(world)
    differ: dict[str, list[Discrepancy]] = {}
    for difference in await findings.standing(world.journal):
        differ.setdefault(difference.credential, []).append(difference)
    lines = [_line(world, name, latest.get(name), completed.get(name), due[name]) for name in due]
    # A name that was changed or removed in the midst of a rotation: two keys may live, and nobody knows.
    strays = [r for name, r in latest.items() if r.is_open and name not in due]
    lines += [_stray(rotation, completed.get(rotation.credential)) for rotation in strays]
    named = {line.credential for line in lines}
    # Keys that live on under a name that was changed or removed.
    lines += [_gone(name, latest.get(name)) for name in differ if name not in named]
    return [replace(line, differences=tuple(differ.get(line.credential, ()))) for line in lines]


def _line(
    world: World, name: str, latest: Rotation | None, completed: Rotation | None, due: Due
) -> CredentialStatus:
    account = world.inventory.credentials[name].account
    problem, todo = "", ""
    if latest and latest.state is State.PARKED:
        problem, todo = latest.parked_why, latest.parked_todo
    elif latest and latest.is_open:
        problem = latest.problem
    elif latest and latest.state is State.ABORTED and latest is not completed:
        problem = f"The last rotation was aborted: {latest.abort_reason}"
    return CredentialStatus(
        credential=name,
        exchange=world.inventory.accounts[account].exchange,
        account=account,
        state=str(latest.state) if latest and latest.is_open else "idle",
        due=due,
        fingerprint=_fingerprint(latest, completed),
        rotation_id=latest.id if latest else None,
        last_rotated_at=completed.promoted_at if completed else None,
        wake_at=latest.wake_at if latest and latest.is_open else None,
        problem=problem,
        todo=todo,
    )


def _stray(rotation: Rotation, completed: Rotation | None) -> CredentialStatus:
    """Describe an open rotation of a credential that is not in the inventory."""
    why = rotation.parked_why or rotation.problem
    return CredentialStatus(
        credential=rotation.credential,
        exchange=rotation.exchange,
        account=rotation.account,
        state=str(rotation.state),
        due=None,
        fingerprint=_fingerprint(rotation, completed),
        rotation_id=rotation.id,
        last_rotated_at=completed.promoted_at if completed else None,
        wake_at=rotation.wake_at,
        problem=" ".join(filter(None, ("It is not in the inventory, and its rotation is open.", why))),
        todo="Put its entry back under this name, and let the rotation end before you change the name.",
    )


def _gone(name: str, latest: Rotation | None) -> CredentialStatus:
    """Describe a credential that is not in the inventory, and of which a key lives."""
    return CredentialStatus(
        credential=name,
        exchange=latest.exchange if latest else "-",
        account=latest.account if latest else "-",
        state="idle",
        due=None,
        problem="It is not in the inventory, and a key of it lives.",
    )


def _fingerprint(latest: Rotation | None, completed: Rotation | None) -> str | None:
    current = latest.new_fingerprint if latest and _is_current(latest) else None
    if current is None and latest and latest.is_open:
        current = latest.old_fingerprint
    return current or (completed.new_fingerprint if completed else None)


def _is_current(rotation: Rotation) -> bool:
    return (
        rotation.promoted_at is not None
        and rotation.restored_at is None
        and rotation.state is not State.ABORTED
    )
