"""Whole rotations by the engine over the Vault store, with a mishap at each of their calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import JournalError, RefusedError
from keyturn.domain.material import SecretMaterial
from keyturn.domain.rotation import Mode, State
from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.engine.engine import Engine
from keyturn.simulator.vault import Seen, VaultSimulator
from keyturn.stores.vault.documents import Snapshot, read_current
from keyturn.stores.vault.transport import Answer
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.crash import Killed, Mishap, Row
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .vault_cases import server
from .vault_server import PREFIX, Server, simulated

__all__ = ["server"]


class VaultWorld(FakeWorld):
    """The world in memory, its store in a Vault; the judge looks into the simulator's own books."""

    simulator: VaultSimulator
    mount: str

    def over(self, server: Server, store: VaultKv2Store) -> VaultWorld:
        assert server.simulator is not None
        self.simulator, self.mount = server.simulator, server.mount
        self.store = store
        return self

    def _current(self, store: Any) -> Stored | None:
        if store is not self.store:
            return super()._current(store)
        secret = self.simulator.mounts[self.mount].secrets.get(PATH)
        version = secret.versions[secret.current] if secret else None
        if version is None or version.data is None:
            return None
        found = read_current(PATH, Snapshot(version.number, version.data, version.created))
        if found.version is None:
            return None
        info = SlotInfo(Slot.CURRENT, found.version, found.attempt, found.meta)
        return Stored(info, SecretMaterial.of(found.values))

    def secrets_kept(self) -> set[str]:
        """Give the key ids of every value that the server still holds for the credential."""
        secrets = self.simulator.mounts[self.mount].secrets
        found = [secrets[path] for path in (PATH, f"{PREFIX}/{PATH}") if path in secrets]
        held = [version.data or {} for secret in found for version in secret.versions.values()]
        return {data["api_key"] for data in held if "api_key" in data}


class Wire:
    """Calls the simulator without a network, and dies at one of the calls."""

    def __init__(self, simulator: VaultSimulator, token: str) -> None:
        self._simulator, self._token = simulator, token
        self.calls: list[str] = []
        self.die_at: int | None = None
        self.after = False

    def __call__(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: Any = None,
        params: Any = None,
        changes: bool = False,
    ) -> Answer:
        number = len(self.calls)
        self.calls.append(method)
        if number == self.die_at and not self.after:
            raise Killed
        seen = Seen(method.upper(), url.removeprefix("/v1/"), token, None, json.loads(json.dumps(body or {})))
        with self._simulator._lock:
            reply = self._simulator._handle(seen, {k: str(v) for k, v in (params or {}).items()})
        if number == self.die_at:
            raise Killed
        return Answer(reply.status, json.loads(json.dumps(reply.body or {})))


@pytest.fixture(scope="module")
def fake() -> Iterator[Server]:
    with simulated() as found:
        yield found


async def opened(engine: Engine) -> str:
    return (await engine.open(NAME, mode=Mode.MANUAL, reason="a test")).id


async def until(world: FakeWorld, engine: Engine, state: State) -> str:
    rotation = await opened(engine)
    for _ in range(60):
        now = await engine.get(rotation)
        if now.state is state or not now.is_open:
            break
        progress = await engine.step(rotation)
        if progress.rest and progress.rest.until:
            world.clock.travel_to(progress.rest.until)
    return rotation


async def forward(world: FakeWorld, engine: Engine) -> None:
    await world.run(engine, await opened(engine))


async def aborted(world: FakeWorld, engine: Engine) -> None:
    rotation = await until(world, engine, State.VERIFIED)
    await engine.abort(NAME, "a test wants it")
    await world.run(engine, rotation)


async def rolled_back(world: FakeWorld, engine: Engine) -> None:
    rotation = await until(world, engine, State.GRACE)
    await engine.rollback(NAME, "a test wants it")
    await world.run(engine, rotation)


