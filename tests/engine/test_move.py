"""Moving house: safe to kill at every port call, and the old copy goes only after proof."""

from contextlib import suppress
from dataclasses import replace

import pytest

from keyturn.domain.errors import ConsumerError, ConsumerFault, KeyturnError, RefusedError, StoreError
from keyturn.domain.inventory import Inventory, StoreAddress
from keyturn.domain.rotation import Fate, Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine import move
from keyturn.engine.engine import Engine
from keyturn.testing.crash import Killed, Mishap
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

OLD, NEW = StoreAddress(store="s", path=PATH), StoreAddress(store="mirror", path="new/mm")


class House:
    """A credential on the move, and the inventory as a person changes it."""

    def __init__(self, **options):
        self.fake = FakeWorld(**options)
        self.switched = False
        self.fake.bot.notify = self.load

    async def load(self, notice) -> None:
        """Let the bot load its key where the inventory says, as `keyturn.client` does."""
        self.fake.bot.notices.append(notice)
        self.fake.bot.loaded = await self.key_at_home()

    @property
    def inventory(self) -> Inventory:
        if not self.switched:
            return self.fake.inventory
        entry = self.fake.inventory.credentials[NAME]
        mirror = {"store": OLD.store, "path": OLD.path}
        data = entry.model_dump() | {"store": NEW.store, "path": NEW.path, "mirrors": [mirror]}
        moved = type(entry).model_validate(data)
        return self.fake.inventory.model_copy(update={"credentials": {NAME: moved}})

    def world(self):
        return replace(self.fake.world(traced=True), inventory=self.inventory)

    async def go(self) -> None:
        if not self.switched:
            await move.copy(self.world(), NAME, NEW)
            self.switched = True
        await move.tell(self.world(), NAME, OLD)
        await move.finish(self.world(), NAME, OLD)

    async def key_at_home(self):
        here = self.inventory.store_of(NAME)
        store = self.fake.mirror if here.store == "mirror" else self.fake.store
        return await store.read(here.path, Slot.CURRENT)

    async def judge(self, key) -> None:
        here = await self.fake.mirror.read(NEW.path, Slot.CURRENT)
        assert here is not None
        assert here.material == key.material
        assert here.info.meta == key.info.meta
        assert await self.fake.mirror.peek(NEW.path, Slot.PREVIOUS) is None
        assert [await self.fake.store.peek(OLD.path, slot) for slot in Slot] == [None, None, None]
        assert not self.fake.store._shelves[OLD.path].contents, "the old copy was destroyed"


async def calls() -> int:
    house = House()
    await house.fake.prepare()
    house.fake.tracer.arm(10_000, Mishap.BEFORE)
    await house.go()
    return len(house.fake.tracer.rows)


@pytest.mark.parametrize("mishap", list(Mishap))
async def test_a_move_that_is_killed_at_any_call_is_finished_by_the_next(mishap):
    for at in range(await calls()):
        house = House()
        await house.fake.prepare()
        key = await house.key_at_home()
        house.fake.tracer.arm(at, mishap)
        with suppress(Killed, KeyturnError):
            await house.go()
        row = house.fake.tracer.rows[at]
        house.fake.tracer.disarm()
        home = await house.key_at_home()
        assert home is not None, row
        assert home.material == key.material, row
        await house.go()
        await house.judge(key)


async def test_the_old_copy_stays_until_every_bot_has_proved_that_it_moved():
    house = House()
    await house.fake.prepare()
    key = await house.key_at_home()
    house.fake.bot.confirms = False
    await move.copy(house.world(), NAME, NEW)
    house.switched = True
    told = await move.tell(house.world(), NAME, OLD)
    assert set(told.missing) == {"bot"}
    with pytest.raises(RefusedError, match="bot"):
        await move.finish(house.world(), NAME, OLD)
    assert (await house.fake.store.read(OLD.path, Slot.CURRENT)).material == key.material
    house.fake.bot.confirms = True
    assert (await move.finish(house.world(), NAME, OLD)).confirmed == ("bot",)
    await house.judge(key)


