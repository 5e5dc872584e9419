"""Real processes, killed by a real SIGKILL at the boundaries of each step and at any moment in between.

Everything is real but the exchange, which is a simulator behind HTTP: the SQLite journal, the age store, the
drivers, a bot in its own process that calls without a pause, a file that another program reads. After
each kill a new process sweeps, and then the exchange's books, the files and the journal must agree.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from keyturn.simulator import Fault, FaultKind
from keyturn.testing.crash import Mishap

from .nursery import KILLED, Nursery, opened
from .scenes import Scene, scene
from .venues import VENUES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BOUNDARIES = {
    "mint": "exchange.create_key",
    "stage": "store.stage",
    "promote": "store.promote",
    "notify": "consumer.notify",
    "revoke": "exchange.revoke_key",
}
# As many scenes at once as two cores bear, with a bot in each.
AT_ONCE = 6

Story = Callable[[Scene], Awaitable[None]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with opened() as nursery:
        yield nursery


async def play(nursery: Nursery, venue: str, folder: Path, stories: Iterable[tuple[str, Story]]) -> None:
    """Play each story in a scene of its own, several at a time; tell which one went wrong."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, story: Story) -> None:
        async with gate, AsyncExitStack() as stack:
            built = await stack.enter_async_context(scene(nursery, VENUES[venue], folder / name))
            try:
                await story(built)
            except Exception as error:
                raise AssertionError(f"{venue}, {name}: {error}") from error

    results = await asyncio.gather(*(one(*each) for each in stories), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise AssertionError("\n".join(map(str, failures))) from failures[0]


def killed_at(target: str, mishap: Mishap, *, nth: int = 1) -> Story:
    async def story(scene: Scene) -> None:
        process = await scene.start("rotate", target=target, mishap=mishap, nth=nth)
        status = await process.wait()
        assert status == KILLED, f"never came to {target}: {status} {process.told()}"
        await scene.sweep()
        await scene.judge()

    return story


@pytest.mark.parametrize("venue", VENUES)
async def test_a_process_killed_before_or_after_any_boundary_leaves_nothing_that_the_sweep_does_not_finish(
    nursery, venue, tmp_path
):
    stories = [
        (f"{name}-{mishap}", killed_at(target, mishap))
        for name, target in BOUNDARIES.items()
        for mishap in (Mishap.BEFORE, Mishap.AFTER)
    ]
    await play(nursery, venue, tmp_path, stories)
