"""The contract of the secret store port, as a pytest suite that every store runs, the fake too.

Subclass it and give the fixture `store`; nothing beyond the port is assumed of it:

    class TestMyStore(SecretStoreContract):
        @pytest.fixture
        async def store(self): ...

Versions are opaque here: a store may show a key under another version after its promotion.
"""
# Test methods say by their name what they prove, and assert; the secrets are made up.
# ruff: noqa: D102, S106

from __future__ import annotations

import asyncio
import secrets

import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, Slot, SlotInfo
from keyturn.ports.store import SecretStore
from keyturn.testing.store_contract_moves import SlotMovesContract
from keyturn.testing.store_contract_support import (
    ODD,
    PEM,
    WRITERS,
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    outcomes,
    put_key,
    refused,
    slots_of,
    stage_key,
)


class SecretStoreContract(SlotMovesContract):
    """What every secret store does. Give the fixture `store`."""

    __test__ = False

    def __init_subclass__(cls) -> None:
        """Let pytest collect the subclasses only."""
        cls.__test__ = True

    @pytest.fixture
    def path(self) -> str:
        """Give a path that nothing was ever stored at."""
        return f"contract/p-{secrets.token_hex(4)}"

    @pytest.fixture
    def first(self) -> Attempt:
        """Give the first attempt of a rotation of its own."""
        return Attempt(new_rotation_id(), 1)

    # Reading.

    async def test_an_empty_path_has_empty_slots_and_no_history(self, store: SecretStore, path: str) -> None:
        assert await slots_of(store, path) == [None, None, None]
        assert await keys_in(store, path) == (None, None, None)
        assert list(await store.history(path)) == []

    async def test_what_was_staged_is_read_back_whole(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        claim = await store.claim(path, first)
        material, meta = fake_material("a", passphrase="not-a-real-pass"), fake_meta("a", first)
        info = await store.stage(path, material, meta, claim)
        stored = await store.read(path, Slot.PENDING)
        assert stored is not None
        assert stored.material == material
        assert stored.info == info == await store.peek(path, Slot.PENDING)
        assert (info.slot, info.attempt, info.meta) == (Slot.PENDING, first, meta)

    async def test_a_material_without_passphrase_comes_back_without_one(
        self, store: SecretStore, path: str
    ) -> None:
        await put_key(store, path, "a")
        stored = await store.read(path, Slot.CURRENT)
        assert stored is not None
        assert "passphrase" not in stored.material.reveal()

    @pytest.mark.parametrize("value", [ODD, PEM, " spaces around ", "a\x00b", "x" * 8000])
    async def test_odd_values_and_extra_fields_survive(
        self, store: SecretStore, path: str, first: Attempt, value: str
    ) -> None:
        material = SecretMaterial("key-a", value, value, {"wallet": value, "größe": "1"})
        await store.stage(path, material, fake_meta("a", first), await store.claim(path, first))
        await store.promote(path, first, expect_current=None)
        stored = await store.read(path, Slot.CURRENT)
        assert stored is not None
        assert stored.material.reveal() == material.reveal()

    async def test_no_result_shows_a_secret(self, store: SecretStore, path: str, first: Attempt) -> None:
        claim = await store.claim(path, first)
        info = await store.stage(path, fake_material("a"), fake_meta("a", first), claim)
        error = await refused(store.stage(path, fake_material("b"), fake_meta("b", first), claim))
        promotion = await store.promote(path, first, expect_current=None)
        seen: list[object] = [claim, info, promotion, await store.read(path, Slot.CURRENT), store]
        seen += [*await store.history(path), *await store.check([path])]
        seen += [error, error.diagnostics(), error.__dict__, error.__cause__]
        assert "not-a-real-secret" not in "".join(f"{x!r}{x}" for x in seen)

    # Claim and stage.

    async def test_a_claimed_slot_has_nothing_to_read(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        claim = await store.claim(path, first)
        info = await store.peek(path, Slot.PENDING)
        assert info is not None
        assert (info.attempt, info.meta) == (first, None)
        assert claim.attempt == first
        assert await store.read(path, Slot.PENDING) is None

    async def test_claiming_again_gives_a_claim_that_works(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await store.claim(path, first)
        await stage_key(store, path, first, "a")
        assert await key_in(store, path, Slot.PENDING) == "key-a"

    async def test_claiming_again_after_staging_takes_the_slot_anew(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        claim = await store.claim(path, first)
        assert await store.read(path, Slot.PENDING) is None
        await refused(store.promote(path, first, expect_current=None))
        await store.stage(path, fake_material("b"), fake_meta("b", first), claim)
        await store.promote(path, first, expect_current=None)
        assert await keys_in(store, path) == (None, "key-b", None)

    async def test_staging_deploys_nothing(self, store: SecretStore, path: str, first: Attempt) -> None:
        await put_key(store, path, "old")
        before = await store.peek(path, Slot.CURRENT)
        await stage_key(store, path, first, "new")
        assert await store.peek(path, Slot.CURRENT) == before
        assert await keys_in(store, path) == ("key-new", "key-old", None)

    async def test_a_later_attempt_fences_an_earlier_one(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        second = Attempt(first.rotation_id, 2)
        stale = await store.claim(path, first)
        claim = await store.claim(path, second)
        await refused(store.stage(path, fake_material("a"), fake_meta("a", first), stale))
        await refused(store.claim(path, first))
        assert await store.read(path, Slot.PENDING) is None
        await store.stage(path, fake_material("b"), fake_meta("b", second), claim)
        assert await key_in(store, path, Slot.PENDING) == "key-b"

    async def test_what_an_earlier_attempt_staged_is_out_of_reach(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        await store.claim(path, Attempt(first.rotation_id, 2))
        assert await store.read(path, Slot.PENDING) is None
        await refused(store.promote(path, first, expect_current=None))
        assert await store.peek(path, Slot.CURRENT) is None

    async def test_a_stale_claim_cannot_overwrite_what_a_later_attempt_staged(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        stale = await store.claim(path, first)
        await stage_key(store, path, Attempt(first.rotation_id, 2), "b")
        before = await slots_of(store, path)
        await refused(store.stage(path, fake_material("a"), fake_meta("a", first), stale))
        assert await slots_of(store, path) == before
        assert await key_in(store, path, Slot.PENDING) == "key-b"

    async def test_a_new_rotation_takes_the_slot_from_an_old_one(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = Attempt(new_rotation_id(), 7)
        stale = await store.claim(path, old)
        await stage_key(store, path, first, "a")
        await refused(store.stage(path, fake_material("b"), fake_meta("b", old), stale))
        assert await key_in(store, path, Slot.PENDING) == "key-a"

    async def test_a_claim_stages_once(self, store: SecretStore, path: str, first: Attempt) -> None:
        claim = await store.claim(path, first)
        await store.stage(path, fake_material("a"), fake_meta("a", first), claim)
        await refused(store.stage(path, fake_material("b"), fake_meta("b", first), claim))
        assert await key_in(store, path, Slot.PENDING) == "key-a"

    async def test_a_claim_that_was_never_given_stages_nothing(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        given = await store.claim(path, first)
        invented = Claim(Attempt(first.rotation_id, 2), given.version)
        await refused(store.stage(path, fake_material("a"), fake_meta("a", invented.attempt), invented))
        assert await store.read(path, Slot.PENDING) is None

    async def test_a_promoted_attempt_cannot_claim_again(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        await stage_key(store, path, first, "a")
        await store.promote(path, first, expect_current=None)
        await refused(store.claim(path, first))
        assert await keys_in(store, path) == (None, "key-a", None)

    # Versions and history.

    async def test_versions_are_never_used_twice(self, store: SecretStore, path: str, first: Attempt) -> None:
        seen = set()
        for number in range(1, 5):
            staged = await stage_key(store, path, Attempt(first.rotation_id, number), str(number))
            seen.add(staged.version)
            await store.discard(path, Slot.PENDING, version=staged.version)
        assert len(seen) == 4

    async def test_history_tells_the_slots_oldest_first(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        await store.promote(path, first, expect_current=old.version)
        await stage_key(store, path, Attempt(new_rotation_id(), 1), "next")
        alive = [v for v in await store.history(path) if v.slots]
        assert [v.fingerprint for v in alive] == ["fpold", "fpnew", "fpnext"]
        assert [v.slots for v in alive] == [{Slot.PREVIOUS}, {Slot.CURRENT}, {Slot.PENDING}]
        assert alive[1].attempt == first
        assert not any(v.destroyed for v in alive)

    async def test_history_never_shows_a_discarded_version_as_alive(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        staged = await stage_key(store, path, first, "a")
        await store.discard(path, Slot.PENDING, version=staged.version)
        rows = [v for v in await store.history(path) if v.version == staged.version]
        assert all(row.destroyed and not row.slots for row in rows)

    # Many at once.

    async def test_of_many_writers_exactly_one_wins(self, store: SecretStore, path: str) -> None:
        expect: str | None = None
        for turn in range(3):
            calls = [put_key(store, path, f"{turn}-{n}", expect) for n in range(WRITERS)]
            won, lost = await outcomes(calls)
            assert len(won) == 1
            assert {error.fault for error in lost} == {StoreFault.CONFLICT}
            assert await store.peek(path, Slot.CURRENT) == won[0]
            assert isinstance(won[0], SlotInfo)
            expect = won[0].version

    async def test_of_many_claims_exactly_one_stages(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        attempts = [Attempt(first.rotation_id, n) for n in range(1, WRITERS + 1)]
        claims, _ = await outcomes([store.claim(path, attempt) for attempt in attempts])
        calls = [
            store.stage(path, fake_material(str(c.attempt)), fake_meta(str(c.attempt), c.attempt), c)
            for c in claims
            if isinstance(c, Claim)
        ]
        won, _ = await outcomes(calls)
        assert len(won) == 1
        assert await store.peek(path, Slot.PENDING) == won[0]
        assert await key_in(store, path, Slot.PENDING) == f"key-{attempts[-1]}"

    async def test_many_promotions_of_one_attempt_are_one(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        old = await put_key(store, path, "old")
        await stage_key(store, path, first, "new")
        calls = [store.promote(path, first, expect_current=old.version) for _ in range(WRITERS)]
        won, lost = await outcomes(calls)
        assert not lost
        assert len(set(won)) == 1
        assert await keys_in(store, path) == (None, "key-new", "key-old")

    async def test_discard_and_promote_at_once_leave_one_of_the_two(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        staged = await stage_key(store, path, first, "a")
        won, lost = await outcomes(
            [
                store.promote(path, first, expect_current=None),
                store.discard(path, Slot.PENDING, version=staged.version),
            ]
        )
        promoted = await keys_in(store, path) == (None, "key-a", None)
        assert promoted or await keys_in(store, path) == (None, None, None)
        assert len(lost) == (0 if promoted else 1)
        assert won

    async def test_paths_do_not_disturb_each_other(
        self, store: SecretStore, path: str, first: Attempt
    ) -> None:
        paths = [path, f"{path}-b", f"{path}/c", f"{path}/c/d"]

        async def rotate(where: str) -> None:
            old = await put_key(store, where, f"old-{where}")
            await stage_key(store, where, first, f"new-{where}")
            await store.promote(where, first, expect_current=old.version)

        await asyncio.gather(*(rotate(where) for where in paths))
        for where in paths:
            assert await keys_in(store, where) == (None, f"key-new-{where}", f"key-old-{where}")

    async def test_check_finds_a_good_store_good(self, store: SecretStore, path: str) -> None:
        await put_key(store, path, "a")
        before = await slots_of(store, path)
        findings = await store.check([path])
        assert findings
        assert all(finding.ok for finding in findings)
        assert await slots_of(store, path) == before
