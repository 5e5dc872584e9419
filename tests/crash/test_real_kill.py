"""Real processes, killed by a real SIGKILL at the boundaries of each step and at any moment in between.

Everything is real but the exchange, which is a simulator behind HTTP: the SQLite journal, the age store, the
drivers, a bot in its own process that calls without a pause, a file that another program reads. After
each kill a new process sweeps, and then the exchange's books, the files and the journal must agree.

The suite lets the venues take turns at the stories; `make product` plays every story at every venue. That
each driver settles every call that goes wrong is held in test_simulated_venues.py, without processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
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


def turns(stories: Sequence[tuple[str, Story]], venue: str, product: bool) -> Sequence[tuple[str, Story]]:
    """Give the stories that are a venue's to play."""
    return stories if product else stories[list(VENUES).index(venue) :: len(VENUES)]


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


def killed_at(target: str, mishap: Mishap, *, nth: int = 1, since: str = "") -> Story:
    async def story(scene: Scene) -> None:
        process = await scene.start("rotate", target=target, mishap=mishap, nth=nth, since=since)
        status = await process.wait()
        assert status == KILLED, f"never came to {target}: {status} {process.told()}"
        await scene.sweep()
        await scene.judge()

    return story


@pytest.mark.parametrize("venue", VENUES)
async def test_a_process_killed_before_or_after_any_boundary_leaves_nothing_that_the_sweep_does_not_finish(
    nursery, venue, tmp_path, product
):
    stories = [
        (f"{name}-{mishap}", killed_at(target, mishap))
        for name, target in BOUNDARIES.items()
        for mishap in (Mishap.BEFORE, Mishap.AFTER)
    ]
    await play(nursery, venue, tmp_path, turns(stories, venue, product))


# From the claim to the end: how often a rotation without a mishap writes.
COMMITS = 9


async def unharmed(scene: Scene) -> None:
    process = await scene.start(
        "rotate", target="journal.commit", mishap=Mishap.BEFORE, nth=COMMITS + 1, since=""
    )
    assert await process.wait() == 0, "it writes more often: raise COMMITS"
    await scene.judge()


async def test_a_process_killed_before_or_after_any_write_to_the_journal_leaves_nothing_unfinished(
    nursery, tmp_path
):
    stories = [
        (f"{nth}-{mishap}", killed_at("journal.commit", mishap, nth=nth))
        for nth in range(1, COMMITS + 1)
        for mishap in (Mishap.BEFORE, Mishap.AFTER)
    ]
    await play(nursery, "bybit", tmp_path, [*stories, ("unharmed", unharmed)])


def cut(call: str, kind: FaultKind, *, killed: bool) -> Story:
    """The venue cuts the connection; then the process lives on, or dies before it has written so."""

    async def story(scene: Scene) -> None:
        path = getattr(scene.books.venue, call)
        scene.books.sim.faults.add(Fault(kind=kind, match=path))
        if killed:
            method = {"create": "exchange.create_key", "revoke": "exchange.revoke_key"}[call]
            await killed_at("journal.commit", Mishap.BEFORE, since=method)(scene)
        else:
            process = await scene.start("rotate")
            assert await process.wait() == 0, process.told()
            await scene.sweep()
            await scene.judge()
        assert not scene.books.sim.faults.pending(), "the call was never made"

    return story


@pytest.mark.parametrize("venue", VENUES)
async def test_an_unknown_outcome_is_settled_whether_or_not_the_process_lives_to_write_it_down(
    nursery, venue, tmp_path, product
):
    stories = [
        (f"{call}-{kind}-{'killed' if killed else 'alive'}", cut(call, kind, killed=killed))
        for call in ("create", "revoke")
        for kind in (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER)
        for killed in (True, False)
    ]
    await play(nursery, venue, tmp_path, turns(stories, venue, product))


def killed_in_flight(call: str, *, effect: bool) -> Story:
    """The process dies from outside while the venue holds its answer back."""

    async def story(scene: Scene) -> None:
        path = getattr(scene.books.venue, call)
        faults = scene.books.sim.faults
        faults.add(Fault(kind=FaultKind.HANG, match=path, after_effect=effect, seconds=30))
        process = await scene.start("rotate")
        while faults.pending():
            assert not process.ended.done(), process.told()
            await asyncio.sleep(0.005)
        assert await process.kill() == KILLED
        await scene.sweep()
        await scene.judge()

    return story


@pytest.mark.parametrize("venue", VENUES)
async def test_a_process_killed_while_the_venue_answers_leaves_nothing_unfinished(
    nursery, venue, tmp_path, product
):
    stories = [
        (f"{call}-{'done' if effect else 'not-done'}", killed_in_flight(call, effect=effect))
        for call in ("create", "revoke")
        for effect in (True, False)
    ]
    await play(nursery, venue, tmp_path, turns(stories, venue, product))


# Longer than a whole rotation takes on a machine at rest.
_LONGEST_LIFE_SECONDS = 0.8


def storm(seed: int) -> Story:
    """Processes work side by side and are killed at random moments, until what is left is swept up."""

    async def story(scene: Scene) -> None:
        chance = random.Random(seed)

        async def short_lives(role: str) -> None:
            for _ in range(4):
                process = await scene.start(role)
                await asyncio.sleep(chance.uniform(0.02, _LONGEST_LIFE_SECONDS))
                await process.kill()
                role = "sweep"

        await asyncio.gather(short_lives("rotate"), short_lives("sweep"))
        await scene.sweep()
        # The first process may have died before it had opened a rotation.
        await scene.judge(turned=None if await scene.latest() is None else True)

    return story


@pytest.mark.parametrize("venue", VENUES)
async def test_processes_killed_from_outside_at_any_moment_leave_nothing_unfinished(
    nursery, venue, tmp_path, product
):
    stories = [(f"storm-{seed}", storm(seed)) for seed in range(6)]
    await play(nursery, venue, tmp_path, turns(stories, venue, product))
