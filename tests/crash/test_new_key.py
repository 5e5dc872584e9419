"""A new key is given to nobody before it is proved: what it may do, from where, and whose it is.

The drivers are real, the venues are their simulators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyturn.domain.rotation import EventType, Park, State
from keyturn.engine import adopt
from keyturn.simulator import KeyRules

from .venue_world import NAME, VenueWorld, begun, mended, opened, parked
from .venues import ELSEWHERE, HOME, VENUES, material_of

each_venue = pytest.mark.parametrize("venue", VENUES)


# -- the venue mints another key than was asked for ------------------------------------------


def minting(world: VenueWorld, change: Callable[[KeyRules], KeyRules]) -> None:
    """Let the venue give each new key other rules than it was asked for."""
    mint, edit = world.sim.mint, world.sim.edit

    def other_mint(call: Any, account: Any, rules: KeyRules, **rest: Any) -> Any:
        return mint(call, account, change(rules), **rest)

    def other_edit(call: Any, key: Any, rules: KeyRules) -> None:
        edit(call, key, change(rules))

    world.sim.mint, world.sim.edit = other_mint, other_edit


# OKX has three rights, and the key has the other two.
EXTRA = {"bybit": "Options.OptionsTrade", "okx": "withdraw", "deribit": "block_trade:read_write"}
WRONG: dict[str, tuple[Callable[[VenueWorld], Callable[[KeyRules], KeyRules]], str]] = {
    "may withdraw": (
        # Deribit has two levels of one right: the higher takes the lower's place.
        lambda w: (
            lambda rules: replace(
                rules,
                permissions=rules.permissions - {w.venue.withdraw.removesuffix("_write")}
                | {w.venue.withdraw},
            )
        ),
        "could withdraw",
    ),
    "may do more": (
        lambda w: lambda rules: replace(rules, permissions=rules.permissions | {EXTRA[w.venue.code]}),
        "it can also",
    ),
    "may do less": (
        lambda w: (
            lambda rules: replace(
                rules,
                permissions=frozenset(sorted(rules.permissions)[:-1])
                or frozenset({"Wallet.AccountTransfer"}),
            )
        ),
        "it cannot",
    ),
    "works from everywhere": (lambda _: lambda rules: replace(rules, ips=()), "IP list is none"),
    "works from one address more": (
        lambda _: lambda rules: replace(rules, ips=(HOME, ELSEWHERE)),
        f"IP list is {HOME}, {ELSEWHERE}",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@each_venue
async def test_a_key_that_is_not_what_was_declared_is_revoked_again_and_never_promoted(venue, wrong):
    async with opened(VENUES[venue]) as world:
        change, words = WRONG[wrong]
        minting(world, change(world))
        rotation = await world.rotate()
        assert rotation.state is State.ABORTED, rotation
        assert rotation.promoted_at is None
        assert words in rotation.abort_reason, rotation.abort_reason
        await world.judge_rest(turned=False)


# -- another account -----------------------------------------------------------------------


def moved(world: VenueWorld) -> None:
    """Let the inventory name another sub-account than the one whose key is current."""
    uid = world.sim.add_account("other", parent="main").uid
    entry = world.inventory.credentials[NAME].model_copy(
        update={"subaccount": uid if world.venue.code == "bybit" else "other"}
    )
    world.inventory = world.inventory.model_copy(update={"credentials": {NAME: entry}})


async def other_manager(world: VenueWorld) -> None:
    """Let a person store the manager key of another account, whose keys are numbered from 1, too."""
    world.sim.add_account("other")
    strangers = [
        world.sim.add_key("other", world.venue.manager_rights, ips=[HOME], label="not ours") for _ in range(7)
    ]
    world.books.untouchable |= {key.key_ref for key in strangers}
    await adopt.put_manager(world.world(traced=False), "main", material_of(strangers[0]))


@each_venue
async def test_no_key_is_made_in_another_account_than_the_one_whose_key_is_current(venue):
    async with opened(VENUES[venue]) as world:
        if venue == "deribit":
            await other_manager(world)
        else:
            moved(world)
        parked(await world.rotate(), Park.MANAGER_KEY, "another account", "put --manager")
        assert world.created() == 0
        await world.judge_waiting(minted=0)


@pytest.mark.parametrize("state", [State.STAGED, State.GRACE, State.REVOKING, State.ABORTING])
async def test_a_manager_key_of_another_account_touches_no_key_that_bears_the_same_number(state):
    async with opened(VENUES["deribit"]) as world:
        if state is State.ABORTING:
            rotation_id = await begun(world, State.VERIFIED)
            await world.engine().abort(NAME, "a test wants it")
        else:
            rotation_id = await begun(world, state)
        await other_manager(world)
        rules = {ref: world.sim.rules_of(ref) for ref in world.books.untouchable}
        await world.run(rotation_id)
        assert {ref: world.sim.rules_of(ref) for ref in world.books.untouchable} == rules
        world.books.judge_foreign()
        await world.current()


# -- a key that only another machine may use -------------------------------------------------


@pytest.mark.parametrize("probe", ["proxy", "bot"])
@each_venue
async def test_a_key_that_is_bound_to_another_machine_is_tried_from_there(venue, probe):
    async with opened(VENUES[venue], ips=(ELSEWHERE,), probe=probe) as world:
        rotation = await world.rotate()
        assert rotation.state is State.COMPLETED, rotation
        calls = world.sim.calls(key_ref=rotation.new_ref)
        assert {call.ip for call in calls if call.outcome == "ok"} == {ELSEWHERE}
        events = await world.journal.events(rotation.id)
        (verified,) = (e.event for e in events if e.event.type is EventType.VERIFIED)
        tried_by = {"proxy": "through the egress proxy", "bot": "tried by bot"}[probe]
        assert tried_by in verified.data["note"]
        await world.judge_rest()


@each_venue
async def test_a_key_that_nobody_can_try_is_never_waved_through(venue):
    async with opened(VENUES[venue], ips=(ELSEWHERE,)) as world:
        world.bot.can_probe = False
        parked(await world.rotate(), Park.NO_PROOF, "egress_proxy", "kind client")
        await world.judge_waiting(minted=1)
        world.bot.can_probe = True
        await mended(world)


@each_venue
async def test_a_bot_that_does_not_try_its_key_in_time_parks_the_rotation(venue):
    async with opened(VENUES[venue], ips=(ELSEWHERE,)) as world:
        world.bot.runs = False
        rotation_id = await begun(world, State.STAGED)
        for _ in range(3):
            await world.engine().step(rotation_id)
            world.clock.advance(3600)
        parked(await world.run(rotation_id), Park.NO_PROOF, "bot", "in time")
        await world.judge_waiting(minted=1)
        world.bot.runs = True
        await mended(world)


@pytest.mark.parametrize("wrong", ["may withdraw", "may do more", "may do less"])
@each_venue
async def test_a_key_that_its_bot_has_tried_is_held_against_the_declaration_too(venue, wrong):
    async with opened(VENUES[venue], ips=(ELSEWHERE,)) as world:
        change, words = WRONG[wrong]
        minting(world, change(world))
        rotation = await world.rotate()
        assert rotation.state is State.ABORTED, rotation
        assert words in rotation.abort_reason, rotation.abort_reason
        await world.judge_rest(turned=False)


@each_venue
async def test_a_proxy_whose_address_is_not_on_the_list_parks_the_rotation(venue):
    async with opened(VENUES[venue], ips=("203.0.113.99",), probe="proxy") as world:
        parked(await world.rotate(), Park.NO_PROOF, "egress_proxy", "keyturn resume")
        await world.judge_waiting(minted=1)
