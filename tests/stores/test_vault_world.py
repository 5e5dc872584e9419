"""Whole rotations by the engine over the Vault store, on each server, with the rotator's policy alone.

What happens when one of their calls ends badly is in test_every_call.py.
"""

from __future__ import annotations

import pytest

from keyturn.domain.keys import Permission
from keyturn.domain.slots import Slot
from keyturn.engine import adopt
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from keyturn.testing.roads import ROADS

from .vault_cases import server
from .vault_server import PREFIX

__all__ = ["server"]


@pytest.mark.parametrize("road", ["forward", "aborted when verified", "rolled back in grace"])
async def test_a_whole_rotation_on_each_server(server, tmp_path, road):
    store = server.rotator(tmp_path)
    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    server.admin("DELETE", f"{server.mount}/metadata/{PATH}")
    server.admin("DELETE", f"{server.mount}/metadata/managers/main")
    server.admin("DELETE", f"{server.mount}/metadata/{PREFIX}/{PATH}")
    await world.prepare()
    await ROADS[road].story(world, Engine(world.world()))
    assert world.old is not None
    current = await store.read(PATH, Slot.CURRENT)
    assert (current.material.key_ref == world.old.key_ref) is (road != "forward")
    assert current.material.key_ref in world.exchange.truth()
    assert server.get(PATH)["api_key"] == current.material.key_ref
    assert await store.peek(PATH, Slot.PENDING) is None
    assert await store.peek(PATH, Slot.PREVIOUS) is None
    assert world.bot.loaded.material.key_ref == current.material.key_ref
    await store.close()


@pytest.mark.parametrize("command", ["adopt", "put"])
async def test_a_key_that_a_person_wrote_is_taken_over_with_all_that_stands_beside_it(
    server, tmp_path, command
):
    store = server.rotator(tmp_path)
    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    for path in (PATH, "managers/main", f"{PREFIX}/{PATH}"):
        server.admin("DELETE", f"{server.mount}/metadata/{path}")
    await world.prepare(old_key=False)
    key = world.exchange.add_key([Permission(p) for p in world.permissions], label="made by hand").material
    server.put(PATH, {**key.reveal(), "owner": "desk 3", "fee": 1})
    if command == "adopt":
        await adopt.adopt(world.world(), NAME)
    else:
        await adopt.put_credential(world.world(), NAME, key)
    beside = {"owner": "desk 3", "fee": 1}
    assert {k: v for k, v in server.get(PATH).items() if k != "keyturn"} == {**key.reveal(), **beside}
    await ROADS["forward"].story(world, Engine(world.world()))
    current = await store.read(PATH, Slot.CURRENT)
    assert current.material.key_ref != key.key_ref
    assert {k: v for k, v in server.get(PATH).items() if k != "keyturn"} == {
        **current.material.reveal(),
        **beside,
    }
    assert key.key_ref not in world.exchange.truth()
    await store.close()
