"""A standby that answers reads itself may be behind its leader: what it says late is never acted on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.engine.engine import Engine
from keyturn.simulator.vault import Trouble
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.fake_world import PATH, FakeWorld
from keyturn.testing.roads import ROADS
from keyturn.testing.store_contract_support import fake_material, fake_meta, key_in, keys_in, put_key

from .vault_cluster import Cluster, real_cluster, simulated_cluster

# More than a role of a moment ago needs to be heard of.
_HEARD_SECONDS = 0.5


@pytest.fixture(scope="module", params=["simulated", "real"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    real = request.param == "real"
    with real_cluster(tmp_path_factory.mktemp("cluster")) if real else simulated_cluster() as found:
        yield found


@pytest.fixture
def one() -> Attempt:
    return Attempt(new_rotation_id(), 1)


@pytest.fixture
def path() -> str:
    return f"bots/p-{secrets.token_hex(4)}"


def opened(cluster: Cluster, folder: Path, *more: str) -> VaultKv2Store:
    """Open a store whose first address is the standby; a simulated one catches up when it is waited for."""
    names = [cluster.leader.policy("rotator", PATHS=at) for at in ("bots", "managers")]
    auth = cluster.leader.approle(folder, *names)
    cluster.catch_up(_HEARD_SECONDS)
    store = cluster.leader.open(auth, addresses=[cluster.standby, *more])
    store._session._adapter.pause = cluster.catch_up
    return store


async def rotated(store: VaultKv2Store, path: str) -> None:
    """Rotate once by the port's verbs, each step held against what was written."""
    one = Attempt(new_rotation_id(), 1)
    old = await put_key(store, path, "old")
    claim = await store.claim(path, one)
    await store.stage(path, fake_material("new"), fake_meta("new", one), claim)
    staged = await store.read(path, Slot.PENDING)
    assert staged is not None
    promoted = await store.promote(path, one, expect_current=old.version)
    assert promoted.previous == old.version
    assert (await store.peek(path, Slot.CURRENT)).version == promoted.current
    assert await keys_in(store, path) == (None, "key-new", "key-old")
    await store.discard(path, Slot.PREVIOUS, version=old.version)


@pytest.mark.parametrize("listed", ["alone", "before its leader"])
async def test_rotations_through_a_standby_meet_no_fault_and_leave_no_old_secret(cluster, tmp_path, listed):
    more = () if listed == "alone" else (cluster.leader.address,)
    store = opened(cluster, tmp_path, *more)
    paths = [f"bots/p-{secrets.token_hex(4)}" for _ in range(24)]
    for n in range(0, len(paths), 8):
        await asyncio.gather(*(rotated(store, path) for path in paths[n : n + 8]))
    for path in paths:
        rows = cluster.leader.admin("GET", f"{cluster.leader.mount}/metadata/{path}")["data"]["versions"]
        assert [number for number, row in rows.items() if not row["destroyed"]] == [max(rows, key=int)]
        assert cluster.leader.get(path)["api_key"] == "key-new"
    if more and cluster.simulator:  # a real one may have heard of everything in time
        assert store._session.place == 1, "the leader is remembered"
    await store.close()


@pytest.mark.parametrize("road", ["forward", "aborted when verified", "rolled back in grace"])
async def test_the_engine_rotates_through_a_standby(cluster, tmp_path, road):
    store = opened(cluster, tmp_path)
    world = FakeWorld(grace="10s", judging=False)
    world.store = store
    for where in (PATH, "managers/main", f"keyturn/pending/{PATH}"):
        cluster.leader.admin("DELETE", f"{cluster.leader.mount}/metadata/{where}")
    cluster.catch_up(_HEARD_SECONDS)
    await world.prepare()
    await ROADS[road].story(world, Engine(world.world()))
    assert world.old is not None
    live = cluster.leader.get(PATH)["api_key"]
    assert (live == world.old.key_ref) is (road != "forward")
    assert live in world.exchange.truth()
    cluster.catch_up(_HEARD_SECONDS)
    assert await store.peek(PATH, Slot.PENDING) is None
    assert await store.peek(PATH, Slot.PREVIOUS) is None
    await store.close()


# What only a standby shows that is told when to hear of something.


@pytest.fixture
def deaf() -> Iterator[Cluster]:
    """Run a pair of which the second has heard of no write since now."""
    with simulated_cluster() as found:
        yield found


@pytest.fixture
async def store(deaf: Cluster, tmp_path: Path) -> AsyncIterator[VaultKv2Store]:
    """Open a store by the standby alone; waiting does not make it hear."""
    found = opened(deaf, tmp_path)
    found._session._adapter.pause = lambda seconds: None
    await found.peek("bots/other", Slot.CURRENT)
    yield found
    await found.close()


