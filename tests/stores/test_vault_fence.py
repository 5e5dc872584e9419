"""Two writers at one credential: every order of their calls to the server leaves one of the allowed ends.

A writer stops before each of its calls until the test lets it go on, so the orders are walked one by one
and not left to chance.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.simulator.vault import Seen
from keyturn.stores.vault import current, pending
from keyturn.stores.vault.transport import Answer
from keyturn.stores.vault_kv2 import VaultKv2Store
from keyturn.testing.store_contract_support import fake_material, fake_meta

from .vault_server import Server, simulated

FIRST = Attempt(new_rotation_id(), 1)
SECOND = Attempt(FIRST.rotation_id, 2)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with simulated() as found:
        yield found


def _direct(simulator, method, url, *, token=None, body=None, params=None, changes=False) -> Answer:
    seen = Seen(method.upper(), url.removeprefix("/v1/"), token, None, json.loads(json.dumps(body or {})))
    with simulator.lock:
        reply = simulator.handle(seen, {k: str(v) for k, v in (params or {}).items()})
    return Answer(reply.status, json.loads(json.dumps(reply.body or {})))


class Stepped:
    """A writer in a thread whose calls are let through one at a time."""

    def __init__(self, store: VaultKv2Store, verb: Callable[[], object]) -> None:
        self.answer: object = None
        self._go: queue.Queue[bool] = queue.Queue()
        self._at: queue.Queue[bool] = queue.Queue()
        inner = store._session._adapter.call

        def call(*args: object, **kwargs: object) -> object:
            self._at.put(True)
            if not self._go.get(timeout=10):
                raise SystemExit
            return inner(*args, **kwargs)

        def run() -> None:
            try:
                self.answer = verb()
            except SystemExit:
                return
            except StoreError as error:
                self.answer = error
            finally:
                self._at.put(False)

        store._session._adapter.call = call
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self.more = self._at.get(timeout=10)

    def step(self) -> None:
        """Let one call through, and wait until the writer wants another or is done."""
        if self.more:
            self._go.put(True)
            self.more = self._at.get(timeout=10)

    def die(self) -> None:
        """End it where it stands."""
        if self.more:
            self._go.put(False)
            self._thread.join(10)

    def finish(self) -> object:
        """Let everything through."""
        while self.more:
            self.step()
        self._thread.join(10)
        return self.answer


class Stage:
    """A credential with a key in place and another staged, and writers at it."""

    def __init__(self, server: Server, tmp_path, name: str, *, old: bool) -> None:
        self._server, self._auth, self.path = server, server.given(tmp_path, server.root), f"bots/{name}"
        self.eye = self.writer()
        self.old: str | None = None
        if old:
            put = current.put(self.eye._shelf, self.path, fake_material("old"), fake_meta("old", None), None)
            self.old = put.version
        claim = pending.claim(self.eye._shelf, self.path, FIRST)
        self.staged = pending.stage(
            self.eye._shelf, self.path, fake_material("new"), fake_meta("new", FIRST), claim
        )

    def writer(self) -> VaultKv2Store:
        """Open a store of its own, logged in and sure of its mount; its calls skip the network."""
        store = self._server.open(self._auth)
        store._session._adapter.call = partial(_direct, self._server.simulator)
        store._shelf.kv.ensure_version_2()
        return store

    def start(self, verb: Callable[[VaultKv2Store], object]) -> Stepped:
        store = self.writer()
        return Stepped(store, lambda: verb(store))

    def promote(self, store: VaultKv2Store) -> object:
        return current.promote(store._shelf, self.path, FIRST, self.old)

    def discard(self, store: VaultKv2Store) -> object:
        return pending.discard(store._shelf, self.path, self.staged.version)

    def claim_second(self, store: VaultKv2Store) -> object:
        return pending.claim(store._shelf, self.path, SECOND)

    def key(self, slot: Slot = Slot.CURRENT) -> str | None:
        found = self.eye.read_sync(self.path, slot)
        return found.material.key_ref if found else None


def orders(a: int, b: int) -> Iterator[Sequence[bool]]:
    """Give every way to mix `a` steps of one writer with `b` of another."""
    for chosen in itertools.combinations(range(a + b), a):
        yield [n in chosen for n in range(a + b)]


# A promotion makes four calls; a discard of a staged key eight, nine where nothing was current.
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("rival", ["discard", "claim_second"])
def test_once_a_staged_key_was_taken_away_no_promotion_of_it_lands(server, tmp_path, rival, old):
    for number, order in enumerate(orders(4, 8)):
        stage = Stage(server, tmp_path, f"{rival}-{old}-{number}", old=old)
        promoter, taker = stage.start(stage.promote), stage.start(getattr(stage, rival))
        seen: object = Ellipsis
        for promoters in order:
            (promoter if promoters else taker).step()
            if seen is Ellipsis and not taker.more:
                seen = stage.key()
        taken = taker.finish()
        seen = stage.key() if seen is Ellipsis else seen
        promoted = promoter.finish()
        assert stage.key() == seen, f"a promotion landed after the {rival} had ended: {order}"
        if isinstance(promoted, StoreError):
            assert promoted.fault is StoreFault.CONFLICT
            assert seen == ("key-old" if old else None), order
        else:
            assert seen == "key-new", order
        assert (
            not isinstance(taken, StoreError)
            or (seen == "key-new" and rival == "claim_second")
            or (taken.fault is StoreFault.CONFLICT)
        )
        assert stage.key(Slot.PENDING) is None


@pytest.mark.parametrize("after", range(1, 9))
def test_a_discard_that_was_cut_short_still_shows_and_is_done_again(server, tmp_path, after):
    stage = Stage(server, tmp_path, f"cut-{after}", old=True)
    promoter = stage.start(stage.promote)
    promoter.step()
    promoter.step()  # it has read both documents, and is about to write
    dying = stage.start(stage.discard)
    for _ in range(after):
        dying.step()
    dying.die()
    shown = stage.eye.peek_sync(stage.path, Slot.PENDING)
    if shown is not None:
        assert shown.version == stage.staged.version
        stage.discard(stage.eye)
    assert isinstance(promoter.finish(), StoreError)
    assert stage.key() == "key-old"
    assert stage.eye.peek_sync(stage.path, Slot.PENDING) is None


@pytest.mark.parametrize("after", range(1, 7))
def test_a_claim_that_was_cut_short_is_fenced_by_whoever_goes_on(server, tmp_path, after):
    stage = Stage(server, tmp_path, f"claim-{after}", old=True)
    promoter = stage.start(stage.promote)
    promoter.step()
    promoter.step()
    dying = stage.start(stage.claim_second)
    for _ in range(after):
        dying.step()
    dying.die()
    pending.claim(stage.eye._shelf, stage.path, SECOND)
    assert isinstance(promoter.finish(), StoreError)
    assert stage.key() == "key-old"


def test_the_fence_changes_neither_version_nor_content_of_current(server, tmp_path):
    stage = Stage(server, tmp_path, "same", old=True)
    before = stage.eye.read_sync(stage.path, Slot.CURRENT)
    stage.discard(stage.eye)
    after = stage.eye.read_sync(stage.path, Slot.CURRENT)
    assert (after.info, after.material) == (before.info, before.material)


def test_a_fence_where_nothing_is_current_leaves_nothing_to_read(server, tmp_path):
    stage = Stage(server, tmp_path, "none", old=False)
    stage.discard(stage.eye)
    assert server.simulator is not None
    secret = server.simulator.mounts[server.mount].secrets[stage.path]
    assert [v.data for v in secret.versions.values()] == [None]
    assert stage.eye.peek_sync(stage.path, Slot.CURRENT) is None


def test_a_discarded_secret_is_destroyed_for_good(server, tmp_path):
    stage = Stage(server, tmp_path, "gone", old=True)
    stage.discard(stage.eye)
    assert server.simulator is not None
    held = server.simulator.mounts[server.mount].secrets[f"keyturn/pending/{stage.path}"]
    assert "not-a-real-secret" not in repr(held)


def test_a_rotation_looks_eight_times_from_the_first_look_to_the_last(server, tmp_path):
    stage = Stage(server, tmp_path, "counted", old=True)
    stage.discard(stage.eye)
    store, made = stage.writer(), []
    inner = store._session._adapter.call

    def call(method: str, url: str, **more: object) -> object:
        made.append(method)
        return inner(method, url, **more)

    store._session._adapter.call = call
    store.peek_sync(stage.path, Slot.CURRENT)
    claim = pending.claim(store._shelf, stage.path, SECOND)
    pending.stage(store._shelf, stage.path, fake_material("2"), fake_meta("2", SECOND), claim)
    store.read_sync(stage.path, Slot.PENDING)
    current.promote(store._shelf, stage.path, SECOND, stage.old)
    store.peek_sync(stage.path, Slot.CURRENT)
    store.read_sync(stage.path, Slot.PREVIOUS)
    current.discard_previous(store._shelf, stage.path, str(stage.old))
    assert (made.count("get"), made.count("post")) == (8, 5)
    assert (stage.key(), stage.key(Slot.PREVIOUS), stage.key(Slot.PENDING)) == ("key-2", None, None)
    held = server.simulator.mounts[server.mount].secrets
    assert "key-old" not in repr(held[stage.path])
    assert "key-2" not in repr(held[f"keyturn/pending/{stage.path}"])


@pytest.mark.parametrize("writes", [1, 60])
def test_every_older_version_is_destroyed_however_many_there_are(server, tmp_path, writes):
    stage = Stage(server, tmp_path, f"many-{writes}", old=True)
    for number in range(writes):
        current.put(stage.eye._shelf, stage.path, fake_material(f"{number}"), fake_meta("n", None), stage.old)
        stage.old = stage.eye.peek_sync(stage.path, Slot.CURRENT).version
    older = stage.eye.read_sync(stage.path, Slot.PREVIOUS).info.version
    current.discard_previous(stage.eye._shelf, stage.path, older)
    *dead, alive = server.simulator.mounts[server.mount].secrets[stage.path].versions.values()
    assert dead
    assert not any(version.data for version in dead)
    assert alive.data
    assert stage.key() == f"key-{writes - 1}"
