"""The manager key: looked at as seldom as may be, and never the reason that a rotation stands still."""

from keyturn.domain.keys import Permission
from keyturn.domain.rotation import Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt
from keyturn.engine.engine import Engine
from keyturn.engine.work import Work
from keyturn.testing.fake_world import NAME, FakeWorld


async def test_credentials_that_share_a_manager_key_look_at_it_once_in_a_second():
    fake = FakeWorld()
    await fake.prepare()
    world = fake.world(traced=True)
    looks = []

    async def look() -> None:
        before = len(fake.tracer.rows)
        await Work(world, rotation).manager()
        looks.append([row.method for row in fake.tracer.rows[before:] if row.port == "store"])

    rotation = await Engine(world).open(NAME, mode=Mode.MANUAL, reason="a test")
    await look()
    await look()
    fake.clock.advance(1)
    await look()
    assert looks == [["read"], [], ["peek"]]


async def test_a_manager_key_that_was_replaced_a_moment_ago_is_looked_for_and_parks_nothing():
    fake = FakeWorld()
    await fake.prepare()
    world = fake.world(traced=True)
    engine = Engine(world)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    await Work(world, rotation).manager()
    before = await fake.store.read("managers/main", Slot.CURRENT)
    issued = fake.exchange.add_key((*fake.manifest.manager_any_of, Permission.READ), label="manager")
    await adopt.put_manager(fake.world(traced=False), "main", issued.material)
    fake.exchange.kill_key(before.material.key_ref)
    waiting = await engine.advance(rotation)
    assert waiting.rotation.state is State.PLANNED
    fake.clock.travel_to(waiting.rest.until)
    done = await engine.advance(rotation.id)
    assert done.rotation.state in {State.GRACE, State.COMPLETED}


async def test_a_manager_key_that_is_replaced_right_before_the_revoke_leaves_no_old_key_alive():
    fake = FakeWorld()
    await fake.prepare()
    world = fake.world()
    engine = Engine(world)
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    waiting = await engine.advance(rotation)
    assert waiting.rotation.state is State.GRACE
    fake.clock.travel_to(waiting.rest.until)
    await Work(world, waiting.rotation).manager()
    before = await fake.store.read("managers/main", Slot.CURRENT)
    issued = fake.exchange.add_key((*fake.manifest.manager_any_of, Permission.READ), label="manager")
    await adopt.put_manager(fake.world(), "main", issued.material)
    fake.exchange.kill_key(before.material.key_ref)
    refused = await engine.advance(rotation.id)
    assert refused.rotation.state is State.REVOKING
    fake.clock.travel_to(refused.rest.until)
    assert (await engine.advance(rotation.id)).rotation.state is State.COMPLETED
    assert fake.old.key_ref not in fake.exchange.truth()
