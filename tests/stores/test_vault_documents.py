"""What stands at a path in Vault beside what keyturn wrote: other writers, other fields, odd paths."""

from __future__ import annotations

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.testing.store_contract_support import (
    fake_meta,
    put_key,
    stage_key,
)

from .vault_cases import one, path, server, store
from .vault_server import PREFIX

__all__ = ["one", "path", "server", "store"]


async def failed(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    error = caught.value
    assert error.now
    assert error.todo
    return error


async def test_another_writer_is_a_conflict_and_its_key_is_kept(store, server, path, one):
    old = await put_key(store, path, "old")
    await stage_key(store, path, one, "new")
    server.put(path, {"api_key": "by-hand", "secret": "not-a-real-secret-9"})
    error = await failed(store.promote(path, one, expect_current=old.version))
    assert error.fault is StoreFault.CONFLICT
    assert server.get(path)["api_key"] == "by-hand"


async def test_a_key_that_was_edited_by_hand_is_not_taken_for_ours(store, server, path):
    old = await put_key(store, path, "old")
    edited = {**server.get(path), "secret": "not-a-real-secret-edited"}
    server.put(path, edited)
    info = await store.peek(path, Slot.CURRENT)
    assert info.version != old.version
    assert (info.meta, info.attempt) == (None, None)


async def test_a_field_that_was_added_by_hand_is_kept_and_changes_no_version(store, server, path, one):
    old = await put_key(store, path, "old")
    server.put(path, {**server.get(path), "note": "call Ada", "limits": {"max": 3}})
    assert await store.peek(path, Slot.CURRENT) == old
    await stage_key(store, path, one, "new")
    promoted = await store.promote(path, one, expect_current=old.version)
    await store.restore_previous(path, expect_current=promoted.current)
    for _ in range(2):
        data = server.get(path)
        assert (data["note"], data["limits"]) == ("call Ada", {"max": 3})
        current = await store.read(path, Slot.CURRENT)
        assert "note" not in current.material.reveal()
        await put_key(store, path, "more", current.info.version)


async def test_a_secret_that_is_not_ours_is_shown_and_adopted_only_when_told_to(store, server, path, one):
    server.put(path, {"api_key": "theirs", "secret": "not-a-real-secret-1", "passphrase": "p", "desk": "7"})
    info = await store.peek(path, Slot.CURRENT)
    assert (info.meta, info.attempt) == (None, None)
    error = await failed(put_key(store, path, "ours"))
    assert error.fault is StoreFault.CONFLICT
    await stage_key(store, path, one, "new")
    error = await failed(store.promote(path, one, expect_current=None))
    assert error.fault is StoreFault.CONFLICT
    stored = await store.read(path, Slot.CURRENT)
    assert stored.material.key_ref == "theirs"
    await put_key(store, path, "ours", info.version)
    data = server.get(path)
    assert data["desk"] == "7"
    assert "passphrase" not in data, "the old key's passphrase is not the new key's"
    assert (await store.peek(path, Slot.PREVIOUS)).version == info.version


async def test_a_document_without_a_secret_is_told_as_damaged(store, server, path):
    server.put(path, {"api_key": "theirs"})
    error = await failed(store.read(path, Slot.CURRENT))
    assert error.fault is StoreFault.CORRUPT
    server.put(path, {"api_key": "theirs", "secret": "not-a-real-secret-1", "keyturn": "{"})
    assert (await failed(store.peek(path, Slot.CURRENT))).fault is StoreFault.CORRUPT
    server.put(path, {"keyturn": '{"format": 99}'})
    assert (await failed(store.peek(path, Slot.CURRENT))).fault is StoreFault.MISCONFIGURED


async def test_a_field_by_the_reserved_name_is_refused(store, path):
    material = SecretMaterial("k", "not-a-real-secret", extra={"keyturn": "x"})
    error = await failed(store.put(path, material, fake_meta("a", None), expect_current=None))
    assert error.fault is StoreFault.MISCONFIGURED


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../b",
        "a/./b",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a%2e%2e/b",
        "a?b",
        "a#b",
        "",
        "ä",
        "a\n",
        "x" * 500,
    ],
)
async def test_a_path_that_could_be_normalised_is_refused_before_anything_is_sent(
    store, path, one, monkeypatch
):
    monkeypatch.setattr(store._session._adapter, "call", None)
    for call in (store.peek(path, Slot.CURRENT), store.claim(path, one), put_key(store, path, "a")):
        assert (await failed(call)).fault is StoreFault.MISCONFIGURED
    assert (await failed(store.peek(f"{PREFIX}/bots/x", Slot.CURRENT))).fault is StoreFault.MISCONFIGURED


async def test_a_version_that_was_restored_from_a_soft_delete_is_no_surprise(store, server, path, one):
    old = await put_key(store, path, "old")
    server.admin("DELETE", f"{server.mount}/data/{path}")
    assert await store.peek(path, Slot.CURRENT) is None
    await stage_key(store, path, one, "new")
    promoted = await store.promote(path, one, expect_current=None)
    assert promoted.previous is None
    assert promoted.current != old.version


async def test_versions_differ_after_the_metadata_was_deleted_and_numbers_begin_anew(store, server, path):
    seen = set()
    for n in range(3):
        seen.add((await put_key(store, path, str(n))).version)
        server.admin("DELETE", f"{server.mount}/metadata/{path}")
        server.put(path, {"api_key": "theirs", "secret": f"not-a-real-secret-{n}"})
        seen.add((await store.peek(path, Slot.CURRENT)).version)
        server.admin("DELETE", f"{server.mount}/metadata/{path}")
        with pytest.raises(StoreError, match="older"):
            await store.peek(path, Slot.CURRENT)
    assert len(seen) == 6