async def failed(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    return caught.value


async def test_a_state_from_before_our_own_write_is_told_as_late_not_taken(store, path):
    await put_key(store, path, "a")
    error = await failed(store.peek(path, Slot.CURRENT))
    assert error.fault is StoreFault.UNAVAILABLE
    assert "older" in error.what
    assert "standby" in error.todo


@pytest.mark.parametrize("look", ["signature", "key"])
async def test_a_bot_is_not_shown_an_older_key_than_it_saw(deaf, store, path, look):
    looks = {
        "signature": lambda: store.signature(path),
        "key": lambda: store.read_sync(path, Slot.CURRENT).material.key_ref,
    }
    await put_key(store, path, "a")
    deaf.catch_up()
    seen, current = looks[look](), await store.peek(path, Slot.CURRENT)
    await put_key(store, path, "b", current.version)
    with pytest.raises(StoreError, match="older"):
        looks[look]()
    deaf.catch_up()
    assert looks[look]() != seen


async def test_what_was_deleted_is_taken_as_it_is_at_the_second_look(deaf, store, path):
    await put_key(store, path, "a")
    deaf.leader.admin("DELETE", f"{deaf.leader.mount}/metadata/{path}")
    deaf.catch_up()
    assert "deleted" in (await failed(store.peek(path, Slot.CURRENT))).todo
    assert await store.peek(path, Slot.CURRENT) is None


async def test_the_leader_is_asked_before_anybody_waits_for_the_standby(deaf, tmp_path, path):
    store = opened(deaf, tmp_path, deaf.leader.address)
    waits: list[float] = []
    store._session._adapter.pause = waits.append
    await put_key(store, path, "a")
    assert await key_in(store, path, Slot.CURRENT) == "key-a"
    assert store._session.place == 1
    assert len(waits) == 1
    await store.close()


async def test_a_write_refused_by_who_is_behind_is_sent_again(deaf, store, path, one):
    store._session._adapter.pause = deaf.catch_up
    current = await put_key(store, path, "a")
    claim = await store.claim(path, one)
    # The claim is not heard of yet: the standby holds the version that it names for a wrong one.
    await store.stage(path, fake_material("b"), fake_meta("b", one), claim)
    await store.promote(path, one, expect_current=current.version)
    assert deaf.leader.get(path)["api_key"] == "key-b"


async def test_a_person_who_may_only_write_can_stage_through_a_standby(deaf, tmp_path, path, one):
    rotator = opened(deaf, tmp_path)
    await put_key(rotator, path, "a")
    claim = await rotator.claim(path, one)
    auth = deaf.leader.approle(tmp_path, deaf.leader.policy("intake", PATHS="bots"))
    person = deaf.leader.open(auth, addresses=[deaf.standby])
    person._session._adapter.pause = deaf.catch_up
    await person.stage(path, fake_material("b"), fake_meta("b", one), claim)
    deaf.catch_up()
    assert await key_in(rotator, path, Slot.PENDING) == "key-b"
    for each in (rotator, person):
        await each.close()


async def test_a_conflict_with_another_writer_waits_for_nobody(deaf, tmp_path, path, one):
    store = deaf.leader.rotator(tmp_path)
    waits: list[float] = []
    store._session._adapter.pause = waits.append
    await put_key(store, path, "a")
    claim = await store.claim(path, one)
    await store.stage(path, fake_material("b"), fake_meta("b", one), claim)
    error = await failed(store.stage(path, fake_material("c"), fake_meta("c", one), claim))
    assert error.fault is StoreFault.CONFLICT
    other = deaf.leader.rotator(tmp_path)
    await put_key(other, path, "d", (await other.peek(path, Slot.CURRENT)).version)
    assert (await failed(store.promote(path, one, expect_current="1"))).fault is StoreFault.CONFLICT
    assert not waits
    for each in (store, other):
        await each.close()


async def test_a_write_that_is_refused_for_ever_ends_in_a_fault(deaf, store, path):
    await put_key(store, path, "a")
    deaf.catch_up()
    current = await store.peek(path, Slot.CURRENT)
    # Another writes at the leader, and the standby never hears of it.
    deaf.leader.put(path, {"api_key": "key-b", "api_secret": "not-a-real-secret"})
    error = await failed(put_key(store, path, "c", current.version))
    assert error.fault is StoreFault.UNAVAILABLE
    assert deaf.leader.get(path)["api_key"] == "key-b"


async def test_a_version_that_is_not_heard_of_yet_is_not_taken_for_pruned(deaf, store, path, one):
    old = await put_key(store, path, "a")
    deaf.catch_up()
    claim = await store.claim(path, one)
    deaf.catch_up()
    await store.stage(path, fake_material("b"), fake_meta("b", one), claim)
    deaf.catch_up()
    await store.promote(path, one, expect_current=old.version)
    deaf.catch_up()
    pointer = store._shelf.current(path).previous
    # Asked of one who has heard of nothing yet, as behind a balancer.
    deaf.simulator.mounts[deaf.leader.mount].secrets.pop(path)
    store._session._adapter.pause = deaf.catch_up
    assert store._shelf.previous(path, pointer).version == old.version


async def test_a_login_that_the_standby_has_not_heard_of_is_given_time(deaf, tmp_path, path):
    store = opened(deaf, tmp_path)
    deaf.simulator.fail(
        Trouble.ANSWER,
        path="sys/internal/ui/mounts",
        status=403,
        times=3,
        error="preflight capability check returned 403",
    )
    await put_key(store, path, "a")
    assert deaf.leader.get(path)["api_key"] == "key-a"
    await store.close()
