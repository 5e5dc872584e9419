"""The sweep: whatever is due or unfinished, found from facts at every run and never from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from keyturn.domain.comparison import Discrepancy
from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.rotation import CLOSED, Fate, Mode, Rotation, State
from keyturn.domain.schedule import Due, next_due
from keyturn.engine import barring, copies, findings, refusals
from keyturn.engine.engine import Engine, Progress
from keyturn.engine.work import Work
from keyturn.engine.world import World

# After a rotation that aborted, the next is opened later each time: a key that the venue keeps minting
# wrong is a matter for a person, and each try mints and revokes one. A day at most, so that a mended
# account is found the next morning.
_ABORT_FLOOR, _ABORT_CAP = timedelta(minutes=15), timedelta(days=1)

# Most consumers are folders of this machine; a service is spared a burst.
_ASKED_AT_ONCE = 32


class Kind(StrEnum):
    """What a sweep can have to do."""

    ADVANCE = "advance"
    OPEN = "open"
    SETTLE = "settle"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One thing that a sweep has to do; ids only."""

    kind: Kind
    credential: str
    rotation_id: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a work item."""

    item: WorkItem
    rotation: Rotation | None = None
    waiting_for: str = ""
    wake_at: datetime | None = None
    #: Empty unless the item failed; the text of a `KeyturnError`.
    error: str = ""
    #: Of a key of which journal, store and exchange do not say the same.
    difference: Discrepancy | None = None
    #: Whether it was found just now, and not by the comparison of an earlier sweep.
    is_news: bool = True


async def due_dates(world: World) -> dict[str, Due]:
    """Give when each credential of the inventory is due, and why."""
    now, inventory = world.clock.now(), world.inventory
    completed = {r.credential: r for r in await world.journal.last_completed()}
    adopted = {k.credential: k for k in await world.journal.adopted() if k.fate is not Fate.FORGOTTEN}
    result = {}
    for name in inventory.credentials:
        last, by_hand = completed.get(name), adopted.get(name)
        rotated_at = last.promoted_at if last else None
        newest = by_hand if by_hand and (rotated_at is None or by_hand.recorded_at > rotated_at) else last
        result[name] = next_due(
            inventory.policy_of(name),
            last_rotated_at=rotated_at,
            adopted_at=by_hand.recorded_at if by_hand else None,
            expires_at=newest.expires_at if newest else None,
            now=now,
        )
    return result


async def due_work(world: World) -> list[WorkItem]:
    """Give everything that there is to do now: unfinished rotations first, then orphans, then new ones.

    What would ask an exchange that bars this machine, for any credential of the account, is left for later.
    """
    now = world.clock.now()
    latest = {r.credential: r for r in await world.journal.latest()}
    barred = await barring.accounts(world, latest.values())
    items = [
        WorkItem(Kind.ADVANCE, r.credential, r.id, f"{r.state}")
        for r in await world.journal.due(now)
        if r.state is not State.PARKED or r.wake_at is not None
        if r.account not in barred or not barring.holds(r)
    ]
    in_grace = [r for r in latest.values() if r.state is State.GRACE and not r.is_due(now)]
    items += [
        WorkItem(Kind.ADVANCE, r.credential, r.id, "calls are refused to the new key")
        for r in await _held(world, in_grace)
    ]
    orphans = dict.fromkeys(k.credential for k in await world.journal.unsettled())
    items += [
        WorkItem(Kind.SETTLE, name, None, "keys whose fate is open")
        for name in orphans
        if name in world.inventory.credentials and world.inventory.credentials[name].account not in barred
    ]
    dates = await due_dates(world)
    now = world.clock.now()  # after the dates, of which some are "now"
    for name, due in dates.items():
        last = latest.get(name)
        if (last and last.is_open) or not due.is_due(now):
            continue
        if world.inventory.credentials[name].account in barred:
            continue
        if last and last.state is State.ABORTED and now < await _after_abort(world, name):
            continue
        items.append(WorkItem(Kind.OPEN, name, None, due.why))
    return items


async def _held(world: World, in_grace: Sequence[Rotation]) -> list[Rotation]:
    """Give the rotations whose consumers report now that calls are refused to the new key, or seem to."""
    gate = asyncio.Semaphore(_ASKED_AT_ONCE)
    # One that does not answer is asked for nobody else in this sweep, so that hundreds do not wait for it.
    silent: set[str] = set()

    async def ask(rotation: Rotation) -> bool:
        async with gate:
            # One that left the inventory is told of when its grace is over.
            declared = rotation.credential in world.inventory.credentials
            if not declared:
                return False
            told = await refusals.told(Work(world, rotation), silent)
            return bool(told.calls or told.doubt)

    told = await asyncio.gather(*map(ask, in_grace))
    return [rotation for rotation, yes in zip(in_grace, told, strict=True) if yes]


async def _after_abort(world: World, credential: str) -> datetime:
    """Give when a credential whose last rotations aborted may be tried again."""
    aborted: list[Rotation] = []
    for rotation in await world.journal.rotations(credential, limit=10):
        if rotation.state not in CLOSED or rotation.state is State.COMPLETED:
            break
        aborted.append(rotation)
    now = world.clock.now()
    if not aborted or aborted[0].is_ahead(now):
        return now
    wait: timedelta = min(_ABORT_CAP, _ABORT_FLOOR * (1 << (len(aborted) - 1)))
    return aborted[0].updated_at + wait


async def do(
    engine: Engine,
    item: WorkItem,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Do one work item. Expected failures are told in the outcome, so that one never stops the others."""
    try:
        if item.kind is Kind.SETTLE:
            await engine.settle(item.credential)
            return Outcome(item)
        which = item.rotation_id or await engine.open(item.credential, mode=Mode.SCHEDULED, reason=item.why)
        progress = await engine.advance(which, on_progress=on_progress)
    except RefusedError as error:
        # Another worker opened it first: that is what was wanted.
        return Outcome(item, waiting_for=error.what)
    except KeyturnError as error:
        return Outcome(item, error=error.what)
    rest = progress.rest
    return Outcome(item, progress.rotation, rest.waiting_for if rest else "", progress.wake_at)


