"""The world changes while a rotation is open: keys die at the exchange, the inventory is edited."""

from __future__ import annotations

import pytest

from keyturn.domain.rotation import Fate, Mode, Park, State
from keyturn.engine import sweep
from keyturn.simulator.faults import Fault, FaultKind
from keyturn.testing.crash import Tracer

from .venue_world import NAME, VenueWorld, begun, opened, parked
from .venues import ELSEWHERE, VENUES, material_of

ANY_VENUE = pytest.mark.parametrize("venue", VENUES.values(), ids=VENUES)
# At Deribit an account manages its own keys, and no other's.
WITH_SUB_ACCOUNTS = pytest.mark.parametrize("venue", [VENUES["bybit"], VENUES["okx"]], ids=["bybit", "okx"])


def old_key_lives(world: VenueWorld) -> bool:
    return world.books.accepts(material_of(world.books.old))


@ANY_VENUE
async def test_the_last_key_that_lives_is_never_revoked(venue):
    async with opened(venue) as world:
        rotation_id = await begun(world, State.GRACE)
        rotation = await world.rotation()
        world.tracer = Tracer(lambda: "")  # its judge would see that current is dead: so it is
        world.sim.kill_key(rotation.new_ref)
        stopped = await world.run(rotation_id)
        parked(stopped, Park.NO_PROOF, "keyturn rollback")
        assert old_key_lives(world)
        await world.engine().rollback(NAME, "the new key is dead")
        await world.sweep()
        assert (await world.rotation()).state is State.ABORTED
        assert (await world.current()).material.key_ref == world.books.old.key_ref


@ANY_VENUE
async def test_when_no_key_lives_a_resume_closes_the_rotation_and_the_next_makes_one(venue):
    async with opened(venue) as world:
        rotation_id = await begun(world, State.GRACE)
        new_ref = (await world.rotation()).new_ref
        world.tracer = Tracer(lambda: "")  # its judge would see that current is dead: so it is
        world.sim.kill_key(new_ref)
        world.sim.kill_key(world.books.old.key_ref)
        parked(await world.run(rotation_id), Park.NO_PROOF, "keyturn resume", "keyturn rotate")
        await world.engine().resume(NAME)
        assert (await world.run(rotation_id)).state is State.COMPLETED
        assert (await world.rotate()).state is State.COMPLETED
        assert world.books.accepts((await world.current()).material)


def move_to_another_sub_account(world: VenueWorld) -> None:
    made = world.sim.add_account("other", parent="main")
    name = made.uid if world.venue.code == "bybit" else made.name
    entry = world.inventory.credentials[NAME].model_copy(update={"subaccount": name})
    world.inventory = world.inventory.model_copy(update={"credentials": {NAME: entry}})


async def all_ends_well(world: VenueWorld) -> None:
    await world.engine().abort(NAME, "the sub-account was wrong")
    for _ in range(4):
        await world.sweep()
        world.clock.advance(3600)
    assert len(world.books.managed()) == 1, "8: a key lives that nobody owns"
    fates = {key.fate for key in await world.journal.keys(NAME) if key.rotation_id}
    assert fates <= {Fate.REVOKED, Fate.NEVER_MADE}


@WITH_SUB_ACCOUNTS
async def test_a_staged_key_is_revoked_where_it_was_made_whatever_the_inventory_says_by_then(venue):
    async with opened(venue, ips=(ELSEWHERE,)) as world:
        world.bot.can_probe = False
        parked(await world.rotate(), Park.NO_PROOF)
        move_to_another_sub_account(world)
        await all_ends_well(world)


@WITH_SUB_ACCOUNTS
async def test_a_lost_key_is_looked_for_where_it_was_made_whatever_the_inventory_says_by_then(venue):
    async with opened(venue) as world:
        world.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match=world.venue.create))
        rotation = await world.engine().open(NAME, mode=Mode.MANUAL, reason="crash suite")
        await world.engine().step(rotation.id)
        assert len(world.books.managed()) == 2
        move_to_another_sub_account(world)
        await all_ends_well(world)


@WITH_SUB_ACCOUNTS
async def test_a_rotation_that_has_made_nothing_begins_again_in_the_corrected_sub_account(venue):
    async with opened(venue) as world:
        rotation = await world.engine().open(NAME, mode=Mode.MANUAL, reason="crash suite")
        move_to_another_sub_account(world)
        ended = await world.run(rotation.id)
        assert ended.state is State.ABORTED
        assert "another account or sub-account" in ended.abort_reason
        assert world.created() == 0


@pytest.mark.parametrize(
    "state", [State.PLANNED, State.STAGED, State.CUTTING_OVER, State.GRACE, State.REVOKING]
)
@pytest.mark.parametrize("gone", ["credential", "account"])
async def test_an_entry_that_is_gone_parks_its_rotation_alone_and_loses_nothing(state, gone):
    async with opened(VENUES["bybit"]) as world:
        await begun(world, state)
        whole = world.inventory
        if gone == "credential":
            world.inventory = whole.model_copy(update={"credentials": {}})
        else:
            entry = whole.credentials[NAME].model_copy(update={"account": "renamed"})
            accounts = {"renamed": whole.accounts["main"]}
            world.inventory = whole.model_copy(update={"credentials": {NAME: entry}, "accounts": accounts})
        world.sim.faults.clear()
        for _ in range(3):
            await sweep.sweep(world.engine())
            rotation = await world.rotation()
            if rotation.state is State.GRACE:  # it takes neither account nor manager key to come here
                world.clock.travel_to(rotation.wake_at)
        if rotation.state is not State.ABORTED:
            parked(rotation, Park.INVENTORY, "is not in the inventory")
        assert old_key_lives(world)
        world.inventory = whole
        if rotation.is_open:
            await world.engine().resume(NAME)
        await world.sweep()
        await world.judge_rest(turned=rotation.is_open)


async def test_a_mistake_of_the_programs_own_stops_one_rotation_and_no_other(monkeypatch):
    async with opened(VENUES["bybit"]) as world:
        await begun(world, State.GRACE)
        engine = world.engine()
        seen = []

        async def items(_world):
            return [
                sweep.WorkItem(sweep.Kind.ADVANCE, "broken", "no such id", "a test"),
                sweep.WorkItem(sweep.Kind.ADVANCE, NAME, (await world.rotation()).id, "a test"),
            ]

        get = engine.get

        async def broken(rotation_id):
            if rotation_id == "no such id":
                raise ZeroDivisionError
            seen.append(rotation_id)
            return await get(rotation_id)

        monkeypatch.setattr(sweep, "due_work", items)
        monkeypatch.setattr(engine, "get", broken)
        with pytest.raises(ZeroDivisionError):
            await sweep.sweep(engine)
        assert seen
        await world.judge_rest()


async def test_a_manager_key_that_is_a_bots_key_by_now_is_never_revoked():
    async with opened(VENUES["deribit"]) as world:
        await begun(world, State.GRACE)
        # Somebody wrote the bot's old key over the manager key, past keyturn.
        place = world.inventory.accounts["main"].manager.path
        held = await world.store.peek(place, "current")
        previous = await world.store.peek("bots/mm", "previous")
        await world.store.put(place, material_of(world.books.old), previous.meta, expect_current=held.version)
        world.clock.advance(2)
        await sweep.sweep(world.engine())
        parked(await world.rotation(), Park.NOT_OURS, "manager key")
        assert old_key_lives(world)
