"""A key, a file or a disk that is not as it should be: a clear error, and nothing overwritten."""

import asyncio
import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity, resolve_secret
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    stage_key,
)

PATH = "bybit/main"
ATTEMPT = Attempt("0123456789", 1)
OPEN = Callable[..., AgeFilesStore]


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"
    }


async def rotate(store: AgeFilesStore) -> None:
    await put_key(store, PATH, "old")
    await stage_key(store, PATH, ATTEMPT, "new")
    await store.promote(PATH, ATTEMPT, expect_current="v000001")


def every_write(store: AgeFilesStore) -> Iterator[object]:
    later = Attempt("0123456789", 2)
    yield store.claim(PATH, later)
    yield put_key(store, PATH, "x", "v000002")
    yield store.promote(PATH, later, expect_current="v000002")
    yield store.restore_previous(PATH, expect_current="v000002")
    yield store.discard(PATH, Slot.PREVIOUS, version="v000001")


async def fault_of(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    error = caught.value
    assert error.now
    assert error.todo
    assert "not-a-real-secret" not in error.diagnostics()
    assert "AGE-SECRET-KEY" not in error.diagnostics()
    return error


# The key.


async def test_a_missing_key_is_a_clear_error_before_anything_is_minted(root: Path, tmp_path: Path) -> None:
    from keyturn.domain.inventory import SecretRef

    ref = SecretRef(file="nowhere.key")
    store = AgeFilesStore(root, lambda: resolve_secret(ref, tmp_path))
    error = await fault_of(store.claim(PATH, ATTEMPT))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "nowhere.key" in error.what
    assert not root.exists()
    assert [f.ok for f in await store.check([PATH])] == [False, True, True]
    await store.close()


@pytest.mark.parametrize(
    "text", ["", "# a comment", "AGE-SECRET-KEY-1NOTREAL", "age1publickey", "AGE-SECRET-KEY-1\0"]
)
async def test_a_key_that_is_no_identity_is_refused_unquoted(root: Path, text: str) -> None:
    store = AgeFilesStore(root, lambda: text)
    error = await fault_of(store.claim(PATH, ATTEMPT))
    assert error.fault is StoreFault.MISCONFIGURED
    await store.close()


async def test_a_wrong_key_opens_nothing_and_overwrites_nothing(
    store: AgeFilesStore, open_store: OPEN, root: Path, tmp_path: Path
) -> None:
    await rotate(store)
    generate_identity(tmp_path / "other.key")
    wrong, before = open_store(root, key=tmp_path / "other.key"), contents(root)
    calls = [wrong.read(PATH, Slot.CURRENT), put_key(wrong, PATH, "x", "v000002")]
    for call in [*calls, wrong.claim(PATH, Attempt("0123456789", 2))]:
        error = await fault_of(call)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "another age identity" in error.what
    assert contents(root) == before
    assert await wrong.peek(PATH, Slot.CURRENT)
    assert [f.ok for f in await wrong.check([PATH])] == [True, True, False]


# The files.


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "rubbish", "missing", "another version"])
async def test_a_damaged_version_is_told_and_left_as_it_is(
    store: AgeFilesStore, root: Path, folder: Path, damage: str
) -> None:
    await rotate(store)
    file = folder / "v000002.age"
    whole = file.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    changed = {"empty": b"", "truncated": whole[:-9], "flipped": flipped, "rubbish": b"not age at all"}
    file.write_bytes(changed.get(damage, (folder / "v000001.age").read_bytes()))
    if damage == "missing":
        file.unlink()
    before = contents(root)
    error = await fault_of(store.read(PATH, Slot.CURRENT))
    assert error.fault is StoreFault.CORRUPT
    assert "v000002.age" in error.what
    assert contents(root) == before
    assert [f.ok for f in await store.check([PATH])] == [True, True, False]
    assert await key_in(store, PATH, Slot.PREVIOUS) == "key-old"


@pytest.mark.parametrize(
    "plain", [b"", b"[]", b"{}", b'{"format":1,"material":{"secret":7},"meta":{}}', b'{"format":9}']
)
async def test_a_file_that_holds_no_credential_is_damaged(
    store: AgeFilesStore, folder: Path, plain: bytes
) -> None:
    import pyrage

    await put_key(store, PATH, "a")
    recipient = pyrage.x25519.Recipient.from_str(store.sealer().recipient)
    (folder / "v000001.age").write_bytes(pyrage.encrypt(plain, [recipient]))
    assert (await fault_of(store.read(PATH, Slot.CURRENT))).fault is StoreFault.CORRUPT


async def test_an_error_about_a_secrets_text_does_not_carry_it(store: AgeFilesStore, folder: Path) -> None:
    import pyrage

    await put_key(store, PATH, "a")
    recipient = pyrage.x25519.Recipient.from_str(store.sealer().recipient)
    (folder / "v000001.age").write_bytes(
        pyrage.encrypt(b'{"secret": "not-a-real-secret-9" oops', [recipient])
    )
    error: BaseException | None = await fault_of(store.read(PATH, Slot.CURRENT))
    while error:
        assert "not-a-real-secret-9" not in f"{error!r}{error.__dict__}{getattr(error, 'doc', '')}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b"{}", b"\xff\xff", b'{"format":"1"}', b'{"format":1,"revision":1}']
)
async def test_damaged_slots_stop_every_verb_and_are_left_as_they_are(
    store: AgeFilesStore, root: Path, folder: Path, text: bytes
) -> None:
    await rotate(store)
    (folder / "slots.json").write_bytes(text)
    before = contents(root)
    for call in (store.peek(PATH, Slot.CURRENT), store.read(PATH, Slot.CURRENT), store.history(PATH)):
        assert (await fault_of(call)).fault is StoreFault.CORRUPT
    for call in every_write(store):
        assert (await fault_of(call)).fault is StoreFault.CORRUPT
    assert contents(root) == before


