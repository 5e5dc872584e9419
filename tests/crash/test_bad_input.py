"""What a venue, a person or a bot may do wrong: each meets a plain word, and nothing is lost.

The drivers are real, the venues are their simulators.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.domain.rotation import Mode, Park, Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, sweep
from keyturn.simulator import Fault, FaultKind, KeyRules

from .venue_world import NAME, PATH, VenueWorld, begun, mended, opened, parked
from .venues import ELSEWHERE, HOME, VENUES, material_of

each_venue = pytest.mark.parametrize("venue", VENUES)


# -- the account is full -------------------------------------------------------------------


@each_venue
async def test_a_full_account_parks_the_rotation_and_no_key_is_deleted_to_make_room(venue):
    limit = 8 if venue == "deribit" else 50
    async with opened(VENUES[venue], key_limit=limit) as world:
        owner = world.venue.owner
        fillers = [
            world.sim.add_key(owner, world.venue.rights, ips=[HOME], passphrase=world.sim.new_passphrase())
            for _ in range(limit - len(world.sim.truth()[owner]))
        ]
        world.books.untouchable |= {key.key_ref for key in fillers}
        before = world.books.all_refs()
        parked(await world.rotate(), Park.KEY_QUOTA, "keyturn resume")
        assert world.books.all_refs() == before
        await world.judge_waiting()
        world.books.untouchable.discard(fillers[0].key_ref)
        world.sim.kill_key(fillers[0].key_ref)
        await mended(world)


@each_venue
async def test_a_venue_that_says_full_when_the_list_does_not_parks_the_rotation(venue):
    async with opened(VENUES[venue]) as world:
        world.sim.faults.add(Fault(kind=FaultKind.QUOTA_REACHED, match=world.venue.create))
        parked(await world.rotate(), Park.KEY_QUOTA, "keyturn resume")
        assert not world.created()
        await world.judge_waiting()
        await mended(world)


# -- a second factor -----------------------------------------------------------------------


async def test_a_second_factor_that_is_demanded_parks_the_rotation():
    async with opened(VENUES["deribit"]) as world:
        world.sim.accounts["main"].totp_secret = "JBSWY3DPEHPK3PXP"
        parked(await world.rotate(), Park.SECOND_FACTOR)
        assert not world.created()
        await world.judge_waiting()
        world.sim.accounts["main"].totp_secret = None
        await mended(world)


@pytest.mark.parametrize("call", ["create", "revoke"])
async def test_a_second_factor_that_is_demanded_in_the_middle_parks_the_rotation(call):
    async with opened(VENUES["deribit"]) as world:
        match = getattr(world.venue, call)
        world.sim.faults.add(Fault(kind=FaultKind.SECOND_FACTOR, match=match))
        parked(await world.rotate(), Park.SECOND_FACTOR)
        await world.current()
        await mended(world)


async def test_a_key_that_cannot_be_bound_for_want_of_a_second_factor_is_not_left_open():
    async with opened(VENUES["deribit"]) as world:
        world.sim.faults.add(Fault(kind=FaultKind.SECOND_FACTOR, match=world.venue.edit))
        rotation = await world.rotate()
        assert rotation.state is State.ABORTED
        assert "bound to its addresses" in rotation.abort_reason
        await world.judge_rest(turned=False)


# -- the manager key -----------------------------------------------------------------------


def killed(world: VenueWorld) -> None:
    world.books.untouchable.discard(world.books.manager.key_ref)
    world.sim.kill_key(world.books.manager.key_ref)


def weakened(world: VenueWorld) -> None:
    rules = KeyRules(frozenset(world.venue.weak_rights), world.venue.weak_read_only, (HOME,), label="manager")
    world.sim.change_key(world.books.manager.key_ref, rules)


def bound_elsewhere(world: VenueWorld) -> None:
    ref = world.books.manager.key_ref
    world.sim.change_key(ref, replace(world.sim.rules_of(ref), ips=(ELSEWHERE,)))


async def new_manager(world: VenueWorld) -> None:
    """Do what a person does: make another manager key and give it to keyturn."""
    issued = world.sim.add_key(
        "main", world.venue.manager_rights, ips=[HOME], passphrase=world.sim.new_passphrase()
    )
    world.books.untouchable.add(issued.key_ref)
    await adopt.put_manager(world.world(traced=False), "main", material_of(issued))


BROKEN = {"revoked": killed, "without its right": weakened, "bound elsewhere": bound_elsewhere}


@pytest.mark.parametrize("broken", BROKEN)
@each_venue
async def test_a_manager_key_that_does_not_do_parks_the_rotation_before_anything_is_made(venue, broken):
    async with opened(VENUES[venue]) as world:
        BROKEN[broken](world)
        parked(await world.rotate(), Park.MANAGER_KEY)
        assert not world.created()
        await world.judge_waiting()
        await new_manager(world)
        await mended(world)


@pytest.mark.parametrize("state", [State.STAGED, State.GRACE, State.REVOKING])
@pytest.mark.parametrize("broken", BROKEN)
@each_venue
async def test_a_manager_key_that_fails_on_the_way_loses_nothing(venue, broken, state):
    async with opened(VENUES[venue]) as world:
        rotation_id = await begun(world, state)
        BROKEN[broken](world)
        rotation = await world.run(rotation_id)
        if state is State.STAGED and venue != "deribit":
            # Nothing is asked of the manager key before the old key's end.
            assert rotation.effective_state is State.REVOKING
        parked(rotation, Park.MANAGER_KEY)
        await world.current()
        await new_manager(world)
        await world.engine().resume(NAME)
        await world.sweep()
        await world.judge_rest(turned=(await world.rotation()).state is State.COMPLETED)


# -- the clock -----------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [65.0, -65.0])
@each_venue
async def test_a_clock_one_minute_off_is_told_of_and_waited_for(venue, seconds):
    async with opened(VENUES[venue]) as world:
        world.sim.clock_offset_s = seconds
        rotation = await world.engine().open(NAME, mode=Mode.MANUAL, reason="crash suite")
        for _ in range(5):
            progress = await world.engine().step(rotation.id)
            assert progress.rotation.state is State.PLANNED
            assert progress.rest is not None
            assert progress.rest.until is not None
            side = "behind" if seconds > 0 else "ahead of"
            assert f"clock is 65.0 s {side}" in progress.rotation.problem.replace("64.9", "65.0")
            world.clock.travel_to(progress.rest.until)
        assert not world.created()
        await world.judge_waiting()
        world.sim.clock_offset_s = 0.0
        await world.sweep()
        await world.judge_rest()


@pytest.mark.parametrize("state", [State.STAGED, State.VERIFIED, State.CUTTING_OVER, State.REVOKING])
@each_venue
async def test_a_clock_that_goes_wrong_on_the_way_loses_nothing(venue, state):
    async with opened(VENUES[venue]) as world:
        rotation_id = await begun(world, state)
        world.sim.clock_offset_s = 65.0
        for _ in range(5):
            progress = await world.engine().step(rotation_id)
            assert progress.rotation.state is not State.PARKED, progress.rotation
            await world.current()
            if progress.rest and progress.rest.until:
                world.clock.travel_to(progress.rest.until)
        world.sim.clock_offset_s = 0.0
        await world.sweep()
        await world.judge_rest()
        assert (await world.rotation()).state is State.COMPLETED


# -- a consumer that never confirms ----------------------------------------------------------


async def judge_both_live(world: VenueWorld, rotation: Rotation) -> None:
    """Hold that both keys live: the new one is current, the old one is previous."""
    assert set(world.books.managed()) == {rotation.new_ref, rotation.old_ref}
    assert (await world.current()).material.key_ref == rotation.new_ref
    previous = await world.store.read(PATH, Slot.PREVIOUS)
    assert previous is not None
    assert previous.material.key_ref == rotation.old_ref
    assert world.books.accepts(previous.material)


@each_venue
async def test_a_consumer_that_never_confirms_parks_with_both_keys_alive_and_is_waited_for(venue):
    async with opened(VENUES[venue]) as world:
        world.bot.confirms = False
        rotation = await world.rotate()
        parked(rotation, Park.UNCONFIRMED, "bot", "both keys live", "keyturn rollback")
        for _ in range(5):
            world.clock.advance(86400)
            await sweep.sweep(world.engine())
            await judge_both_live(world, rotation)
        world.bot.confirms = True
        await world.sweep()
        await world.judge_rest()


@each_venue
async def test_a_consumer_that_never_confirms_can_be_led_back(venue):
    async with opened(VENUES[venue]) as world:
        world.bot.confirms = False
        await judge_both_live(world, await world.rotate())
        await world.engine().rollback(NAME, "the bot cannot read the new key")
        world.bot.confirms = True
        await world.sweep()
        assert (await world.rotation()).state is State.ABORTED
        await world.judge_rest(turned=False)
