"""Whole rotations by the engine over the Vault store, on each server, with the rotator's policy alone.

What happens when one of their calls ends badly is in test_every_call.py.
"""

from __future__ import annotations

import pytest

from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import PATH, FakeWorld
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