async def test_truncated_slots_are_damaged_wherever_they_end(store: AgeFilesStore, folder: Path) -> None:
    await rotate(store)
    whole = (folder / "slots.json").read_bytes()
    for end in range(0, len(whole) - 1, 7):
        (folder / "slots.json").write_bytes(whole[:end])
        with pytest.raises(StoreError) as caught:
            store.peek_sync(PATH, Slot.CURRENT)
        assert caught.value.fault is StoreFault.CORRUPT


async def test_a_line_without_its_end_counts_for_nothing_and_is_cut_off_by_the_next_writer(
    store: AgeFilesStore, open_store: OPEN, folder: Path
) -> None:
    await rotate(store)
    file = folder / "slots.json"
    before, old = file.read_bytes(), await keys_in(store, PATH)
    await put_key(store, PATH, "next", "v000002")
    line = file.read_bytes()[len(before) :]
    assert line.endswith(b"\n")
    for end in range(0, len(line), 13):
        file.unlink()  # another file: what was noted of the first says nothing about it
        file.write_bytes(before + line[:end])
        (folder / "v000001.age").write_bytes(b"")  # rubbish by the next state only
        survivor = open_store(folder.parents[1])
        slots = [await survivor.peek(PATH, slot) for slot in Slot]
        assert [s and s.version for s in slots] == [None, "v000002", "v000001"], end
    assert old[1] == "key-new"
    survivor = open_store(folder.parents[1])
    await put_key(survivor, PATH, "again", "v000002")
    assert all(json.loads(each) for each in file.read_bytes().splitlines())
    assert await key_in(open_store(folder.parents[1]), PATH, Slot.CURRENT) == "key-again"


async def test_what_is_noted_of_the_slots_never_stops_whoever_restores_a_backup(
    store: AgeFilesStore, open_store: OPEN, folder: Path
) -> None:
    await rotate(store)
    file, note = folder / "slots.json", folder / ".lock"
    short = file.read_bytes().splitlines(keepends=True)[0]
    file.write_bytes(short)
    error = await fault_of(open_store(folder.parents[1]).peek(PATH, Slot.CURRENT))
    assert "shorter" in error.what
    assert ".lock" in error.todo
    for text in (b"", b"7", b"seven 8", b"-", note.read_bytes()[:5]):
        note.write_bytes(text)
        assert await open_store(folder.parents[1]).peek(PATH, Slot.CURRENT)
    note.unlink()
    assert await open_store(folder.parents[1]).peek(PATH, Slot.CURRENT)


async def test_lost_slots_never_make_a_path_look_empty(
    store: AgeFilesStore, root: Path, folder: Path
) -> None:
    await rotate(store)
    (folder / "slots.json").unlink()
    before = contents(root)
    calls = [store.peek(PATH, Slot.CURRENT), put_key(store, PATH, "x"), store.claim(PATH, ATTEMPT)]
    for call in calls:
        error = await fault_of(call)
        assert error.fault is StoreFault.CORRUPT
        assert "v000002.age" in error.what
    assert contents(root) == before


async def test_slots_of_a_newer_keyturn_are_not_touched(
    store: AgeFilesStore, root: Path, folder: Path
) -> None:
    await rotate(store)
    (folder / "slots.json").write_bytes(b'{"format":2,"something":"new"}')
    before = contents(root)
    for call in (store.peek(PATH, Slot.CURRENT), put_key(store, PATH, "x", "v000002")):
        error = await fault_of(call)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "newer keyturn" in error.what
    assert contents(root) == before


async def test_what_a_killed_writer_left_is_ignored_and_cleaned_up(
    store: AgeFilesStore, open_store: OPEN, root: Path, folder: Path
) -> None:
    await rotate(store)
    (folder / "v000003.age").write_bytes(b"left by a killed writer")
    (folder / ".writing0").write_bytes(b"half a fi")
    (folder / ".writing7").write_bytes(b"half a fi")
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    info = await put_key(open_store(root), PATH, "next", "v000002")
    assert info.version == "v000004"
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "slots.json", "v000002.age", "v000004.age"]


# The disk and its rights.


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "small"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(mount)]
    if os.getuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root and mount(8) for a small file system; run the suite as root in a container")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


async def test_the_room_of_a_claim_that_is_discarded_is_given_back(
    store: AgeFilesStore, folder: Path
) -> None:
    await rotate(store)
    claim = await store.claim(PATH, Attempt("0123456789", 2))
    assert (folder / disk.RESERVED).stat().st_size == 4096
    await store.discard(PATH, Slot.PENDING, version=claim.version)
    assert not (folder / disk.RESERVED).exists()


async def test_a_full_disk_is_told_and_loses_nothing(open_store: OPEN, small_disk: Path) -> None:
    store = open_store(small_disk / "store")
    await rotate(store)
    await put_key(store, "other/path", "z")
    later = Attempt("0123456789", 2)
    claim = await store.claim(PATH, later)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    for call in (
        store.stage(PATH, fake_material("x"), fake_meta("x", later), claim),
        put_key(store, "new/path", "y"),
        # Before anything is minted: there would be no room for it.
        store.claim("other/path", later),
    ):
        assert (await fault_of(call)).fault is StoreFault.NO_SPACE
    assert set(disk.names(small_disk / "store/other/path")) == {".lock", "slots.json", "v000001.age"}
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    filler.unlink()
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
