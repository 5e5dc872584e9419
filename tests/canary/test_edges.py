"""What passes the boundary to Prefect: plain errors and signals, and nothing that hangs on them."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from tasks.boundary import PlainError, bounded

from .bombs import KINDS

SECRET = "not-a-real-secret-1"


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "cancelled"])
async def test_an_exception_of_any_kind_leaves_as_a_plain_text(kind: str):
    @bounded
    async def call() -> None:
        raise KINDS[kind](SECRET)

    with pytest.raises(PlainError) as raised:
        await call()
    error = raised.value
    assert SECRET not in "".join(traceback.format_exception(error))
    assert (error.__cause__, error.__context__) == (None, None)
    assert vars(error) == {}


async def test_a_cancellation_leaves_as_itself_without_the_error_that_it_interrupted():
    @bounded
    async def call() -> None:
        try:
            raise ValueError(SECRET)
        finally:
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert task.cancelled()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


async def test_a_cancellation_inside_another_stays_linked_to_it():
    @bounded
    async def call() -> None:
        inner, outer = asyncio.CancelledError("inner"), asyncio.CancelledError("outer")
        inner.__context__, outer.__context__ = ValueError(SECRET), inner
        raise outer

    with pytest.raises(asyncio.CancelledError, match="outer") as raised:
        await call()
    assert str(raised.value.__context__) == "inner"
    assert SECRET not in "".join(traceback.format_exception(raised.value))
