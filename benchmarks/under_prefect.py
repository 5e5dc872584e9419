"""The engine under Prefect: a server of its own, and the sweep flow over every credential."""

from __future__ import annotations

import os
import time
from functools import partial
from unittest.mock import patch

from benchmarks.engine import check, warm
from benchmarks.scene import Scene
from flows.own_server import OwnServer


async def measure(scene: Scene, at_once: int) -> float:
    """Rotate every credential of the scene in one run of the sweep; give the seconds of the run.

    The process, its imports, the server and the connection to it are not in the figure: a worker has them.
    """
    os.environ["KEYTURN_INVENTORY"] = str(scene.inventory)
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
    with OwnServer(scene.folder / "prefect") as server:
        return await _measure(scene, at_once, server)


async def _measure(scene: Scene, at_once: int, server: OwnServer) -> float:
    from flows.forms import RotateRequest, SweepRequest
    from flows.rotate import rotate_credential
    from flows.sweep import sweep
    from keyturn import wiring
    from keyturn.engine.status import status
    from keyturn.exchanges import catalog
    from keyturn.settings import load_inventory

    # The venues' documented rates would be the figure; the floor keeps to none either.
    unlimited = patch.object(wiring, "open_world", partial(wiring.open_world, rate_limit=False))
    warm(scene)
    server.wait_until_ready()
    with unlimited:
        # A dry run first: a worker's connection to its server is open, too.
        name = scene.credentials[0].name
        dry = RotateRequest(credential=name, reason="warm up", requested_by="benchmark", dry_run=True)
        await rotate_credential(dry, return_state=True)
        began = time.perf_counter()
        await sweep(SweepRequest(at_once=at_once), return_state=True)
        took = time.perf_counter() - began
    loaded = load_inventory(scene.inventory, manifests=catalog.manifests())
    async with wiring.open_world(loaded, actor="benchmark") as world:
        done = {s.credential for s in await status(world) if s.state == "idle" and s.last_rotated_at}
    check(["completed" if c.name in done else "not completed" for c in scene.credentials])
    return took
