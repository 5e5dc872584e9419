"""The sweep's work: find it, and do one item of it."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from keyturn.engine import sweep
from keyturn.engine.sweep import Kind, WorkItem
from tasks.boundary import bounded
from tasks.view import RotationView, view_of
from tasks.world import engine, undone


@dataclass(frozen=True)
class ItemResult:
    """What became of a work item."""

    kind: Kind
    credential: str
    why: str
    rotation: RotationView | None = None
    #: Of an item without a rotation of its own: another worker was faster.
    note: str = ""
    #: Empty unless it failed.
    error: str = ""
    #: What to do about a key of which journal, store and exchange do not say the same; empty otherwise.
    todo: str = ""
    #: Whether that was found just now, and not by an earlier sweep.
    is_news: bool = True


@task(task_run_name="find work", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def find_work() -> list[WorkItem]:
    """Give everything that there is to do now: unfinished rotations, orphans, credentials that are due."""
    return await sweep.due_work(engine().world)


@task(task_run_name="compare the books", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def compare_books() -> list[ItemResult]:
    """Give a result for each key of which journal, store and exchange do not say the same."""
    return [
        ItemResult(
            each.item.kind,
            each.item.credential,
            each.item.why,
            error=each.error,
            todo=each.difference.todo if each.difference else "",
            is_news=each.is_news,
        )
        for each in await sweep.differing(engine().world)
    ]


@task(task_run_name="{kind} {credential}", persist_result=False, cache_policy=NO_CACHE, log_prints=False)
@bounded
async def do_work_item(kind: Kind, credential: str, rotation_id: str | None, why: str) -> ItemResult:
    """Do one item. Expected failures are told in the result, so that one never stops the others."""
    outcome = await sweep.do(engine(), WorkItem(kind, credential, rotation_id, why))
    if outcome.rotation is None:
        return ItemResult(kind, credential, why, note=outcome.waiting_for, error=outcome.error)
    closed_or_waits = view_of(
        outcome.rotation,
        rests=True,
        wake_at=outcome.wake_at,
        waiting_for=outcome.waiting_for,
        undone=await undone(outcome.rotation),
    )
    return ItemResult(kind, credential, why, rotation=closed_or_waits)
