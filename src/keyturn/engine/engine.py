"""The engine: open a rotation, move it on, sweep up. Re-entrant: run it twice, nothing changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from keyturn.domain import machine
from keyturn.domain.errors import JournalError, JournalFault, KeyturnError, RefusedError
from keyturn.domain.evidence import Confirmation
from keyturn.domain.labels import new_rotation_id
from keyturn.domain.rotation import BEFORE_PIVOT, EventType, KeyRecord, Mode, Park, Rotation, State
from keyturn.engine import (
    cutover,
    event_log,
    mint,
    person,
    place,
    refusals,
    revoke,
    settle,
    timekeeping,
    trouble,
    undo,
    verify,
)
from keyturn.engine.commands import with_reason
from keyturn.engine.difference import acceptance, refuse_other_than_loss
from keyturn.engine.work import Rest, SupersededError, Work
from keyturn.engine.world import World

_STEPS: Mapping[State, Callable[[Work], Awaitable[Rest | None]]] = {
    State.PLANNED: mint.plan,
    State.MINTING: mint.recover,
    State.STAGED: verify.verify,
    State.VERIFIED: cutover.promote,
    State.PROMOTED: cutover.notify,
    State.CUTTING_OVER: cutover.confirm,
    State.GRACE: revoke.begin,
    State.REVOKING: revoke.finish,
    State.ABORTING: undo.abort,
    State.ROLLING_BACK: undo.roll_back,
    State.PARKED: cutover.reconsider,
}

# What a person may ask for to get the old key back.
_UNDOING = frozenset({EventType.ABORT_REQUESTED, EventType.ROLLBACK_REQUESTED})
# Another worker has this rotation in hand: look again after this long.
_BUSY_SECONDS = 1.0
# A rotation has nine states to pass, and a lost key costs a few more; a loop beyond this is a bug.
_MAX_STEPS = 400


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rotation stands after the engine had it. `rest` None: there is more to do right now."""

    rotation: Rotation
    rest: Rest | None = None

    @property
    def wake_at(self) -> datetime | None:
        """When to come back; None when it is over, needs a person, or can go on at once."""
        return self.rest.until if self.rest else None


