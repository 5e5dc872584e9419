"""What a person takes in by hand: killed or failed at any port call, the same command again finishes it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.keys import Permission
from keyturn.domain.rotation import Mode, Origin, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.testing.crash import Killed, Mishap
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

_MANAGER_PATH = "managers/main"


NEW_NAME = "renamed"


def named(world: World, *names: str, **changes: object) -> World:
    """The world with these names in the inventory, each with the one entry that there was."""
    entry = world.inventory.credentials[NAME].model_copy(update=changes)
    inventory = world.inventory.model_copy(update={"credentials": dict.fromkeys(names, entry)})
    return replace(world, inventory=inventory)


class Table:
    """A world in which a person has a key at hand, and takes it in."""

    def __init__(self) -> None:
        self.fake = FakeWorld(consumers=())

    async def set(self) -> None:
        await self.fake.prepare(old_key=False)
        rights = [Permission(p) for p in self.fake.permissions]
        self.key = self.fake.exchange.add_key(rights, label="made by hand").material
        managing = (*self.fake.manifest.manager_any_of, Permission.READ)
        self.manager = self.fake.exchange.add_key(managing, label="manager").material

    async def put(self, world: World) -> None:
        await adopt.put_credential(world, NAME, self.key)

    async def put_manager(self, world: World) -> None:
        await adopt.put_manager(world, "main", self.manager)

    async def adopt(self, world: World) -> None:
        await adopt.adopt(world, NAME)

    async def judge(self) -> None:
        """The key is current, the journal owns it once, and it can be rotated away."""
        current = await self.fake.store.read(PATH, Slot.CURRENT)
        assert current is not None
        assert current.material == self.key
        (record,) = await self.fake.journal.keys(NAME)
        assert (record.origin, record.key_ref) == (Origin.ADOPTED, self.key.key_ref)
        engine = Engine(self.fake.world())
        opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test asks for it")
        assert (await self.fake.run(engine, opened.id)).state is State.COMPLETED
        assert self.key.key_ref not in self.fake.exchange.truth()

    async def judge_manager(self) -> None:
        current = await self.fake.store.read(_MANAGER_PATH, Slot.CURRENT)
        assert current is not None
        assert current.material == self.manager
        assert self.manager.key_ref in self.fake.exchange.truth(), "no manager key is ever revoked"


async def table(*, stored: bool) -> Table:
    made = Table()
    await made.set()
    if stored:  # by a person who used the store's own tool and our format
        meta = await adopt._meta(made.fake.world(), "main", made.key, None)
        await made.fake.store.put(PATH, made.key, meta, expect_current=None)
    return made


COMMANDS: dict[str, tuple[Callable[..., Awaitable[None]], Callable[[Table], Awaitable[None]]]] = {
    "put": (Table.put, Table.judge),
    "put --manager": (Table.put_manager, Table.judge_manager),
    "adopt": (Table.adopt, Table.judge),
}


@pytest.mark.parametrize("mishap", list(Mishap))
@pytest.mark.parametrize("command", list(COMMANDS))
async def test_a_command_that_is_killed_at_any_call_is_finished_by_the_same_command(
    command: str, mishap: Mishap
) -> None:
    do, judge = COMMANDS[command]
    whole = await table(stored=command == "adopt")
    whole.fake.tracer.arm(10_000, mishap)
    await do(whole, whole.fake.world(traced=True))
    calls = len(whole.fake.tracer.rows)
    assert calls >= 3
    for at in range(calls):
        made = await table(stored=command == "adopt")
        made.fake.tracer.arm(at, mishap)
        with suppress(Killed, KeyturnError):
            await do(made, made.fake.world(traced=True))
        made.fake.tracer.disarm()
        await do(made, made.fake.world())
        await judge(made)


async def test_a_key_of_another_credential_is_never_taken_in():
    """Each would be current for one, and revoked by the rotation of the other."""
    table = Table()
    await table.set()
    world = table.fake.world()
    await table.put(world)
    inventory = world.inventory
    second = inventory.credentials[NAME].model_copy(update={"path": "bots/second", "consumers": ()})
    twice = inventory.model_copy(update={"credentials": {**inventory.credentials, "second": second}})
    other = replace(world, inventory=twice)
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s"):
        await adopt.put_credential(other, "second", table.key)
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s"):
        await adopt.put_manager(other, "main", table.key)
    (record,) = await table.fake.journal.keys(NAME)
    assert record.credential == NAME
    await table.judge()


async def test_the_manager_key_is_never_taken_in_as_a_bots_key():
    table = Table()
    await table.set()
    world = table.fake.world()
    await table.put_manager(world)
    with pytest.raises(RefusedError, match="manager key of the account main"):
        await adopt.put_credential(world, NAME, table.manager)
    assert await table.fake.journal.keys(NAME) == []


@pytest.mark.parametrize("minted", [False, True])
async def test_a_renamed_credential_takes_its_key_over_and_rotates_on(minted):
    table = Table()
    await table.set()
    await table.put(table.fake.world())
    if minted:
        engine = Engine(table.fake.world())
        done = await engine.open(NAME, mode=Mode.MANUAL, reason="a test asks for it")
        assert (await table.fake.run(engine, done.id)).state is State.COMPLETED
    world = named(table.fake.world(), NEW_NAME)
    engine = Engine(world)
    opened = await engine.open(NEW_NAME, mode=Mode.MANUAL, reason="a test asks for it")
    stopped = await table.fake.run(engine, opened.id)
    assert f"keyturn adopt {NEW_NAME}" in stopped.parked_todo
    taken = await adopt.adopt(world, NEW_NAME)
    current = await table.fake.store.peek(PATH, Slot.CURRENT)
    assert (taken.key_ref, taken.origin) == (current.meta.key_ref, Origin.ADOPTED)
    assert taken.key_ref not in {key.key_ref for key in await table.fake.journal.keys(NAME)}
    assert taken == await adopt.adopt(world, NEW_NAME)
    await engine.resume(NEW_NAME)
    assert (await table.fake.run(engine, opened.id)).state is State.COMPLETED
    assert taken.key_ref not in table.fake.exchange.truth()
    assert await table.fake.journal.unsettled() == []
    assert not (await table.fake.journal.verify()).breaks


async def test_the_age_of_a_key_that_was_taken_over_counts_from_its_making():
    table = Table()
    await table.set()
    await table.put(table.fake.world())
    made = table.fake.clock.now()
    table.fake.clock.advance(30 * 86400)
    world = named(table.fake.world(), NEW_NAME)
    await adopt.adopt(world, NEW_NAME)
    assert (await sweep.due_dates(world))[NEW_NAME].deadline <= made + timedelta(days=60)


async def test_no_key_is_taken_over_from_a_name_that_is_still_in_the_inventory():
    table = Table()
    await table.set()
    await table.put(table.fake.world())
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s") as caught:
        await adopt.adopt(named(table.fake.world(), NAME, NEW_NAME), NEW_NAME)
    assert "a key of its own" in caught.value.todo
    await table.judge()


async def test_no_key_is_taken_over_from_a_name_whose_rotation_is_open():
    table = Table()
    await table.set()
    await table.put(table.fake.world())
    engine = Engine(table.fake.world())
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="a test asks for it")
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s") as caught:
        await adopt.adopt(named(table.fake.world(), NEW_NAME), NEW_NAME)
    assert f"Rename it back to {NAME}" in caught.value.todo
    assert opened.id in caught.value.todo
    assert (await table.fake.run(engine, opened.id)).state is State.COMPLETED


async def test_a_key_that_is_recorded_under_another_account_is_not_taken_over():
    """Its revoke would be asked of the manager key of the wrong account."""
    table = Table()
    await table.set()
    await table.put(table.fake.world())
    world = named(table.fake.world(), NEW_NAME, account="other")
    accounts = {**world.inventory.accounts, "other": world.inventory.accounts["main"]}
    other = replace(world, inventory=world.inventory.model_copy(update={"accounts": accounts}))
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s") as caught:
        await adopt.adopt(other, NEW_NAME)
    assert f"Rename it back to {NAME}" in caught.value.todo
    with pytest.raises(RefusedError, match=f"recorded as {NAME}'s"):
        await adopt.put_credential(other, NEW_NAME, table.key)
