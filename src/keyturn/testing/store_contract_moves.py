"""The part of the store contract about moving versions: promote, roll back, discard, put."""
# Test methods say by their name what they prove, and assert; the secrets are made up.
# ruff: noqa: D102

from __future__ import annotations

import pytest

from keyturn.domain.errors import ProgrammingError
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.ports.store import SecretStore
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    refused,
    slots_of,
    stage_key,
)


class SlotMovesContract:
    """What promote, restore_previous, discard and put do; part of `SecretStoreContract`."""

    __test__ = False

    # Promote.

    async def test_the_first_promotion_fills_current(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        promotion = await store.promote(path, first, expect_current=None)
        current = await store.peek(path, Slot.CURRENT)
        assert current is not None
        assert (current.version, current.attempt, current.meta) == (
            promotion.current,
            first,
            fake_meta("a", first),
        )
        assert promotion.previous is None
        assert await keys_in(store, path) == (None, "key-a", None)

    async def test_promotion_makes_current_previous_and_empties_pending(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promotion = await store.promote(path, first, expect_current=old.version)
        current, previous = await store.peek(path, Slot.CURRENT), await store.peek(path, Slot.PREVIOUS)
        assert current is not None
        assert previous is not None
        assert (current.version, previous.version) == (promotion.current, promotion.previous)
        assert promotion.previous == old.version
        assert await store.peek(path, Slot.PENDING) is None
        assert await keys_in(store, path) == (None, "key-new", "key-old")

    async def test_promoting_again_gives_the_same_answer_and_writes_nothing(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promotion = await store.promote(path, first, expect_current=old.version)
        before = await slots_of(store, path)
        assert await store.promote(path, first, expect_current=old.version) == promotion
        assert await slots_of(store, path) == before

    async def test_promotion_names_its_attempt_never_whatever_is_pending(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        before = await slots_of(store, path)
        for other in (Attempt(first.rotation_id, 2), Attempt(new_rotation_id(), 1)):
            await refused(store.promote(path, other, expect_current=None))
        assert await slots_of(store, path) == before

    async def test_a_claimed_slot_cannot_be_promoted(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await store.claim(path, first)
        await refused(store.promote(path, first, expect_current=None))
        assert await store.peek(path, Slot.CURRENT) is None

    @pytest.mark.parametrize("expected", ["none", "older", "unheard-of"])
    async def test_promotion_over_a_current_that_moved_is_refused(
        self, store: SecretStore, path: str, first: Attempt, expected: str
    ) -> None:
        older = await put_key(store, path, "older")
        await put_key(store, path, "newer", older.version)
        await stage_key(store, path, first, "a")
        before = await slots_of(store, path)
        expect = {"none": None, "older": older.version, "unheard-of": "999999"}[expected]
        await refused(store.promote(path, first, expect_current=expect))
        assert await slots_of(store, path) == before
        assert await keys_in(store, path) == ("key-a", "key-newer", "key-older")

    async def test_a_first_promotion_that_expects_a_current_is_refused(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        staged = await stage_key(store, path, first, "a")
        await refused(store.promote(path, first, expect_current=staged.version + "0"))
        assert await store.peek(path, Slot.CURRENT) is None

    # Roll back.

    async def test_restoring_swaps_current_and_previous(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promoted = await store.promote(path, first, expect_current=old.version)
        restored = await store.restore_previous(path, expect_current=promoted.current)
        current, previous = await store.peek(path, Slot.CURRENT), await store.peek(path, Slot.PREVIOUS)
        assert current is not None
        assert previous is not None
        assert (current.version, previous.version) == (restored.current, restored.previous)
        assert (current.meta, previous.meta) == (fake_meta("old", None), fake_meta("new", first))
        assert await keys_in(store, path) == (None, "key-old", "key-new")

    async def test_restoring_twice_is_where_it_began(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promoted = await store.promote(path, first, expect_current=old.version)
        once = await store.restore_previous(path, expect_current=promoted.current)
        await store.restore_previous(path, expect_current=once.current)
        assert await keys_in(store, path) == (None, "key-new", "key-old")

    async def test_restoring_over_a_current_that_moved_is_refused(
        self, store: SecretStore, path: str
    ) -> None:
        old = await put_key(store, path, "old")
        await put_key(store, path, "new", old.version)
        before = await slots_of(store, path)
        await refused(store.restore_previous(path, expect_current=old.version))
        assert await slots_of(store, path) == before

    async def test_restoring_without_a_previous_is_refused(self, store: SecretStore, path: str) -> None:
        only = await put_key(store, path, "only")
        await refused(store.restore_previous(path, expect_current=only.version))
        assert await keys_in(store, path) == (None, "key-only", None)

    async def test_an_attempt_that_was_rolled_back_is_not_promoted_again(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promoted = await store.promote(path, first, expect_current=old.version)
        restored = await store.restore_previous(path, expect_current=promoted.current)
        await refused(store.promote(path, first, expect_current=restored.current))
        assert await keys_in(store, path) == (None, "key-old", "key-new")

    # Discard.

    async def test_a_discarded_pending_version_can_never_be_promoted(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        claim = await store.claim(path, first)
        staged = await store.stage(path, fake_material("a"), fake_meta("a", first), claim)
        await store.discard(path, Slot.PENDING, version=staged.version)
        assert await slots_of(store, path) == [None, None, None]
        await refused(store.promote(path, first, expect_current=None))
        await refused(store.stage(path, fake_material("a"), fake_meta("a", first), claim))
        assert await keys_in(store, path) == (None, None, None)

    async def test_a_discarded_claim_no_longer_stages(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        claim = await store.claim(path, first)
        pending = await store.peek(path, Slot.PENDING)
        assert pending is not None
        await store.discard(path, Slot.PENDING, version=pending.version)
        await refused(store.stage(path, fake_material("a"), fake_meta("a", first), claim))
        assert await slots_of(store, path) == [None, None, None]

    async def test_discarding_previous_leaves_current(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        promoted = await store.promote(path, first, expect_current=old.version)
        assert promoted.previous is not None
        for _ in range(2):
            await store.discard(path, Slot.PREVIOUS, version=promoted.previous)
            assert await keys_in(store, path) == (None, "key-new", None)
        await refused(store.restore_previous(path, expect_current=promoted.current))
        assert await store.promote(path, first, expect_current=old.version) == promoted

    async def test_current_is_never_discarded(self, store: SecretStore, path: str) -> None:
        current = await put_key(store, path, "a")
        with pytest.raises(ProgrammingError):
            await store.discard(path, Slot.CURRENT, version=current.version)
        for slot in (Slot.PENDING, Slot.PREVIOUS):
            await store.discard(path, slot, version=current.version)
        assert await keys_in(store, path) == (None, "key-a", None)

    async def test_discarding_another_version_does_nothing(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        superseded = await stage_key(store, path, first, "a")
        await stage_key(store, path, Attempt(first.rotation_id, 2), "b")
        before = await slots_of(store, path)
        for version in (superseded.version, "999999"):
            await store.discard(path, Slot.PENDING, version=version)
        await store.discard(f"{path}-empty", Slot.PENDING, version=superseded.version)
        assert await slots_of(store, path) == before
        assert await key_in(store, path, Slot.PENDING) == "key-b"

    # Put.

    async def test_put_makes_what_was_current_previous(self, store: SecretStore, path: str) -> None:
        one = await put_key(store, path, "1")
        two = await put_key(store, path, "2", one.version)
        assert (one.slot, one.attempt, one.meta) == (Slot.CURRENT, None, fake_meta("1", None))
        assert await store.peek(path, Slot.CURRENT) == two
        assert await keys_in(store, path) == (None, "key-2", "key-1")

    async def test_put_over_a_current_that_moved_is_refused(self, store: SecretStore, path: str) -> None:
        await put_key(store, path, "1")
        before = await slots_of(store, path)
        for expect in (None, "999999"):
            await refused(put_key(store, path, "2", expect))
        assert await slots_of(store, path) == before

    async def test_put_leaves_pending_and_moves_current_away_from_it(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        put = await put_key(store, path, "by-hand")
        await refused(store.promote(path, first, expect_current=None))
        assert await key_in(store, path, Slot.PENDING) == "key-a"
        await store.promote(path, first, expect_current=put.version)
        assert await keys_in(store, path) == (None, "key-a", "key-by-hand")

    # Spread.

    async def test_spreading_moves_no_slot_and_leaves_nothing_behind(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        assert list(await store.spread(path)) == []
        old = await put_key(store, path, "old")
        assert list(await store.spread(path)) == []
        await stage_key(store, path, first, "new")
        promoted = await store.promote(path, first, expect_current=old.version)
        before = await slots_of(store, path)
        for _ in range(2):
            assert list(await store.spread(path)) == []
            assert await slots_of(store, path) == before
        await store.restore_previous(path, expect_current=promoted.current)
        assert list(await store.spread(path)) == []
        assert await keys_in(store, path) == (None, "key-old", "key-new")

    # Vacate.

    async def test_a_vacated_path_has_no_key_and_takes_a_new_one(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        new = await put_key(store, path, "new", old.version)
        await stage_key(store, path, first, "staged")
        await store.vacate(path, expect_current=new.version)
        assert await slots_of(store, path) == [None, None, None]
        assert await keys_in(store, path) == (None, None, None)
        await store.vacate(path, expect_current=new.version)
        again = await put_key(store, path, "again")
        assert again.version not in {old.version, new.version}
        assert await keys_in(store, path) == (None, "key-again", None)

    async def test_vacating_over_a_current_that_moved_is_refused_and_keeps_all(
        self, store: SecretStore, path: str
    ) -> None:
        old = await put_key(store, path, "old")
        await put_key(store, path, "new", old.version)
        await refused(store.vacate(path, expect_current=old.version))
        assert await keys_in(store, path) == (None, "key-new", "key-old")

    async def test_what_was_staged_before_a_vacancy_is_never_promoted(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "staged")
        await store.vacate(path, expect_current=old.version)
        await refused(store.promote(path, first, expect_current=old.version))
        await refused(store.promote(path, first, expect_current=None))
        assert await keys_in(store, path) == (None, None, None)

    async def test_vacating_an_empty_path_does_nothing(self, store: SecretStore, path: str) -> None:
        await store.vacate(path, expect_current="none")
        assert await slots_of(store, path) == [None, None, None]
