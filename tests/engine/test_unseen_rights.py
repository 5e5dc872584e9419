"""A rotation takes no right and no address from a bot, and gives it none, without a person's word."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyturn.domain.errors import ExchangeFault, RefusedError
from keyturn.domain.inventory import Inventory
from keyturn.domain.rotation import EventType, Fate, Mode, Park, State
from keyturn.engine.engine import Engine
from keyturn.engine.plan import plan
from keyturn.testing.fake_world import NAME, FakeWorld
from keyturn.testing.roads import ADDING, empty


async def _prepared(**more) -> FakeWorld:
    fake = FakeWorld(grace="10s", **more)
    await fake.prepare()
    return fake


async def _rotate(fake: FakeWorld, **more):
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test", **more)
    return await fake.run(engine, opened.id)


def _declare(fake: FakeWorld, **fields: object) -> None:
    """Change the inventory as a person does, between two processes."""
    raw = fake.inventory.model_dump(mode="json", exclude_none=True)
    raw["credentials"][NAME] |= fields
    fake.inventory = Inventory.model_validate(raw)


def _minted(fake: FakeWorld) -> int:
    return sum(key.minted for key in fake.exchange.truth().values())


async def _resume(fake: FakeWorld, *names: str):
    engine = Engine(fake.world(actor="cli:alice"))
    resumed = await engine.resume(NAME, accept_loss=frozenset(names))
    return await fake.run(engine, resumed.id)


async def test_a_right_that_would_be_lost_parks_before_anything_is_minted():
    fake = await _prepared(old_rights=("transfer",))
    parked = await _rotate(fake)
    assert (parked.state, parked.parked, parked.parked_from) == (State.PARKED, Park.LOSS, State.PLANNED)
    assert "transfer" in parked.parked_why
    assert f"keyturn resume {NAME} --accept-loss" in parked.parked_todo
    assert _minted(fake) == 0
    assert not any(method == "create_key" for method, _ in fake.exchange.calls)


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (["203.0.113.7", "127.0.0.1"], ["127.0.0.1"], {"203.0.113.7"}),
        (["198.51.100.0/24", "127.0.0.1"], ["198.51.100.7", "127.0.0.1"], {"198.51.100.0/24"}),
        ([], ["127.0.0.1"], {"any address"}),
    ],
)
async def test_an_address_that_would_be_lost_parks(old, new, lost):
    fake = await _prepared(ips=tuple(old))
    _declare(fake, ip_allowlist=new)
    parked = await _rotate(fake)
    assert parked.parked is Park.LOSS
    assert set(parked.loss.split(", ")) == lost


@pytest.mark.parametrize(
    ("old", "new"),
    [(["127.0.0.1"], []), (["127.0.0.1"], ["127.0.0.0/24"]), (["127.0.0.1"], ["127.0.0.1", "203.0.113.7"])],
)
async def test_more_addresses_take_nothing_away(old, new):
    fake = await _prepared(ips=tuple(old))
    _declare(fake, ip_allowlist=new)
    assert (await _rotate(fake)).state is State.COMPLETED


async def test_what_a_person_accepts_lets_the_rotation_go_on_and_stands_in_the_journal():
    fake = await _prepared(old_rights=("transfer",))
    await _rotate(fake)
    done = await _resume(fake, "transfer")
    assert done.state is State.COMPLETED
    events = [each.event for each in await fake.journal.events(done.id)]
    (accepted,) = [e for e in events if e.type is EventType.LOSS_ACCEPTED]
    assert accepted.actor == "cli:alice"
    assert accepted.data["accepted_loss"] == "transfer"


async def test_going_on_without_a_word_parks_again_and_mints_nothing():
    fake = await _prepared(old_rights=("transfer",))
    await _rotate(fake)
    assert (await _resume(fake)).parked is Park.LOSS
    assert _minted(fake) == 0


async def test_a_further_loss_parks_again_and_what_was_accepted_is_not_asked_twice():
    fake = await _prepared(old_rights=("transfer",), permissions=("read", "trade_spot", "trade_options"))
    await _rotate(fake)
    _declare(fake, permissions=["read", "trade_spot"])
    parked = await _resume(fake, "transfer")
    assert parked.parked is Park.LOSS
    assert "trade_options" in parked.parked_why
    assert "transfer" not in parked.parked_why
    assert _minted(fake) == 0
    fake.permissions = ("read", "trade_spot")
    assert (await _resume(fake, "trade_options")).state is State.COMPLETED


async def test_an_acceptance_outlives_the_worker_and_the_parks_that_follow():
    fake = await _prepared(old_rights=("transfer",))
    await _rotate(fake)
    fake.exchange.max_keys = len(fake.exchange.truth())
    parked = await _resume(fake, "transfer")
    assert parked.parked is Park.KEY_QUOTA
    fake.exchange.max_keys = 10
    assert (await _resume(fake)).state is State.COMPLETED


async def test_a_loss_that_comes_up_while_a_lost_mint_is_made_good_parks_too():
    fake = await _prepared()
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN)
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await engine.step(opened.id)
    _declare(fake, permissions=["read"])
    parked = await fake.run(Engine(fake.world()), opened.id)
    assert (parked.parked, parked.parked_from) == (Park.LOSS, State.MINTING)
    assert _minted(fake) == 0


async def test_the_inventory_accepts_with_a_reason_that_the_journal_keeps():
    fake = await _prepared(
        old_rights=("transfer",),
        entry={"accept_loss": ["transfer"], "accept_loss_reason": "this bot moves no funds"},
    )
    done = await _rotate(fake)
    assert done.state is State.COMPLETED
    notes = [e.event.data.get("note", "") for e in await fake.journal.events(done.id)]
    assert "by the inventory: this bot moves no funds" in notes


async def test_an_acceptance_at_the_beginning_holds_for_what_was_named_alone():
    fake = await _prepared(old_rights=("transfer", "trade_options"))
    parked = await _rotate(fake, accept_loss=frozenset({"transfer"}))
    assert parked.parked is Park.LOSS
    assert parked.parked_why.count("trade_options") == 1
    assert "transfer" not in parked.parked_why


async def test_nothing_can_be_accepted_in_a_rotation_that_has_not_parked_for_it():
    fake = await _prepared()
    fake.exchange.max_keys = len(fake.exchange.truth())
    assert (await _rotate(fake)).parked is Park.KEY_QUOTA
    with pytest.raises(RefusedError, match="not parked for a loss"):
        await Engine(fake.world()).resume(NAME, accept_loss=frozenset({"transfer"}))


async def test_the_sweep_parks_it_and_leaves_it_to_a_person():
    fake = await _prepared(old_rights=("transfer",))
    fake.pass_time(timedelta(days=61))
    await fake.sweep_until_rest()
    opened = await fake.journal.open_rotation(NAME)
    assert (opened.mode, opened.parked) == (Mode.SCHEDULED, Park.LOSS)
    assert f"keyturn resume {NAME} --accept-loss" in opened.parked_todo


async def test_the_next_rotation_has_nothing_left_to_accept():
    fake = await _prepared(old_rights=("transfer",))
    await _rotate(fake, accept_loss=frozenset({"transfer"}))
    assert (await _rotate(fake)).state is State.COMPLETED


# What the venue adds by itself.


async def test_a_right_that_the_venue_says_it_adds_parks_before_the_mint():
    fake = await _prepared(manifest=ADDING)
    fake.exchange.adds, fake.exchange.tells_adds = frozenset({"extra"}), True
    parked = await _rotate(fake)
    assert parked.parked is Park.ADDED_RIGHT
    assert "accepts: [extra]" in parked.parked_todo
    assert _minted(fake) == 0


@pytest.mark.parametrize("adds", [{"extra"}, set()])
async def test_an_accepted_right_passes_whether_it_is_there_or_not(adds):
    fake = await _prepared(manifest=ADDING, entry={"accepts": ["extra"]})
    fake.exchange.adds, fake.exchange.tells_adds = frozenset(adds), True
    assert (await _rotate(fake)).state is State.COMPLETED


async def test_another_right_than_the_accepted_one_undoes_the_rotation():
    fake = await _prepared(manifest=ADDING, entry={"accepts": ["extra"]})
    fake.exchange.adds = frozenset({"extra", "unheard_of"})
    undone = await _rotate(fake)
    assert undone.state is State.ABORTED
    assert "it can also unheard_of" in undone.abort_reason


async def test_a_right_that_was_added_without_a_word_is_minted_once_and_then_parks():
    fake = await _prepared(manifest=ADDING)
    fake.exchange.adds = frozenset({"extra"})
    assert (await _rotate(fake)).state is State.ABORTED
    assert (await _rotate(fake)).parked is Park.ADDED_RIGHT
    keys = await fake.journal.keys(NAME)
    assert sum(key.fate is Fate.REVOKED for key in keys) == 1


async def test_a_key_that_keyturn_made_without_the_right_is_proof_that_it_is_not_added():
    fake = await _prepared(manifest=ADDING)
    assert (await _rotate(fake)).state is State.COMPLETED
    fake.exchange.tells_adds = True
    assert (await _rotate(fake)).state is State.COMPLETED


# The plan.


async def test_a_plan_is_the_difference_between_the_living_key_and_the_new_one():
    fake = await _prepared(old_rights=("transfer",), ips=("127.0.0.1", "198.51.100.7"))
    _declare(fake, ip_allowlist=["127.0.0.1", "203.0.113.9"], permissions=["read", "trade", "trade_spot"])
    [line] = await plan(fake.world(), NAME)
    found = line.compared.difference
    assert found.removed == ("transfer", "198.51.100.7")
    assert found.added == ("trade_spot", "203.0.113.9")
    assert line.compared.unaccepted == {"transfer", "198.51.100.7"}
    assert any("--accept-loss" in text for text in line.obstacles)


async def test_a_plan_tells_when_the_venue_ends_the_new_key():
    manifest = ADDING.model_copy(update={"adds": (), "expiry_days_without_ip": 90})
    fake = await _prepared(manifest=manifest, ips=("127.0.0.1",))
    _declare(fake, ip_allowlist=[])
    [line] = await plan(fake.world(), NAME)
    (change,) = line.compared.difference.changed
    assert (change.what, change.before) == ("expires", "never")
    assert change.after.startswith("20")


async def test_a_plan_says_when_the_difference_cannot_be_had():
    fake = await _prepared()
    fake.exchange.fail("list_keys", ExchangeFault.VENUE_DOWN)
    fake.exchange.fail("introspect", ExchangeFault.VENUE_DOWN)
    [line] = await plan(fake.world(), NAME)
    assert line.compared.difference is None
    assert "not known" in line.compared.missing
    assert line.compared.must_be_known


async def test_a_plan_asks_the_key_itself_when_the_list_cannot_be_had():
    fake = await _prepared(old_rights=("transfer",))
    fake.exchange.fail("list_keys", ExchangeFault.MISSING_PERMISSION)
    [line] = await plan(fake.world(), NAME)
    assert line.compared.told_by == "the key itself"
    assert line.compared.difference.removed == ("transfer",)


async def test_the_plan_of_an_open_rotation_tells_what_is_still_to_come():
    fake = await _prepared(permissions=("read", "trade"), old_rights=("transfer",))
    engine = Engine(fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test", accept_loss=frozenset({"transfer"}))
    waiting = await engine.advance(opened)
    assert waiting.rotation.state is State.GRACE
    [line] = await plan(fake.world(), NAME)
    assert (line.open_rotation, line.open_state) == (opened.id, State.GRACE)
    (last,) = line.steps
    assert last.startswith("revoke the old key (")
    assert line.compared.difference.removed == ("transfer",)


async def test_a_plan_changes_nothing():
    fake = await _prepared(old_rights=("transfer",))
    before = (fake.exchange.truth(), await fake.journal.latest())
    await plan(fake.world())
    assert (fake.exchange.truth(), await fake.journal.latest()) == before
    assert {method for method, _ in fake.exchange.calls} <= {"list_keys", "introspect", "private_read"}


async def _emptied(**more) -> FakeWorld:
    fake = await _prepared(**more)
    await empty(fake)
    return fake


async def test_a_plan_over_an_emptied_slot_compares_with_the_key_that_the_journal_has_as_living():
    fake = await _emptied(old_rights=("transfer",))
    [line] = await plan(fake.world(), NAME)
    assert line.compared.difference.removed == ("transfer",)
    assert line.compared.unaccepted == {"transfer"}
    assert any("--accept-loss" in text for text in line.obstacles)
    parked = await _rotate(fake)
    assert (parked.parked, _minted(fake)) == (Park.LOSS, 0), "the rotation says what the plan said"


async def test_a_plan_over_an_emptied_slot_says_when_the_living_key_is_not_listed():
    fake = await _emptied()
    for ref in list(fake.exchange.truth()):
        if any(k.key_ref == ref for k in await fake.journal.keys(NAME)):
            fake.exchange.kill_key(ref)
    [line] = await plan(fake.world(), NAME)
    assert line.compared.difference is None
    assert line.compared.must_be_known
    assert "does not list it" in line.compared.missing


async def test_a_plan_says_that_the_living_key_is_one_of_another_sub_account():
    fake = await _emptied(old_rights=("transfer",))
    _declare(fake, subaccount="other-desk")
    [line] = await plan(fake.world(), NAME)
    (change,) = line.compared.difference.changed
    assert (change.what, change.before) == ("account", "account main")
    assert change.after == "account main, sub-account other-desk"
    assert line.compared.unaccepted == {"transfer"}
    parked = await _rotate(fake)
    assert (parked.parked, _minted(fake)) == (Park.LOSS, 0), "the rotation says what the plan said"


async def test_a_plan_says_that_the_current_key_is_one_of_another_sub_account_and_that_nothing_is_minted():
    fake = await _prepared()
    _declare(fake, subaccount="other-desk")
    [line] = await plan(fake.world(), NAME)
    (change,) = line.compared.difference.changed
    assert change.what == "account"
    assert any("it is one of account main" in text for text in line.obstacles)
    parked = await _rotate(fake)
    assert (parked.parked, _minted(fake)) == (Park.MANAGER_KEY, 0)


async def test_a_plan_names_a_living_key_of_another_account_of_the_inventory():
    fake = await _emptied()
    raw = fake.inventory.model_dump(mode="json", exclude_none=True)
    raw["accounts"]["second"] = raw["accounts"]["main"]
    raw["credentials"][NAME]["account"] = "second"
    fake.inventory = Inventory.model_validate(raw)
    [line] = await plan(fake.world(), NAME)
    assert "another account's" in line.compared.missing
    assert "account main" in line.compared.missing
