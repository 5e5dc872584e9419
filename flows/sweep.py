"""The flow that runs every few minutes and does whatever is due, or was left unfinished."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.ending import Ending, told
from flows.following import follow
from flows.forms import SweepRequest, filled
from flows.report import publish_story, publish_sweep
from keyturn.domain.rotation import State
from keyturn.engine.sweep import Kind, WorkItem
from tasks.boundary import PlainError, bounded
from tasks.sweep import ItemResult, compare_books, do_work_item, find_work
from tasks.world import opened

# How long a sweep waits in place for each rotation: long enough for a bot's confirmation, shorter than
# the time to the next sweep.
_PATIENCE_SECONDS = 30.0
# A sweep tells the story of this many rotations that came to an end; the table has all of them.
_STORIES = 50
_EVERYTHING = SweepRequest()


@flow(
    name="sweep",
    description="Do whatever is due by its policy, or was left unfinished.",
    validate_parameters=False,
    persist_result=False,
    log_prints=False,
)
async def sweep(request: SweepRequest = _EVERYTHING) -> Ending:
    """Sweep.

    The run ends Failed, as `Trouble`, when an item failed, or since this sweep a rotation needs a person, or
    journal, stores and exchanges do not say the same of a key.

    Args:
        request: How much to take on.
    """
    try:
        return await _sweep(request)
    except PlainError as error:
        return told(error)


@bounded
async def _sweep(answers: object) -> Ending:
    request = filled(SweepRequest, answers)
    async with opened(f"prefect:{flow_run.id}"):
        items = _limited(await find_work(), request.limit)
        gate, stories = asyncio.Semaphore(request.at_once), itertools.count(1)

        async def guarded(item: WorkItem) -> ItemResult:
            async with gate:
                result = await _do(item)
            # While others rotate: at the end, the server would be all that the run waits for.
            ended = result.rotation if result.rotation and not result.rotation.is_open else None
            if ended and next(stories) <= _STORIES:
                await publish_story(ended)
            return result

        results = [*await asyncio.gather(*map(guarded, items)), *await compare_books()]
        if results:
            await publish_sweep(results)
        return _ending(results)


def _limited(items: Sequence[WorkItem], limit: int | None) -> list[WorkItem]:
    """Leave out the newest of the new rotations; what is unfinished is always gone on with."""
    new = [i for i in items if i.kind is Kind.OPEN]
    return [i for i in items if i.kind is not Kind.OPEN] + new[:limit]


async def _do(item: WorkItem) -> ItemResult:
    """Do one item and follow its rotation for a moment; whatever goes wrong is told in the result."""
    try:
        return await _follow(item)
    except PlainError as error:
        return ItemResult(item.kind, item.credential, item.why, error=str(error))


@bounded
async def _follow(item: WorkItem) -> ItemResult:
    result = await do_work_item(item.kind, item.credential, item.rotation_id, item.why)
    if result.rotation is None:
        return result
    return replace(result, rotation=await follow(result.rotation, patience=_PATIENCE_SECONDS))


def _ending(results: Sequence[ItemResult]) -> Ending:
    if not results:
        return Completed(message="There was nothing to do.")
    states = Counter(f"{r.rotation.state}" if r.rotation else f"{r.kind}" for r in results)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    trouble = [f"{r.credential}: {r.error}" for r in results if r.error]
    trouble += [
        f"{r.credential}: {r.rotation.parked_why}\nDo: {r.rotation.parked_todo}"
        for r in results
        if r.rotation and r.rotation.state is State.PARKED and r.why != State.PARKED
    ]
    differ = [f"{r.credential}: {r.why}\nDo: {r.todo}" for r in results if r.todo]
    if trouble or any(r.todo and r.is_news for r in results):
        trouble += differ
        return Failed(name="Trouble", message="\n".join([f"Swept: {counts}.", *trouble]))
    return Completed(message="\n".join([f"Swept: {counts}.", *differ]))