class Engine:
    """The use cases of a rotation over one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def open(
        self, credential: str, *, mode: Mode, reason: str, accept_loss: frozenset[str] = frozenset()
    ) -> Rotation:
        """Begin a rotation; nothing outside the journal changes yet.

        Args:
            credential: its name in the inventory.
            mode: why it runs.
            reason: the same in words.
            accept_loss: rights and addresses of the living key that a person has seen and gives up.

        Raises:
            RefusedError: the credential is unknown, or is being rotated already.
        """
        inventory = self.world.inventory
        entry = inventory.credentials.get(credential)
        if entry is None:
            raise RefusedError(
                f"There is no credential {credential} in the inventory.",
                now="Nothing was changed.",
                todo="keyturn status lists the names.",
            )
        policy, now = inventory.policy_of(credential), self.world.clock.now()
        rotation = Rotation(
            id=new_rotation_id(),
            credential=credential,
            exchange=inventory.accounts[entry.account].exchange,
            account=entry.account,
            subaccount=entry.subaccount,
            state=State.PLANNED,
            seq=0,
            mode=mode,
            reason=reason,
            actor=self.world.actor,
            created_at=now,
            updated_at=now,
            grace_seconds=0.0 if mode is Mode.INCIDENT else policy.grace.total_seconds(),
            confirm_seconds=policy.confirm_within.total_seconds(),
        )
        try:
            await self.world.journal.open(rotation, machine.opened(rotation, self.world.actor))
        except JournalError as error:
            if error.fault is not JournalFault.CONFLICT:
                raise
            raise await self._busy(credential) from None
        event_log.opened(rotation)
        return await self._accept_loss(rotation, accept_loss) if accept_loss else rotation

    async def _accept_loss(self, rotation: Rotation, names: frozenset[str]) -> Rotation:
        """Record who gives up what; without this record the rotation parks and shows it."""
        work = Work(self.world, rotation)
        await work.commit(acceptance(work, names))
        return work.rotation

    async def _busy(self, credential: str) -> RefusedError:
        held = await self.world.journal.open_rotation(credential)
        what = f"rotation {held.id}, {held.state}, by {held.actor}" if held else "another worker"
        return RefusedError(
            f"Credential {credential} is being rotated already: {what}.",
            now="Nothing was changed; that rotation goes on.",
            todo=(held and end_of_grace(held)) or f"Watch it with: keyturn history {credential}",
        )

    async def get(self, rotation_id: str) -> Rotation:
        """Give a rotation as the journal has it.

        Raises:
            RefusedError: there is none with this id.
        """
        rotation = await self.world.journal.get(rotation_id)
        if rotation is None:
            raise RefusedError(
                f"There is no rotation {rotation_id}.", todo="keyturn history NAME lists them."
            )
        return rotation

    async def step(self, rotation_id: str) -> Progress:
        """Do what the rotation's state asks for, once.

        Errors of the ports are journaled (deferred or parked) and told in the result; only a journal
        that fails is raised, because then nothing can be recorded.
        """
        return await self._step(await self.get(rotation_id))

    async def _step(self, rotation: Rotation) -> Progress:
        if not rotation.is_open:
            return Progress(rotation, Rest(None, ""))
        work = Work(self.world, rotation)
        try:
            rest = await timekeeping.set_right(work) or await _not_yet(work)
            if rest is None:
                rest = await self._act(work)
        except SupersededError:
            newest = await self.get(rotation.id)
            busy = work.after(_BUSY_SECONDS)
            return Progress(newest, Rest(busy, "another worker") if newest.is_open else Rest(None, ""))
        if rest is None and not work.rotation.is_open:
            rest = Rest(None, "")
        return Progress(work.rotation, rest)

    async def _act(self, work: Work) -> Rest | None:
        try:
            if work.rotation.state is not State.PARKED and (rest := await place.refuse_moved_rotation(work)):
                return rest
            return await _STEPS[work.rotation.state](work)
        except JournalError:
            raise
        except KeyturnError as error:
            return await trouble.handle(work, error)

    async def advance(
        self, which: str | Rotation, *, on_progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Move a rotation on until it is closed, must wait, or needs a person.

        Args:
            which: its id, or the rotation itself when it was opened just now.
            on_progress: told of every step.
        """
        rotation = which if isinstance(which, Rotation) else await self.get(which)
        for _ in range(_MAX_STEPS):
            # Not read again between steps: the compare-and-set of each commit tells if it moved.
            progress = await self._step(rotation)
            rotation = progress.rotation
            if on_progress:
                on_progress(progress)
            if progress.rest is not None:
                return progress
        raise AssertionError(f"rotation {rotation.id} does not come to rest")

    async def settle(self, credential: str) -> list[KeyRecord]:
        """Revoke the orphans of a credential; see `settle.settle`."""
        try:
            return await settle.settle(self.world, credential)
        except SupersededError:
            return []

    # -- what a person asks for ------------------------------------------------------------

    async def abort(self, credential: str, reason: str) -> Rotation:
        """Turn the open rotation back; only before the pivot.

        Raises:
            RefusedError: there is none open, it is past the pivot, or being undone already.
        """
        rotation = await self._asked(
            credential,
            EventType.ABORT_REQUESTED,
            "It is past the pivot: consumers may use the new key already.",
            with_reason("rollback", credential),
        )
        return await self._record(rotation, EventType.ABORT_REQUESTED, abort_reason=reason)

    async def rollback(self, credential: str, reason: str) -> Rotation:
        """Make the previous key current again, while it lives.

        Raises:
            RefusedError: there is none open, it is not between the pivot and the revoke, it is being undone
                already, or the previous key is dead or its secret gone.
        """
        rotation = await self._asked(
            credential,
            EventType.ROLLBACK_REQUESTED,
            "A roll-back is possible after the promotion and until the old key's revoke has begun.",
            f"Before the promotion: {with_reason('abort', credential)}."
            f" Afterwards: {with_reason('rotate', credential)}",
        )
        if why := await undo.foresee(Work(self.world, rotation)):
            parked = rotation.state is State.PARKED
            raise RefusedError(
                f"Rotation {rotation.id} of {credential} cannot be rolled back. {why}",
                now="Nothing was changed.",
                todo=f"It can go forward: keyturn resume {credential}"
                if parked
                else f"It goes forward by itself: keyturn history {credential}",
            )
        return await self._record(rotation, EventType.ROLLBACK_REQUESTED, abort_reason=reason)

    async def resume(self, credential: str, *, accept_loss: frozenset[str] = frozenset()) -> Rotation:
        """Let a parked rotation go on from the state that it was in.

        One that was to be rolled back, and has nothing to go back to, goes forward. Of one that waits for
        calls which are refused to the new key, those that it names are accepted; the journal tells it. One
        whose keys lie at another site goes on with the site that the inventory names: a person says that
        they lie there.

        Args:
            credential: its name.
            accept_loss: rights and addresses of the living key that a person has seen and gives up.

        Raises:
            RefusedError: there is none open, it is not parked, or not for a loss that could be accepted.
        """
        rotation = await self._asked(
            credential,
            EventType.RESUMED,
            "It is not parked; it goes on by itself.",
            f"keyturn history {credential}",
        )
        if accept_loss:
            refuse_other_than_loss(rotation)
        if machine.allowed(rotation, EventType.ROLLBACK_GIVEN_UP):
            return await self._record(rotation, EventType.ROLLBACK_GIVEN_UP, abort_reason="")
        if rotation.parked is Park.MOVED:
            there, keys = await place.taken_over(Work(self.world, rotation))
            why = rotation.parked_why
            return await self._record(rotation, EventType.RESUMED, keys=keys, problem=why, place=there)
        note = ""
        if rotation.parked is Park.REFUSED_CALLS:
            note = await refusals.acceptance(Work(self.world, rotation))
        return await self._record(
            rotation, EventType.RESUMED, accept_loss=accept_loss, note=note, problem=rotation.parked_why
        )

    async def confirm(self, credential: str, consumer: str, *, by: str, reason: str) -> Rotation:
        """Take a person's word that a consumer runs on the key that it was told of; the rotation goes on.

        Args:
            credential: its name.
            consumer: whose proof is given.
            by: who says so.
            reason: why that is sure.

        Raises:
            RefusedError: there is none open, or it does not wait for this consumer.
        """
        rotation = await self._asked(
            credential,
            EventType.CONSUMER_CONFIRMED,
            "No consumer's proof is waited for now.",
            f"keyturn history {credential}",
        )
        word = await person.word(Work(self.world, rotation), consumer, by, reason)
        note = f"{consumer}: {word.evidence}; {word.detail}"
        return await self._record(rotation, EventType.CONSUMER_CONFIRMED, word=word, note=note)

    async def _asked(self, credential: str, kind: EventType, refusal: str, todo: str) -> Rotation:
        """Give the open rotation that a person asks something of, if it can be asked for now."""
        rotation = await self.world.journal.open_rotation(credential)
        if rotation is None:
            raise RefusedError(
                f"No rotation of {credential} is open.",
                now="Nothing was changed.",
                todo=f"keyturn history {credential} tells how the last one ended.",
            )
        if kind in _UNDOING and rotation.effective_state in {State.ABORTING, State.ROLLING_BACK}:
            # Also of an abort that may lose the race against the promotion: it goes back by itself then.
            refusal = "It is being undone already."
            way = "resume" if rotation.state is State.PARKED else "history"
            todo = f"keyturn {way} {credential}"
        elif machine.allowed(rotation, kind):
            return rotation
        elif kind in _UNDOING and rotation.old_ref is None and rotation.effective_state not in BEFORE_PIVOT:
            refusal = (
                "There was no key before the one that it made current, so there is nothing to go back to."
            )
            todo = rotation.parked_todo or f"It goes forward by itself: keyturn history {credential}"
        raise RefusedError(
            f"Rotation {rotation.id} of {credential} is {rotation.state}. {refusal}",
            now="Nothing was changed.",
            todo=todo,
        )

    async def _record(
        self,
        rotation: Rotation,
        kind: EventType,
        *,
        accept_loss: frozenset[str] = frozenset(),
        keys: tuple[KeyRecord, ...] = (),
        word: Confirmation | None = None,
        **data: str,
    ) -> Rotation:
        work = Work(self.world, rotation)
        try:
            if kind is EventType.RESUMED and (rest := await timekeeping.set_right(work)):
                raise RefusedError(rest.waiting_for, now="Nothing was changed.", todo="Then ask again.")
            more = [acceptance(work, accept_loss)] if accept_loss else []
            if word and rotation.parked is Park.UNCONFIRMED:
                more.append(work.event(EventType.RESUMED, "a missing confirmation was given"))
            await work.commit(
                work.event(kind, **data), *more, keys=keys, confirmations=(word,) if word else ()
            )
        except SupersededError:
            raise RefusedError(
                f"Rotation {rotation.id} of {rotation.credential} moved on at this moment.",
                now="Your request was not recorded.",
                todo="Look at it and ask again.",
            ) from None
        return work.rotation


def end_of_grace(rotation: Rotation) -> str:
    """Say how an old key that leaked dies before its grace is over; empty in other states."""
    if rotation.state is not State.GRACE or rotation.grace_until is None:
        return ""
    when = f"{rotation.grace_until:%Y-%m-%d %H:%M} UTC"
    return (
        f"The old key is revoked at {when}. If it must die now, delete it at the exchange;"
        " its death is proved when the grace is over."
    )


async def _not_yet(work: Work) -> Rest | None:
    r = work.rotation
    if r.is_due(work.now()):
        return None
    if r.state is State.GRACE and (rest := await refusals.look(work)):
        return rest
    waits_for = "the end of the grace period" if r.grace_until == r.wake_at else "its time"
    return Rest(r.wake_at, r.problem or waits_for)