async def test_a_bot_that_cannot_be_told_or_asked_is_named_with_the_reason():
    house = House()
    await house.fake.prepare()
    await move.copy(house.world(), NAME, NEW)
    house.switched = True
    house.fake.bot.confirms = False

    async def down(_notice):
        raise ConsumerError(ConsumerFault.UNREACHABLE, "It is away.")

    house.fake.bot.notify = down
    assert (await move.tell(house.world(), NAME, OLD)).missing == {"bot": "It is away."}


async def test_telling_twice_is_telling_once():
    house = House()
    await house.fake.prepare()
    await move.copy(house.world(), NAME, NEW)
    house.switched = True
    await move.tell(house.world(), NAME, OLD)
    await move.tell(house.world(), NAME, OLD)
    assert len({n.notice_id for n in house.fake.bot.notices}) == 1


@pytest.mark.parametrize("step", ["copy", "tell", "finish"])
async def test_nothing_moves_while_a_rotation_is_open(step):
    house = House()
    await house.fake.prepare()
    if step != "copy":
        await move.copy(house.world(), NAME, NEW)
        house.switched = True
    await Engine(house.fake.world()).open(NAME, mode=Mode.MANUAL, reason="a test")
    with pytest.raises(RefusedError, match="being rotated"):
        await getattr(move, step)(house.world(), NAME, NEW if step == "copy" else OLD)
    assert await house.fake.store.peek(OLD.path, Slot.CURRENT) is not None


async def rotated(house: House) -> None:
    engine = Engine(house.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    assert (await house.fake.run(engine, rotation.id)).state is State.COMPLETED


async def test_a_rotation_in_the_middle_of_a_move_reaches_both_places():
    house = House(grace="10s")
    await house.fake.prepare()
    await move.copy(house.world(), NAME, NEW)
    house.switched = True
    await rotated(house)
    key = await house.key_at_home()
    left = await house.fake.store.read(OLD.path, Slot.CURRENT)
    assert left.material == key.material
    await house.go()
    await house.judge(key)


async def test_a_copy_that_a_rotation_made_old_is_made_again():
    house = House(grace="10s")
    await house.fake.prepare()
    await move.copy(house.world(), NAME, NEW)
    await rotated(house)
    key = await house.key_at_home()
    await house.go()
    await house.judge(key)


async def test_an_inventory_that_names_a_copy_with_a_dead_key_is_refused():
    house = House(grace="10s")
    await house.fake.prepare()
    await move.copy(house.world(), NAME, NEW)
    dead = (await house.key_at_home()).material.key_ref
    await rotated(house)
    house.switched = True
    fates = {k.key_ref: k.fate for k in await house.fake.journal.keys(NAME)}
    assert fates[dead] is Fate.REVOKED
    for step in (move.tell, move.finish):
        with pytest.raises(RefusedError, match="does not hold the key"):
            await step(house.world(), NAME, OLD)
    house.switched = False
    await house.go()
    await house.judge(await house.key_at_home())


async def test_another_key_at_the_new_place_is_never_written_over():
    house = House()
    await house.fake.prepare()
    stranger = await house.fake.store.read("managers/main", Slot.CURRENT)
    await house.fake.mirror.put(NEW.path, stranger.material, stranger.info.meta, expect_current=None)
    with pytest.raises(RefusedError, match="Another key stands"):
        await move.copy(house.world(), NAME, NEW)
    assert (await house.fake.mirror.read(NEW.path, Slot.CURRENT)).material == stranger.material


async def test_a_place_that_does_not_give_back_what_it_was_given_is_not_moved_to():
    house = House()
    await house.fake.prepare()
    real = house.fake.mirror.put

    async def mangled(path, material, meta, *, expect_current):
        values = material.reveal() | {"secret": "not-a-real-secret-mangled"}
        return await real(path, type(material).of(values), meta, expect_current=expect_current)

    house.fake.mirror.put = mangled
    with pytest.raises(StoreError, match="does not give back"):
        await move.copy(house.world(), NAME, NEW)
