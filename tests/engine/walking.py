"""Open a rotation in the world in memory, and walk it to a state."""

from __future__ import annotations

from keyturn.domain.rotation import Mode, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld


async def opened(fake: FakeWorld, mode: Mode = Mode.MANUAL) -> tuple[Engine, str]:
    engine = Engine(fake.world(traced=True))
    return engine, (await engine.open(NAME, mode=mode, reason="a test")).id


async def until(fake: FakeWorld, engine: Engine, rotation_id: str, state: State) -> None:
    """Step until the rotation is in a state, letting time pass whenever it waits."""
    for _ in range(60):
        if (await engine.get(rotation_id)).state is state:
            return
        progress = await engine.step(rotation_id)
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    raise AssertionError(f"never {state}")
