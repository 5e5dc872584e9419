"""A disk that fails or is full, and rights that are missing: a clear error, and nothing lost."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore
from keyturn.testing.store_contract_support import fake_material, fake_meta, key_in, keys_in, put_key

from .age_files_support import OPEN, PATH, fault_of, rotate


def fail_writes(monkeypatch, number: int, after: int) -> None:
    left = after

    def failing(real):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return call

    for name in ("write", "pwrite", "rename", "utime"):
        monkeypatch.setattr(disk.os, name, failing(getattr(os, name)))
    monkeypatch.setattr(disk, "flush", failing(disk.flush))


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.ENOSPC, StoreFault.NO_SPACE),
        (errno.EDQUOT, StoreFault.NO_SPACE),
        (errno.EACCES, StoreFault.DENIED),
        (errno.EROFS, StoreFault.DENIED),
        (errno.EIO, StoreFault.UNAVAILABLE),
    ],
)
async def test_a_disk_that_fails_at_any_step_loses_nothing(
    store: AgeFilesStore, folder: Path, number: int, fault: StoreFault
) -> None:
    await rotate(store)
    current, steps = "v000002", 0
    for after in range(20):
        before = await keys_in(store, PATH)
        with pytest.MonkeyPatch.context() as patch:
            fail_writes(patch, number, after)
            (failed,) = await asyncio.gather(
                put_key(store, PATH, f"n{after}", current), return_exceptions=True
            )
        if not isinstance(failed, StoreError):
            break
        steps += 1
        moved = (None, f"key-n{after}", before[1])
        expected = ((fault, before), (StoreFault.OUTCOME_UNKNOWN, moved))
        assert (failed.fault, await keys_in(store, PATH)) in expected
        info = await store.peek(PATH, Slot.CURRENT)
        assert info
        current = info.version
        assert not list(folder.glob(".writing*"))
    assert steps >= 6


async def test_the_room_of_a_claim_that_is_discarded_is_given_back(
    store: AgeFilesStore, folder: Path
) -> None:
    await rotate(store)
    claim = await store.claim(PATH, Attempt("0123456789", 2))
    assert (folder / disk.RESERVED).stat().st_size == 4096
    await store.discard(PATH, Slot.PENDING, version=claim.version)
    assert not (folder / disk.RESERVED).exists()


async def test_a_full_disk_is_told_and_loses_nothing(open_store: OPEN, small_disk: Any) -> None:
    store = open_store(small_disk.path / "store")
    await rotate(store)
    await put_key(store, "other/path", "z")
    later = Attempt("0123456789", 2)
    claim = await store.claim(PATH, later)
    small_disk.fill()
    for call in (
        store.stage(PATH, fake_material("x"), fake_meta("x", later), claim),
        put_key(store, "new/path", "y"),
        # Before anything is minted: there would be no room for it.
        store.claim("other/path", later),
    ):
        assert (await fault_of(call)).fault is StoreFault.NO_SPACE
    assert set(disk.names(small_disk.path / "store/other/path")) == {".lock", "slots.json", "v000001.age"}
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    small_disk.make_room()
    await store.stage(PATH, fake_material("x"), fake_meta("x", later), claim)
    assert await keys_in(store, PATH) == ("key-x", "key-new", "key-old")


@pytest.fixture
def closed_root(open_store: OPEN, key: Path) -> Iterator[Path]:
    """Give a store's folder that this process may search and read, not write."""
    if os.getuid() != 0:
        pytest.skip("needs root, to act as another user for a moment; run the suite as root in a container")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        root.mkdir()
        asyncio.run(put_key(AgeFilesStore(root, key.read_text), PATH, "a"))
        for item in [root.parent, root, *root.rglob("*")]:
            item.chmod(0o755 if item.is_dir() else 0o644)
        yield root


async def test_a_folder_without_write_rights_is_told(closed_root: Path, open_store: OPEN) -> None:
    store = open_store(closed_root)
    store.sealer()
    os.seteuid(65534)
    try:
        assert await key_in(store, PATH, Slot.CURRENT) == "key-a"
        for call in (put_key(store, PATH, "x", "v000001"), put_key(store, "other/path", "x")):
            error = await fault_of(call)
            assert error.fault is StoreFault.DENIED
            assert "rights" in error.todo
    finally:
        os.seteuid(0)


async def test_a_folder_without_read_rights_is_told(closed_root: Path, open_store: OPEN) -> None:
    store = open_store(closed_root)
    store.sealer()
    for closed in (closed_root / PATH / "slots.json", closed_root / PATH, closed_root):
        closed.chmod(0)
        os.seteuid(65534)
        try:
            for call in (store.peek(PATH, Slot.CURRENT), put_key(store, PATH, "x", "v000001")):
                assert (await fault_of(call)).fault is StoreFault.DENIED
            with pytest.raises(StoreError):
                store.peek_sync(PATH, Slot.CURRENT)
        finally:
            os.seteuid(0)


async def test_check_tells_what_other_users_may_change(
    store: AgeFilesStore, root: Path, folder: Path
) -> None:
    await rotate(store)
    (folder / "slots.json").chmod(0o666)
    root.chmod(0o777)
    bad = [f for f in await store.check([PATH]) if not f.ok]
    assert ["go-w" in f.todo for f in bad] == [True, True]


async def test_a_file_in_the_folders_place_is_a_clear_error(store: AgeFilesStore, root: Path) -> None:
    root.mkdir()
    (root / "bybit").write_text("a file")
    assert await store.peek(PATH, Slot.CURRENT) is None
    assert (await fault_of(put_key(store, PATH, "a"))).fault is StoreFault.UNAVAILABLE