async def sweep(
    engine: Engine,
    *,
    at_once: int = 32,
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Sequence[Outcome]:
    """Do everything that there is to do now.

    Args:
        engine: over the world to sweep.
        at_once: how many items are worked on at the same time; a throttle, never a lock.
        limit: the most new rotations to open in this sweep; what is unfinished is always gone on with.
        on_progress: told of every step.

    Raises:
        Exception: an item met a mistake of the program's own; the others were gone on with first.
    """
    items = await due_work(engine.world)
    if limit is not None:
        new = [i for i in items if i.kind is Kind.OPEN][:limit]
        items = [i for i in items if i.kind is not Kind.OPEN] + new
    gate = asyncio.Semaphore(at_once)

    async def guarded(item: WorkItem) -> Outcome:
        async with gate:
            return await do(engine, item, on_progress=on_progress)

    results = await asyncio.gather(*map(guarded, items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    done = [result for result in results if isinstance(result, Outcome)]
    return [*done, *await differing(engine.world)]


async def differing(world: World) -> Sequence[Outcome]:
    """Compare the books when it is time; give an outcome for each key of which they do not say the same.

    What was found an hour ago and still stands is named again. What copies the current keys inside their
    stores is brought up at the same time: an inventory may name other readers or regions since.
    """
    try:
        news = await findings.compare_if_due(world)
        behind = await copies.bring_up(world) if news else {}
        failed = [
            Outcome(WorkItem(Kind.COMPARE, name, None, "copies inside the store"), error=why)
            for name, why in behind.items()
        ]
        differs = [
            Outcome(WorkItem(Kind.COMPARE, each.credential, None, each.what), difference=each, is_news=news)
            for each in await findings.standing(world.journal)
        ]
        return failed + differs
    except KeyturnError as error:
        return [Outcome(WorkItem(Kind.COMPARE, "", None, "the books are compared"), error=error.what)]