ROADS: dict[str, tuple[Callable[..., Any], bool]] = {
    "forward": (forward, True),
    "the first key": (forward, False),
    "aborted": (aborted, True),
    "aborted, the first key": (aborted, False),
    "rolled back": (rolled_back, True),
}


async def walk(
    fake: Server, road: str, folder: Path, arm: Callable[[VaultWorld, Wire], None] = lambda world, wire: None
) -> tuple[list[Row], list[str]]:
    """Go down a road with one mishap at most, sweep up, judge; give both kinds of calls."""
    simulator = fake.simulator
    assert simulator is not None
    simulator.mounts[fake.mount].secrets.clear()
    store = fake.open(fake.given(folder, fake.root))
    wire = Wire(simulator, fake.root)
    store._session._adapter.call = wire
    story, old_key = ROADS[road]
    world = VaultWorld(grace="10s").over(fake, store)
    await world.prepare(old_key=old_key)
    wire.calls.clear()
    arm(world, wire)
    with suppress(Killed, JournalError, RefusedError):
        await story(world, Engine(world.world(traced=True)))
    rows, calls = list(world.tracer.rows), list(wire.calls)
    world.tracer.disarm()
    wire.die_at = None
    try:
        await world.sweep_until_rest(traced=True)
        if old_key or not road.startswith("aborted"):
            await world.judge_rest()
        current = world._current(store)
        kept = world.secrets_kept() - ({current.material.key_ref} if current else set())
        assert not kept, "a secret that is over was not destroyed"
    finally:
        await store.close()
    return rows, calls


@pytest.mark.parametrize("mishap", Mishap)
@pytest.mark.parametrize("road", ROADS)
async def test_a_mishap_at_any_call_of_the_store_is_finished_by_the_sweep(fake, tmp_path, road, mishap):
    rows, _ = await walk(fake, road, tmp_path)
    for at, row in enumerate(rows):
        if row.port != "store":
            continue
        try:
            await walk(fake, road, tmp_path, lambda world, wire, at=at: world.tracer.arm(at, mishap))
        except AssertionError as error:
            raise AssertionError(f"{road}, call {at} ({row}), {mishap}: {error}") from error


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("road", ROADS)
async def test_a_death_at_any_call_to_the_server_is_finished_by_the_sweep(fake, tmp_path, road, after):
    def arm(at: int, world: VaultWorld, wire: Wire) -> None:
        wire.die_at, wire.after = at, after

    _, calls = await walk(fake, road, tmp_path)
    assert len(calls) > 10
    for at, method in enumerate(calls):
        if after and method == "get":
            continue
        try:
            await walk(fake, road, tmp_path, partial(arm, at))
        except AssertionError as error:
            raise AssertionError(f"{road}, call {at} ({method}), after={after}: {error}") from error


@pytest.mark.parametrize("road", ["forward", "aborted", "rolled back"])
async def test_a_whole_rotation_on_each_server(server, tmp_path, road):
    """Over the wire, with the rotator's policy alone."""
    store = server.rotator(tmp_path)
    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    server.admin("DELETE", f"{server.mount}/metadata/{PATH}")
    server.admin("DELETE", f"{server.mount}/metadata/managers/main")
    server.admin("DELETE", f"{server.mount}/metadata/{PREFIX}/{PATH}")
    await world.prepare()
    await ROADS[road][0](world, Engine(world.world()))
    assert world.old is not None
    current = await store.read(PATH, Slot.CURRENT)
    assert (current.material.key_ref == world.old.key_ref) is (road != "forward")
    assert current.material.key_ref in world.exchange.truth()
    assert server.get(PATH)["api_key"] == current.material.key_ref
    assert await store.peek(PATH, Slot.PENDING) is None
    assert await store.peek(PATH, Slot.PREVIOUS) is None
    assert world.bot.loaded.material.key_ref == current.material.key_ref
    await store.close()
