"""The engine alone: journal with flushed intents, encrypted store, every proof."""

from __future__ import annotations

import time
from datetime import timedelta

from benchmarks.scene import Scene
from keyturn.domain.rotation import State
from keyturn.domain.slots import KeyMeta
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.settings import load_inventory
from keyturn.stores.keys import generate_identity
from keyturn.wiring import open_world


async def prepare(scene: Scene) -> None:
    """Put manager keys and old keys into the store and the journal, without asking the exchanges."""
    generate_identity(scene.folder / "age.key")
    loaded = load_inventory(scene.inventory, manifests=catalog.manifests())
    async with open_world(loaded, actor="benchmark", rate_limit=False) as world:
        store = world.adapters.store("local")
        for account, key in scene.managers.items():
            meta = _meta(world, scene.exchange_of[account], account, key.key_ref)
            await store.put(f"managers/{account}", key, meta, expect_current=None)
        records = []
        for c in scene.credentials:
            meta = _meta(world, c.exchange, c.account, c.material.key_ref)
            await store.put(f"bots/{c.name}", c.material, meta, expect_current=None)
            records.append(adopt.record(world, c.name, meta, None))
        await world.journal.record_keys(records)


def _meta(world: World, exchange: str, account: str, key_ref: str) -> KeyMeta:
    # Two months old, so that the sweep finds every credential due.
    made = world.clock.now() - timedelta(days=61)
    return KeyMeta(exchange, account, key_ref, key_ref[:8], None, made)


async def measure(scene: Scene, at_once: int) -> float:
    """Sweep: every credential of the scene is due. Give the seconds that it took."""
    loaded = load_inventory(scene.inventory, manifests=catalog.manifests())
    async with open_world(loaded, actor="benchmark", rate_limit=False) as world:
        warm(scene)
        began = time.perf_counter()
        outcomes = await sweep.sweep(Engine(world), at_once=at_once)
        took = time.perf_counter() - began
    check([o.rotation.state if o.rotation else o.error for o in outcomes])
    return took


def warm(scene: Scene) -> None:
    """Import ccxt's modules, which takes a second once a process; the floor has them, too."""
    for exchange in scene.urls:
        catalog.build(exchange)


def check(states: list[str]) -> None:
    """Refuse to report a measurement in which anything was left undone.

    Raises:
        AssertionError: a rotation did not complete.
    """
    left = [state for state in states if state != State.COMPLETED]
    assert not left, f"{len(left)} of {len(states)} did not complete: {left[:3]}"
