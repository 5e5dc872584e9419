"""What the age files are beyond the contract: their form on disk, and reading by bots."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import AgeFilesStore as AgeFilesEntry
from keyturn.domain.inventory import SecretRef
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore, open_age_files
from keyturn.stores.age_files_change import Change, Order, decide
from keyturn.stores.keys import generate_identity
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


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(root)): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(root.rglob("*"))
    }


async def rotate(store: AgeFilesStore) -> None:
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, ATTEMPT, "new")
    await store.promote(PATH, ATTEMPT, expect_current=old.version)


@pytest.mark.skipif(
    not shutil.which("age"), reason="needs the age tool: apt install age, or brew install age"
)
async def test_the_age_tool_decrypts_a_version(store: AgeFilesStore, folder: Path, key: Path) -> None:
    await put_key(store, PATH, "a")
    argv = ["age", "-d", "-i", str(key), str(folder / "v000001.age")]
    result = subprocess.run(argv, capture_output=True, check=True, timeout=20)
    content = json.loads(result.stdout)
    assert content["material"] == fake_material("a").reveal()
    assert content["meta"]["fingerprint"] == "fpa"


@pytest.mark.skipif(
    not shutil.which("age-keygen"), reason="needs age-keygen: apt install age, or brew install age"
)
async def test_a_key_of_age_keygen_works(open_store, root: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.key"
    subprocess.run(["age-keygen", "-o", str(made)], capture_output=True, check=True, timeout=20)
    store = open_store(root, key=made)
    await put_key(store, PATH, "a")
    assert await key_in(store, PATH, Slot.CURRENT) == "key-a"


async def test_files_and_folders_are_closed_to_other_users(store: AgeFilesStore, root: Path) -> None:
    before = os.umask(0)
    try:
        await rotate(store)
    finally:
        os.umask(before)
    for item in [root, *root.rglob("*")]:
        assert stat.S_IMODE(item.stat().st_mode) == (0o700 if item.is_dir() else 0o600), item


async def test_no_secret_stands_in_clear_on_disk(store: AgeFilesStore, root: Path) -> None:
    await rotate(store)
    assert not [p for p in root.rglob("*") if p.is_file() and b"not-a-real-secret" in p.read_bytes()]


async def test_a_version_file_is_never_written_again(store: AgeFilesStore, folder: Path) -> None:
    first = await put_key(store, PATH, "1")
    before = (folder / "v000001.age").stat()
    second = await put_key(store, PATH, "2", first.version)
    await store.restore_previous(PATH, expect_current=second.version)
    after = (folder / "v000001.age").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_a_discarded_version_leaves_the_disk_and_stays_in_the_history(
    store: AgeFilesStore, folder: Path
) -> None:
    await rotate(store)
    await store.discard(PATH, Slot.PREVIOUS, version="v000001")
    assert sorted(disk.version_files(disk.names(folder))) == ["v000002.age"]
    first, second = await store.history(PATH)
    assert (first.version, first.fingerprint, first.destroyed) == ("v000001", "fpold", True)
    assert (second.version, second.slots, second.destroyed) == ("v000002", {Slot.CURRENT}, False)


async def test_the_history_stays_short_and_keeps_what_is_held(store: AgeFilesStore, monkeypatch) -> None:
    monkeypatch.setattr("keyturn.stores.ledger.HISTORY_ROWS", 5)
    await put_key(store, PATH, "old")
    for number in range(1, 10):
        await stage_key(store, PATH, Attempt("0123456789", number), str(number))
    versions = [row.version for row in await store.history(PATH)]
    assert versions == ["v000001", "v000007", "v000008", "v000009", "v000010"]


async def test_an_acknowledged_write_is_flushed_file_first_then_folder(
    store: AgeFilesStore, monkeypatch
) -> None:
    claim = await store.claim(PATH, ATTEMPT)
    events: list[str] = []
    real_flush, real_rename = disk.flush, os.rename

    def flush(descriptor: int) -> None:
        events.append("flush folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "flush file")
        real_flush(descriptor)

    def rename(source: str, target: str, **places: int) -> None:
        events.append(f"name {target}")
        real_rename(source, target, **places)

    monkeypatch.setattr(disk, "flush", flush)
    monkeypatch.setattr(disk.os, "rename", rename)
    await store.stage(PATH, fake_material("a"), fake_meta("a", ATTEMPT), claim)
    version = ["flush file", "name v000001.age", "flush folder"]
    assert events == [*version, "flush file"]
    events.clear()
    await store.promote(PATH, ATTEMPT, expect_current=None)
    assert events == ["flush file"]
    events.clear()
    await put_key(store, "fresh/path", "b")
    assert events[-3:] == ["flush file", "name slots.json", "flush folder"]


async def test_reading_writes_nothing_and_takes_no_lock(
    store: AgeFilesStore, root: Path, monkeypatch
) -> None:
    await rotate(store)
    before = tree(root)
    flags: list[int] = []
    real_open = os.open

    def spy(path: str, mode: int, *rest: int, **places: int) -> int:
        flags.append(mode)
        return real_open(path, mode, *rest, **places)

    monkeypatch.setattr(disk.os, "open", spy)
    monkeypatch.setattr(disk, "lock", lambda _: pytest.fail("a reader took the lock"))
    assert store.read_sync(PATH, Slot.CURRENT)
    assert store.peek_sync(PATH, Slot.PREVIOUS)
    assert store.peek_sync("no/such/path", Slot.CURRENT) is None
    assert store.signature("no/such/path") is None
    await store.history(PATH)
    assert flags
    assert not any(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) for mode in flags)
    assert tree(root) == before


async def test_readers_read_while_a_writer_holds_the_lock(store: AgeFilesStore, folder: Path) -> None:
    await rotate(store)
    with disk.Writer(folder):
        assert await key_in(store, PATH, Slot.CURRENT) == "key-new"


async def test_check_writes_nothing(store: AgeFilesStore, root: Path, tmp_path: Path) -> None:
    assert all(f.ok for f in await store.check([PATH]))
    assert not root.exists()
    await rotate(store)
    before = tree(root)
    assert all(f.ok for f in await store.check([PATH, "other/path"]))
    assert tree(root) == before


async def test_the_signature_differs_after_every_change_of_the_slots_whatever_the_clock_says(
    store: AgeFilesStore, folder: Path
) -> None:
    assert store.signature(PATH) is None
    current = (await put_key(store, PATH, "first")).version
    seen = [store.signature(PATH)]
    for number in range(60):
        tomorrow = time.time_ns() + 86_400 * 10**9
        os.utime(folder / "slots.json", ns=(tomorrow, tomorrow))
        seen.append(store.signature(PATH))
        current = (await put_key(store, PATH, str(number), current)).version
        seen.append(store.signature(PATH))
        assert store.signature(PATH) == seen[-1]
    assert len(set(seen)) == 121


async def test_the_slots_are_begun_anew_before_they_grow_long(store: AgeFilesStore, folder: Path) -> None:
    current, numbers = (await put_key(store, PATH, "first")).version, set()
    for number in range(40):
        current = (await put_key(store, PATH, str(number), current)).version
        status = (folder / "slots.json").stat()
        assert status.st_size <= 16384
        numbers.add(status.st_ino)
    assert 1 < len(numbers) < 20
    assert await key_in(store, PATH, Slot.CURRENT) == "key-39"
    assert len(await store.history(PATH)) == 41


async def test_a_verb_that_changes_nothing_leaves_no_folder_behind(store: AgeFilesStore, root: Path) -> None:
    await store.discard(PATH, Slot.PENDING, version="v000001")
    for call in (
        store.promote(PATH, ATTEMPT, expect_current=None),
        store.restore_previous(PATH, expect_current="v000001"),
        put_key(store, PATH, "a", "v000001"),
    ):
        with pytest.raises(StoreError):
            await call
    assert not root.exists()


async def test_a_reader_that_meets_a_moving_slot_reads_the_newer_one(
    store: AgeFilesStore, open_store, root: Path, monkeypatch
) -> None:
    await put_key(store, PATH, "1")
    real_read, writer = disk.read_bytes, open_store(root)
    moved = False

    def slow_read(folder: Path, name: str) -> bytes | None:
        nonlocal moved
        if name == "v000001.age" and not moved:
            moved = True
            current = "v000001"
            for number in range(2, 4):
                current = _put_in_thread(writer, str(number), current)
        return real_read(folder, name)

    monkeypatch.setattr(disk, "read_bytes", slow_read)
    stored = store.read_sync(PATH, Slot.CURRENT)
    assert stored
    assert stored.material.key_ref == "key-3"


def _put_in_thread(store: AgeFilesStore, name: str, expect: str) -> str:
    ledger_verb = lambda ledger: (ledger.put(PATH, fake_meta(name, None), expect), None)  # noqa: E731
    seal = lambda sealer: sealer.seal(fake_material(name), fake_meta(name, None))  # noqa: E731
    change = decide(
        PATH,
        store._root,
        store._root / PATH,
        store._pages,
        Order(ledger_verb, store.sealer(), seal(store.sealer())),
    )
    assert isinstance(change, Change)
    change.carry_out()
    change.close()
    return f"v{int(expect[1:]) + 1:06d}"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc",
        "../x",
        "a/../b",
        "a/..",
        "a//b",
        "a/",
        ".hidden",
        "a%2e",
        "a b",
        "a\n",
        "a\x00b",
        "ü",
        "~/x",
        "a\\b",
        "a/slots.json",
        "slots.json/b",
        "a/v000001.age",
        "a/.lock",
    ],
)
async def test_a_path_that_could_lead_elsewhere_is_refused(
    store: AgeFilesStore, root: Path, path: str
) -> None:
    calls = [store.claim(path, ATTEMPT), store.read(path, Slot.CURRENT), put_key(store, path, "a")]
    for call in [*calls, store.history(path)]:
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.fault is StoreFault.MISCONFIGURED
    with pytest.raises(StoreError):
        store.signature(path)
    assert not root.exists()


async def test_a_path_through_a_symbolic_link_is_refused(
    store: AgeFilesStore, root: Path, tmp_path: Path
) -> None:
    await rotate(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "linked").symlink_to(elsewhere)
    for call in (put_key(store, "linked/main", "a"), store.read("linked/main", Slot.CURRENT)):
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.fault is StoreFault.MISCONFIGURED
    assert not list(elsewhere.iterdir())


async def test_the_root_itself_may_be_a_link(open_store, root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    store = open_store(tmp_path / "link")
    await rotate(store)
    assert await keys_in(open_store(root), PATH) == (None, "key-new", "key-old")


async def test_the_key_of_a_store_can_be_changed(open_store, root: Path, key: Path, tmp_path: Path) -> None:
    await put_key(open_store(root), PATH, "old")
    both = tmp_path / "both.key"
    generate_identity(both)
    only_new = tmp_path / "new.key"
    only_new.write_text(both.read_text())
    with both.open("a") as file:
        file.write(key.read_text())
    store = open_store(root, key=both)
    await put_key(store, PATH, "new", "v000001")
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    assert await key_in(open_store(root, key=only_new), PATH, Slot.CURRENT) == "key-new"


async def test_a_store_opens_from_its_inventory_entry(tmp_path: Path, key: Path) -> None:
    entry = AgeFilesEntry(kind="age_files", path="secrets", key=SecretRef(file=key.name))
    store = open_age_files(entry, tmp_path)
    await put_key(store, PATH, "a")
    assert (tmp_path / "secrets" / PATH / "slots.json").exists()
    await store.close()


def test_importing_the_store_is_light() -> None:
    heavy = ("ccxt", "prefect", "sqlalchemy", "keyring", "pyrage", "typer", "rich")
    code = "import sys, keyturn.stores.age_files, keyturn.stores.keys\n"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
