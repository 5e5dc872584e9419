"""What a store remembers of its own looks and writes spares requests; another writer's move is never missed.

Each test has two processes at one path, on each kind of store.
"""

from __future__ import annotations

import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.testing.fake_world import PATH
from keyturn.testing.store_contract_support import keys_in, put_key, refused, slots_of, stage_key
from keyturn.testing.store_world import Home

from .homes import KINDS


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path) -> Home:
    made = KINDS[request.param](tmp_path)
    made.clear()
    return made


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(new_rotation_id(), 1)


async def promoted(home: Home, attempt: Attempt):
    """Rotate in one process as the engine does, up to the last look before the revoke."""
    store, old = home.open(), await put_key(home.open(), PATH, "old")
    await store.peek(PATH, Slot.CURRENT)
    await stage_key(store, PATH, attempt, "new")
    await store.read(PATH, Slot.PENDING)
    done = await store.promote(PATH, attempt, expect_current=old.version)
    await store.peek(PATH, Slot.CURRENT)
    assert (await store.read(PATH, Slot.PREVIOUS)).material.key_ref == "key-old"
    return store, old, done


async def test_what_was_seen_and_has_not_moved_is_discarded(home, attempt):
    store, old, _ = await promoted(home, attempt)
    await store.discard(PATH, Slot.PREVIOUS, version=old.version)
    assert await keys_in(home.open(), PATH) == (None, "key-new", None)
    assert home.keys_kept(PATH) == {"key-new"}


async def test_a_key_that_another_made_current_again_outlives_a_discard_on_an_old_sight(home, attempt):
    store, old, done = await promoted(home, attempt)
    await home.open().restore_previous(PATH, expect_current=done.current)
    await store.discard(PATH, Slot.PREVIOUS, version=old.version)
    for reader in (store, home.open()):
        assert await keys_in(reader, PATH) == (None, "key-old", "key-new")


async def test_a_key_that_another_brought_back_to_previous_is_shown_there_and_can_be_discarded(home, attempt):
    store, _, done = await promoted(home, attempt)
    other = home.open()
    await other.restore_previous(PATH, expect_current=done.current)
    await other.restore_previous(PATH, expect_current=(await other.peek(PATH, Slot.CURRENT)).version)
    previous = await store.peek(PATH, Slot.PREVIOUS)
    assert previous.meta.key_ref == "key-old"
    await store.discard(PATH, Slot.PREVIOUS, version=previous.version)
    assert await keys_in(home.open(), PATH) == (None, "key-new", None)


@pytest.mark.parametrize("slot", [Slot.CURRENT, Slot.PREVIOUS])
async def test_a_look_after_anothers_promotion_shows_it(home, attempt, slot):
    store, _, done = await promoted(home, attempt)
    other, later = home.open(), Attempt(new_rotation_id(), 1)
    await stage_key(other, PATH, later, "newest")
    await other.promote(PATH, later, expect_current=done.current)
    shown = {Slot.CURRENT: "key-newest", Slot.PREVIOUS: "key-new"}[slot]
    assert (await store.read(PATH, slot)).material.key_ref == shown
    assert (await store.peek(PATH, slot)).meta.key_ref == shown


@pytest.mark.parametrize("how", ["discards", "claims", "promotes"])
async def test_a_staged_key_that_another_took_away_is_not_read_from_pending(home, attempt, how):
    store, other = home.open(), home.open()
    old = await put_key(store, PATH, "old")
    staged = await stage_key(store, PATH, attempt, "new")
    if how == "discards":
        await other.discard(PATH, Slot.PENDING, version=staged.version)
    elif how == "claims":
        await other.claim(PATH, Attempt(attempt.rotation_id, 2))
    else:
        await other.promote(PATH, attempt, expect_current=old.version)
    assert await store.read(PATH, Slot.PENDING) is None


@pytest.mark.parametrize("how", ["discards", "claims", "puts"])
async def test_a_promotion_on_an_old_sight_is_refused(home, attempt, how):
    store, other = home.open(), home.open()
    old = await put_key(store, PATH, "old")
    await store.peek(PATH, Slot.CURRENT)
    staged = await stage_key(store, PATH, attempt, "new")
    await store.read(PATH, Slot.PENDING)
    if how == "discards":
        await other.discard(PATH, Slot.PENDING, version=staged.version)
    elif how == "claims":
        await other.claim(PATH, Attempt(attempt.rotation_id, 2))
    else:
        await put_key(other, PATH, "theirs", old.version)
    before = await slots_of(other, PATH)
    error = await refused(store.promote(PATH, attempt, expect_current=old.version))
    assert error.fault is StoreFault.CONFLICT
    assert await slots_of(other, PATH) == before


@pytest.mark.parametrize("later", [True, False])
async def test_a_claim_on_an_old_sight_is_refused(home, attempt, later):
    store, other = home.open(), home.open()
    old = await put_key(store, PATH, "old")
    await store.peek(PATH, Slot.CURRENT)
    faster = Attempt(attempt.rotation_id, 2) if later else attempt
    await stage_key(other, PATH, faster, "new")
    await other.promote(PATH, faster, expect_current=old.version)
    before = await slots_of(other, PATH)
    await refused(store.claim(PATH, attempt))
    assert await slots_of(other, PATH) == before
