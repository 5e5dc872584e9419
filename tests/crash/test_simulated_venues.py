"""Every call to a venue goes wrong once, in every way that a network and an exchange know.

The drivers are real, and so is HTTP; the venue is its simulator. Whatever happens, sweeps bring the world
to rest, and then the venue's books, the store and the bot agree. Where calls go wrong again and again, or
while a lost key is cleared away, the suite lets calls and mishaps take turns; `make product` walks them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keyturn.domain.rotation import Park, State
from keyturn.simulator import Fault, FaultKind

from .venue_world import NAME, opened
from .venues import VENUES, Venue

# How long a call may hang where one does; a call takes a few milliseconds.
_SHORT_TIMEOUT = 0.4
_AT_ONCE = 8
# Of so many calls one meets the mishap, where the suite walks a shape: each call meets some at some venue.
_TURNS = 3

MISHAPS = {
    "cut before the effect": Fault(kind=FaultKind.CUT_BEFORE),
    "cut after the effect": Fault(kind=FaultKind.CUT_AFTER),
    "a gateway fails before the effect": Fault(kind=FaultKind.SERVER_ERROR, status=502),
    "a gateway fails after the effect": Fault(kind=FaultKind.SERVER_ERROR, status=503, after_effect=True),
    "the venue itself fails": Fault(kind=FaultKind.SERVER_ERROR, status=500),
    "too many calls": Fault(kind=FaultKind.RATE_LIMITED),
    "no answer, and no effect": Fault(kind=FaultKind.HANG, seconds=5),
    "no answer after the effect": Fault(kind=FaultKind.HANG, seconds=5, after_effect=True),
}


@dataclass(frozen=True)
class Spot:
    """The n-th call of a route, as a rotation without a mishap makes them."""

    route: str
    nth: int


async def spots(venue: Venue, first: Fault | None = None) -> list[Spot]:
    """Give every call of a rotation, keyturn's and its bot's, and of the sweep after it."""
    async with opened(venue) as world:
        before = world.sim.book.count
        world.sim.faults.add(*[first] if first else [])
        await world.rotate()
        await world.sweep()
        await world.judge_rest()
        found: list[Spot] = []
        for call in world.sim.calls(after=before):
            route = f"{call.method} {call.path}"
            found.append(Spot(route, sum(spot.route == route for spot in found)))
        return found


async def walk(
    venue: Venue, spot: Spot, mishap: Fault, *, times: int = 1, first: Fault | None = None
) -> None:
    """Let one call go wrong; sweep up; judge."""
    changes = any(path in spot.route for path in (venue.create, venue.revoke, venue.edit))
    if mishap.kind in {FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER} and not changes:
        # aiohttp itself repeats a read over a connection that broke; only a second cut reaches the driver.
        times *= 2
    # A call that one fault has decided is not counted for another.
    skip = spot.nth - bool(first and first.match in spot.route)
    if skip < 0:
        return
    timeout = _SHORT_TIMEOUT if mishap.kind is FaultKind.HANG else 5.0
    async with opened(venue, timeout=timeout) as world:
        fault = mishap.model_copy(update={"match": spot.route, "skip": skip, "times": times})
        world.sim.faults.add(*[first] if first else [], fault)
        await world.rotate()
        await world.sweep()
        # What took effect is not asked for again: then some of the times are left.
        assert not any(f.times == times for f in world.sim.faults.pending()), "the call was never made"
        await world.judge_rest()


async def walk_all(
    venue: Venue,
    mishap: str,
    *,
    times: int = 1,
    first: Callable[[Venue], Fault] | None = None,
    turns: int = 1,
) -> None:
    """Walk with the mishap at every call, several at a time; with `turns`, at one of so many."""
    before, gate = first(venue) if first else None, asyncio.Semaphore(_AT_ONCE)
    turn = list(MISHAPS).index(mishap) + list(VENUES).index(venue.code)

    async def one(spot: Spot) -> None:
        async with gate:
            try:
                await walk(venue, spot, MISHAPS[mishap], times=times, first=before)
            except AssertionError as error:
                raise AssertionError(f"{venue.code}, {spot}: {error}") from error

    chosen = (await spots(venue, before))[turn % turns :: turns]
    results = await asyncio.gather(*map(one, chosen), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise AssertionError("\n".join(map(repr, failures))) from failures[0]


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_call_that_goes_wrong_is_made_good_and_the_key_is_turned(venue, mishap):
    await walk_all(VENUES[venue], mishap)


@pytest.mark.parametrize(
    "mishap", [name for name, fault in MISHAPS.items() if fault.kind is not FaultKind.HANG]
)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_call_that_goes_wrong_again_and_again_is_made_good_in_the_end(venue, mishap, product):
    await walk_all(VENUES[venue], mishap, times=4, turns=1 if product else _TURNS)


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_call_that_goes_wrong_while_a_lost_key_is_cleared_away_is_made_good(venue, mishap, product):
    def lost(venue: Venue) -> Fault:
        return Fault(kind=FaultKind.CUT_AFTER, match=venue.create)

    await walk_all(VENUES[venue], mishap, first=lost, turns=1 if product else _TURNS)


@pytest.mark.parametrize("call", ["create", "edit", "revoke"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_venue_that_takes_its_time_is_waited_for(venue, call):
    async with opened(VENUES[venue]) as world:
        world.pause = 0.03
        match = getattr(world.venue, call)
        world.sim.faults.add(Fault(kind=FaultKind.SLOW_PROPAGATION, match=match, seconds=0.2))
        rotation = await world.rotate()
        assert rotation.state is State.COMPLETED, rotation
        await world.judge_rest()
        assert world.created() == 1


@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_that_a_stale_list_hides_is_found_and_revoked_later(venue):
    async with opened(VENUES[venue]) as world:
        world.sim.faults.add(
            Fault(kind=FaultKind.CUT_AFTER, match=world.venue.create),
            # The first look, before anything is minted, tells the truth.
            Fault(kind=FaultKind.STALE_LIST, match=world.venue.list, changes=1, skip=1, times=2),
        )
        await world.rotate()
        assert world.created() == 2
        await world.sweep()
        await world.judge_rest()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_that_is_made_long_after_its_call_timed_out_is_found_and_revoked(venue):
    async with opened(VENUES[venue], timeout=_SHORT_TIMEOUT) as world:
        late = Fault(kind=FaultKind.LATENCY, match=world.venue.create, seconds=2.5 * _SHORT_TIMEOUT)
        world.sim.faults.add(late)
        rotation = await world.rotate()
        assert rotation.attempt == 2
        while world.created() < 2:
            await asyncio.sleep(0.02)
        await world.sweep()
        await world.judge_rest()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_venue_that_never_lets_a_key_die_is_told_of_and_the_rotation_ends_when_it_does(venue):
    async with opened(VENUES[venue]) as world:
        seconds = 1.5
        world.sim.faults.add(
            Fault(kind=FaultKind.SLOW_PROPAGATION, match=world.venue.revoke, seconds=seconds)
        )
        rotation = await world.rotate()
        assert (rotation.state, rotation.parked) == (State.PARKED, Park.NO_PROOF)
        assert "still knows" in rotation.parked_why
        assert (await world.current()).material.key_ref == rotation.new_ref
        await asyncio.sleep(seconds)
        await world.engine().resume(NAME)
        await world.sweep()
        await world.judge_rest()
