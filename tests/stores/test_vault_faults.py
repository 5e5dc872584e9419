"""What can go wrong between keyturn and Vault, on the simulator: each ends in one fault, nothing lost."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import AsyncIterator, Iterator

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.simulator.vault import Trouble, VaultSimulator
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    slots_of,
)

from .vault_server import Server

PATH = "bots/mm"
ONE = Attempt(new_rotation_id(), 1)
# Those from 500 on, and a balancer's 408, may be said after the work was done.
UNCLEAR = (408, 500, 502, 503, 504, 507, 520, 524, 529)
BUSY = [
    *((Trouble.ANSWER, status) for status in (412, 429, 472, 473, *UNCLEAR)),
    *((Trouble.ANSWER_AFTER, status) for status in UNCLEAR),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with VaultSimulator() as simulator:
        yield Server(simulator.address, simulator.root, simulator=simulator).prepare()


@pytest.fixture
async def store(server: Server, tmp_path) -> AsyncIterator[VaultKv2Store]:
    opened = server.rotator(tmp_path)
    await opened.peek(PATH, Slot.CURRENT)
    yield opened
    await opened.close()


@pytest.fixture
def sim(server: Server) -> VaultSimulator:
    assert server.simulator is not None
    return server.simulator


async def failed(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    error = caught.value
    assert error.now
    assert error.todo
    return error


# Each write of the port once, with what must stand before it, and what it leaves.


async def _claim(store):
    await store.claim(PATH, ONE)


async def _stage(store):
    await store.stage(PATH, fake_material("new"), fake_meta("new", ONE), await store.claim(PATH, ONE))


async def _promote(store):
    current = await store.peek(PATH, Slot.CURRENT)
    await store.promote(PATH, ONE, expect_current=current.version)


async def _restore(store):
    current = await store.peek(PATH, Slot.CURRENT)
    await store.restore_previous(PATH, expect_current=current.version)


async def _discard_pending(store):
    pending = await store.peek(PATH, Slot.PENDING)
    await store.discard(PATH, Slot.PENDING, version=pending.version)


async def _discard_previous(store):
    previous = await store.peek(PATH, Slot.PREVIOUS)
    await store.discard(PATH, Slot.PREVIOUS, version=previous.version)


async def _put(store):
    current = await store.peek(PATH, Slot.CURRENT)
    await put_key(store, PATH, "put", current.version)


VERBS = {
    "claim": ([], _claim, (None, "key-old", None)),
    "stage": ([], _stage, ("key-new", "key-old", None)),
    "promote": ([_stage], _promote, (None, "key-new", "key-old")),
    "restore": ([_stage, _promote], _restore, (None, "key-old", "key-new")),
    "discard pending": ([_stage], _discard_pending, (None, "key-old", None)),
    "discard previous": ([_stage, _promote], _discard_previous, (None, "key-new", None)),
    "put": ([], _put, (None, "key-put", "key-old")),
}
LATER = range(5)


async def prepared(store: VaultKv2Store, verb: str):
    before, move, after = VERBS[verb]
    await put_key(store, PATH, "old")
    for step in before:
        await step(store)
    return move, after


@pytest.mark.parametrize("skip", LATER)
@pytest.mark.parametrize("trouble", [Trouble.CUT_BEFORE, Trouble.CUT_AFTER])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_write_that_is_cut_once_is_made_once(store, sim, verb, trouble, skip):
    move, after = await prepared(store, verb)
    sim.fail(trouble, method="POST", skip=skip)
    await move(store)
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize(("trouble", "status"), BUSY)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_busy_server_is_asked_again_and_posts_too(store, sim, verb, trouble, status):
    move, after = await prepared(store, verb)
    sim.fail(trouble, method="POST", status=status)
    await move(store)
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("verb", ["stage", "promote", "restore", "put"])
async def test_a_write_without_any_answer_is_unknown_and_says_so(store, sim, verb):
    move, after = await prepared(store, verb)
    sim.fail(Trouble.CUT_AFTER, method="POST", path="/data/", times=1)
    sim.fail(Trouble.CUT_BEFORE, path="/data/", times=30, method="POST")
    if verb == "stage":
        sim.faults[0].skip = sim.faults[1].skip = 1
    # Reading back tells that it was made all the same.
    await move(store)
    sim.faults.clear()
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("done", [True, False])
async def test_when_reading_back_fails_too_the_outcome_is_unknown(store, sim, done):
    await prepared(store, "promote")
    current = await store.peek(PATH, Slot.CURRENT)
    if done:
        sim.fail(Trouble.CUT_AFTER, method="POST", path="/data/")
    sim.fail(Trouble.CUT_BEFORE, method="POST", path="/data/", times=99)
    sim.fail(Trouble.CUT_BEFORE, method="GET", path="/data/bots", times=99)
    error = await failed(store.promote(PATH, ONE, expect_current=current.version))
    assert error.fault is StoreFault.OUTCOME_UNKNOWN
    sim.faults.clear()
    assert await key_in(store, PATH, Slot.CURRENT) == ("key-new" if done else "key-old")


@pytest.mark.parametrize("verb", VERBS)
async def test_a_refused_connection_leaves_everything_as_it_was(store, sim, server, verb):
    move, _ = await prepared(store, verb)
    before = await slots_of(store, PATH)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        adapter = store._session._adapter
        adapter._bases = [f"http://127.0.0.1:{closed.getsockname()[1]}"]
        error = await failed(move(store))
    adapter._bases = [server.address]
    assert error.fault is StoreFault.UNAVAILABLE
    assert await slots_of(store, PATH) == before


@pytest.mark.parametrize("verb", VERBS)
async def test_a_server_that_is_sealed_in_the_middle_of_work_is_unavailable_and_no_login_is_tried(
    store, sim, server, verb
):
    move, after = await prepared(store, verb)
    sim.seen.clear()
    sim.fail(
        Trouble.ANSWER, method="POST", error="Vault is sealed", then=lambda: setattr(sim, "sealed", True)
    )
    error = await failed(move(store))
    assert error.fault is StoreFault.UNAVAILABLE
    assert "sealed" in error.what
    assert "unseal" in error.todo
    assert not [seen for seen in sim.seen if seen.path.endswith("/login")]
    server.admin("POST", "sys/unseal", {"key": "x"})
    await move(store)
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("verb", ["claim", "stage", "promote", "restore", "put"])
async def test_an_answer_that_comes_too_late_is_an_answer_that_was_lost(store, sim, server, tmp_path, verb):
    move, after = await prepared(store, verb)
    hasty = server.open(server.given(tmp_path, server.root), timeout="0.6s")
    sim.fail(Trouble.LATE, method="POST", path="/data/")
    await move(hasty)
    assert await keys_in(store, PATH) == after
    await hasty.close()


async def test_a_server_without_space_says_so(store, sim):
    sim.fail(Trouble.ANSWER, method="POST", status=500, error="write /data: no space left on device")
    assert (await failed(put_key(store, PATH, "a"))).fault is StoreFault.NO_SPACE


async def test_a_page_of_a_proxy_is_not_an_empty_path(store, sim):
    await prepared(store, "promote")
    await _promote(store)
    current, previous = await store.peek(PATH, Slot.CURRENT), await store.peek(PATH, Slot.PREVIOUS)
    for call in (
        lambda: store.peek(PATH, Slot.CURRENT),
        lambda: store.read(PATH, Slot.PREVIOUS),
        lambda: store.discard(PATH, Slot.PREVIOUS, version=previous.version),
        lambda: store.vacate(PATH, expect_current=current.version),
        lambda: store.history(PATH),
    ):
        sim.fail(Trouble.ANSWER, status=404, page="<html>no backend</html>", times=99)
        assert (await failed(call())).fault in {StoreFault.UNAVAILABLE, StoreFault.OUTCOME_UNKNOWN}
        sim.faults.clear()
        assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    sim.fail(Trouble.ANSWER_AFTER, method="POST", path="/data/", status=404, page="<html>broken</html>")
    await put_key(store, PATH, "put", current.version)
    assert await keys_in(store, PATH) == (None, "key-put", "key-new")


@pytest.mark.parametrize(
    "error",
    [
        "Upgrading from non-versioned to versioned data. This backend will be unavailable.",
        "Waiting for the primary to upgrade from non-versioned to versioned data.",
    ],
)
async def test_a_mount_that_is_being_upgraded_is_waited_for(store, sim, error):
    sim.fail(Trouble.ANSWER, status=400, error=error, path="/data/", times=2)
    await put_key(store, PATH, "a")
    assert await key_in(store, PATH, Slot.CURRENT) == "key-a"


async def test_a_long_wait_is_left_to_the_engine(store, sim):
    sim.fail(Trouble.ANSWER, status=429, headers={"Retry-After": "3600"})
    error = await failed(store.peek(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.UNAVAILABLE
    assert sim.faults[0].times == 0
    waits: list[float] = []
    store._session._adapter.pause = waits.append
    sim.fail(Trouble.ANSWER, status=429, headers={"Retry-After": "2"})
    assert await store.peek(PATH, Slot.CURRENT) is None
    assert waits == [2.0]


async def test_retries_are_bounded(store, sim):
    sim.fail(Trouble.ANSWER, status=500, times=1000)
    error = await failed(store.peek(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.UNAVAILABLE
    assert sim.faults[0].times > 980


# Addresses and redirects.


def _standby(sim, target: str) -> VaultSimulator:
    standby = VaultSimulator()
    standby.fail(Trouble.ANSWER, status=307, times=1000, headers={"Location": f"{target}/v1/anything"})
    return standby


async def test_a_standby_that_names_a_listed_leader_is_followed(server, sim, tmp_path):
    with _standby(sim, server.address) as standby:
        auth = server.given(tmp_path, server.root)
        store = server.open(auth, addresses=[standby.address, server.address])
        await put_key(store, PATH, "a")
        assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
        assert len(standby.seen) == 1, "the leader is remembered"
        await store.close()


async def test_a_redirect_to_a_host_that_is_not_listed_never_gets_the_token(server, sim, tmp_path):
    sim.seen.clear()
    with _standby(sim, server.address) as standby:
        store = server.open(server.given(tmp_path, server.root), addresses=[standby.address])
        error = await failed(put_key(store, PATH, "a"))
        await store.close()
    assert error.fault is StoreFault.MISCONFIGURED
    assert "addresses" in error.todo
    assert not sim.seen


async def test_the_next_address_is_taken_when_one_is_down_or_sealed(server, tmp_path):
    with VaultSimulator() as sealed, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        sealed.sealed = True
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
        store = server.open(
            server.given(tmp_path, server.root), addresses=[down, sealed.address, server.address]
        )
        await put_key(store, PATH, "a")
        assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
        await store.close()


async def test_standbys_that_redirect_in_a_circle_are_given_up(tmp_path, server):
    with VaultSimulator() as a, VaultSimulator() as b:
        for one, other in ((a, b), (b, a)):
            one.fail(Trouble.ANSWER, status=307, times=99, headers={"Location": other.address})
        store = server.open(server.given(tmp_path, server.root), addresses=[a.address, b.address])
        error = await failed(store.peek(PATH, Slot.CURRENT))
        assert error.fault is StoreFault.UNAVAILABLE
        await store.close()


# Permissions.


@pytest.mark.parametrize("verb", VERBS)
async def test_a_permission_that_is_taken_away_is_named(store, sim, server, verb):
    move, _ = await prepared(store, verb)
    for name in sim.rights.policies:
        if "rotator" in name:
            rights = sim.rights.policies[name]
            sim.rights.policies[name] = {
                p: r - {"create", "update"} if server.mount in p else r for p, r in rights.items()
            }
    error = await failed(move(store))
    assert error.fault is StoreFault.DENIED
    assert "lacks" in error.what
    assert "update" in error.what
    assert f"{server.mount}/" in error.what


# What shows.


async def test_neither_token_nor_value_is_in_any_error_or_log(server, sim, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    token, auth = server.token(tmp_path, server.policy("rotator", PATHS="bots"))
    store = server.open(auth)
    secret_texts = [token, "not-a-real-secret", server.root]
    shown: list[str] = []
    troubles = [
        {"status": s, "error": f"quoting {token} not-a-real-secret-b"} for s in (400, 403, 404, 413, 418, 500)
    ]
    for trouble in troubles:
        sim.fail(Trouble.ANSWER, method="POST", path="/data/", times=20, **trouble)
        shown += _shown(await failed(put_key(store, PATH, "b")))
        sim.faults.clear()
    sim.fail(Trouble.CUT_BEFORE, times=50)
    shown += _shown(await failed(put_key(store, PATH, "b")))
    sim.faults.clear()
    sim.rights.revoke(token)
    shown += _shown(await failed(put_key(store, PATH, "b")))
    shown += [repr(store), repr(store._session), repr(store._session._token), repr(store._session._login())]
    shown += [record.getMessage() for record in caplog.records]
    for text in secret_texts:
        assert not [line for line in shown if text in line]
    await store.close()


def _shown(error: StoreError) -> list[str]:
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    # Not even where a debugger or an error tracker follows the context.
    context = error.__context__
    while context is not None:
        assert isinstance(context, StoreError), context
        context = context.__context__
    return [
        str(error),
        repr(error),
        error.diagnostics(),
        repr(error.__dict__),
        *traceback.format_exception(error),
    ]
