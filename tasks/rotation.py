"""One rotation: open it, step it, read its story."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from keyturn.domain import machine
from keyturn.domain.evidence import Confirmation, Evidence
from keyturn.domain.rotation import EventType, Mode, Park, Rotation, State
from keyturn.engine.engine import Progress
from keyturn.engine.plan import PlanLine, plan, prove_nothing, unproved
from tasks.boundary import PlainRefusalError, bounded
from tasks.view import RotationView, view_of
from tasks.world import engine, undone

# What a step is about to do in each state: the first word of a task run's name.
DOING = {
    State.PLANNED: "mint",
    State.MINTING: "recover",
    State.STAGED: "verify",
    State.VERIFIED: "promote",
    State.PROMOTED: "notify",
    State.CUTTING_OVER: "confirm",
    State.GRACE: "revoke old key of",
    State.REVOKING: "revoke old key of",
    State.ABORTING: "abort",
    State.ROLLING_BACK: "roll back",
    State.PARKED: "look again at",
}
# How many of a credential's rotations are searched for one of this flow run: a run that is started anew
# days later still finds its own among them.
_OWN_LOOK_BACK = 20


@dataclass(frozen=True)
class StoryLine:
    """One event of a rotation, and the state that it led to."""

    at: datetime
    event: EventType
    state: State
    actor: str
    note: str


@dataclass(frozen=True)
class Story:
    """A rotation from its beginning to now."""

    mode: Mode
    reason: str
    actor: str
    events: tuple[StoryLine, ...]
    confirmations: tuple[Confirmation, ...]
    #: What the old key's death without a grace period means for consumers that prove nothing; else empty.
    unproved: str = ""


async def _progress_view(progress: Progress) -> RotationView:
    rest = progress.rest
    return view_of(
        progress.rotation,
        rests=rest is not None,
        wake_at=progress.wake_at,
        waiting_for=rest.waiting_for if rest else "",
        undone=await undone(progress.rotation),
    )


@task(task_run_name="open {credential}", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def open_rotation(
    credential: str, mode: Mode, reason: str, actor: str, accept_loss: frozenset[str] = frozenset()
) -> RotationView:
    """Begin a rotation, or find the one that this actor has begun already.

    A flow run that is started again from the top has the same actor, and goes on with what it began. One
    that accepts a loss goes on with the rotation that has parked for it.

    Raises:
        PlainRefusalError: the credential is unknown, or another is rotating it.
    """
    if own := await _own_rotation(credential, actor):
        return view_of(own, rests=not own.is_open)
    held = await engine().world.journal.open_rotation(credential) if accept_loss else None
    if held is not None and held.parked is Park.LOSS:
        return view_of(await engine().resume(credential, accept_loss=accept_loss), rests=False)
    opened = await engine().open(credential, mode=mode, reason=reason, accept_loss=accept_loss)
    return view_of(opened, rests=False)


@task(task_run_name="confirm {credential}", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def confirm_consumers(credential: str, consumers: frozenset[str], by: str, reason: str) -> RotationView:
    """Take a person's word for consumers of the open rotation, and give the rotation to go on with.

    A flow run that is started again from the top finds its own words in the journal.

    Raises:
        PlainRefusalError: none is open, or it does not wait for one of them.
    """
    at_work = engine()
    latest = await at_work.world.journal.rotations(credential, limit=1)
    said = [
        each.event.data.get("note", "")
        for rotation in latest
        for each in await at_work.world.journal.events(rotation.id)
        if each.event.type is EventType.CONSUMER_CONFIRMED and each.event.actor == at_work.world.actor
    ]
    rotation = latest[0] if latest else None
    for name in sorted(consumers):
        if not any(note.startswith(f"{name}: {Evidence.PERSON}; ") for note in said):
            rotation = await at_work.confirm(credential, name, by=by, reason=reason)
    if rotation is None:
        raise PlainRefusalError(f"No rotation of {credential} is open.")
    return view_of(rotation, rests=not rotation.is_open)


async def _own_rotation(credential: str, actor: str) -> Rotation | None:
    """Give the rotation that this actor opened; one that was aborted does not count."""
    for rotation in await engine().world.journal.rotations(credential, limit=_OWN_LOOK_BACK):
        if rotation.actor == actor and rotation.state is not State.ABORTED:
            return rotation
    return None


@task(task_run_name="{doing} {credential}", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def step_rotation(rotation_id: str, credential: str, doing: str) -> RotationView:
    """Do what the rotation's state asks for, once.

    Args:
        rotation_id: the rotation.
        credential: its credential, for the name of the task run.
        doing: what the step is about, for the same; see `DOING`.
    """
    return await _progress_view(await engine().step(rotation_id))


@task(task_run_name="plan {credential}", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def plan_rotation(credential: str, mode: Mode) -> PlanLine:
    """Say what a rotation would do; nothing is changed.

    Raises:
        PlainRefusalError: there is no such credential.
    """
    (line,) = await plan(engine().world, credential, incident=mode is Mode.INCIDENT)
    return line


@bounded
async def read_story(rotation_id: str) -> Story:
    """Give what happened to a rotation, from the journal. Not a task: it only reads."""
    journal = engine().world.journal
    lines: list[StoryLine] = []
    opened: Rotation | None = None
    rotation: Rotation | None = None
    for journaled in await journal.events(rotation_id):
        event = journaled.event
        rotation = Rotation(**event.data) if rotation is None else machine.apply(rotation, event)
        opened = opened or rotation
        note = str(event.data.get("note", ""))
        lines.append(StoryLine(event.at, event.type, rotation.state, event.actor, note))
    if opened is None:
        raise PlainRefusalError(f"There is no rotation {rotation_id}.")
    confirmations = tuple(await journal.confirmations(rotation_id))
    silent = prove_nothing(engine().world.inventory, opened.credential)
    told = unproved(silent) if silent and not opened.grace_seconds else ""
    return Story(opened.mode, opened.reason, opened.actor, tuple(lines), confirmations, told)
