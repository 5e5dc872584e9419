"""A key, a file or a disk that is not as it should be: a clear error, and nothing overwritten."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity, resolve_secret
from keyturn.testing.store_contract_support import (
    key_in,
    keys_in,
    put_key,
)

from .age_files_support import ATTEMPT, OPEN, PATH, fault_of, rotate


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"
    }


def every_write(store: AgeFilesStore) -> Iterator[object]:
    later = Attempt("0123456789", 2)
    yield store.claim(PATH, later)
    yield put_key(store, PATH, "x", "v000002")
    yield store.promote(PATH, later, expect_current="v000002")
    yield store.restore_previous(PATH, expect_current="v000002")
    yield store.discard(PATH, Slot.PREVIOUS, version="v000001")


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
    # Another file: what was noted of the first says nothing about it. Kept, or its number is given again.
    file.rename(folder.parents[1].parent / "noted")
    for end in range(0, len(line), 13):
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
