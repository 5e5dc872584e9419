"""A writer that dies at any moment leaves the old state or the new one; two writers at once lose nothing."""

import asyncio
import fcntl
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore
from keyturn.testing.store_contract_support import key_in, keys_in, put_key, slots_of, stage_key

HERE = Path(__file__).parent
PATH = "bybit/main"
KILLS = 10
OPEN = Callable[..., AgeFilesStore]


async def state(store: AgeFilesStore, path: str) -> tuple[object, ...]:
    slots = await slots_of(store, path)
    return (*await keys_in(store, path), *((s.version, s.attempt) if s else None for s in slots))


async def prepared(store: AgeFilesStore, verb: str) -> None:
    """Bring a store to: key-old previous, key-new current, and pending as the verb needs it."""
    first = Attempt("0123456789", 1)
    await put_key(store, PATH, "old")
    await put_key(store, PATH, "new", "v000001")
    if verb in {"claim", "promote", "discard pending"}:
        await stage_key(store, PATH, first, "staged")
    elif verb == "stage":
        await store.claim(PATH, first)


def killed_copies(verb: str, key: Path, root: Path, copies: Path) -> list[Path]:
    """The store as it is when the writer dies before each of its changes; the last: when it lives."""
    argv = [sys.executable, str(HERE / "crash_points.py"), verb, str(key), str(root), str(copies)]
    subprocess.run(argv, check=True, timeout=60)
    roots = sorted(copies.iterdir(), key=lambda p: int(p.name))
    assert len(roots) > 6
    return roots


@pytest.mark.parametrize("verb", ["claim", "stage", "promote", "restore", "put", "first put"])
async def test_death_before_any_change_on_disk_leaves_the_old_state_or_the_new(
    open_store: OPEN, root: Path, key: Path, tmp_path: Path, verb: str
) -> None:
    path = "fresh/path" if verb == "first put" else PATH
    await prepared(store := open_store(root), verb)
    old = await state(store, path)
    roots = killed_copies(verb, key, root, tmp_path / "copies")
    new = await state(open_store(roots[-1]), path)
    assert new != old
    seen = []
    for copy in roots:
        survivor = open_store(copy)
        seen.append(await state(survivor, path))
        assert seen[-1] in (old, new), copy
        await goes_on(survivor, copy, path)
    # Once new, new: there is one pivot.
    assert seen == sorted(seen, key=lambda s: s == new)


@pytest.mark.parametrize("slot", [Slot.PENDING, Slot.PREVIOUS])
async def test_a_secret_whose_discard_was_cut_short_still_shows_until_it_is_destroyed(
    open_store: OPEN, root: Path, key: Path, tmp_path: Path, slot: Slot
) -> None:
    await prepared(store := open_store(root), f"discard {slot}")
    doomed = await store.peek(PATH, slot)
    assert doomed
    file = disk.version_file(doomed.version)
    cut_short = 0
    for copy in killed_copies(f"discard {slot}", key, root, tmp_path / "copies"):
        survivor = open_store(copy)
        shown, there = await survivor.peek(PATH, slot), file in disk.names(copy / PATH)
        assert shown == doomed or not (shown or there), f"{copy}: nothing shows what is left"
        assert (await survivor.read(PATH, slot) is not None) == there
        cut_short += bool(shown) and not there
        assert all(finding.ok for finding in await survivor.check([PATH]))
        if shown:
            await survivor.discard(PATH, slot, version=shown.version)
        assert await survivor.peek(PATH, slot) is None
        assert file not in disk.names(copy / PATH)
        await goes_on(survivor, copy, PATH)
    assert cut_short, "no death fell between the file and the slots"


async def test_what_a_discard_has_destroyed_is_never_made_current(store: AgeFilesStore, folder: Path) -> None:
    await put_key(store, PATH, "old")
    await put_key(store, PATH, "new", "v000001")
    attempt = Attempt("0123456789", 1)
    staged = await stage_key(store, PATH, attempt, "staged")
    for version, verb in (
        (staged.version, lambda: store.promote(PATH, attempt, expect_current="v000002")),
        ("v000001", lambda: store.restore_previous(PATH, expect_current="v000002")),
    ):
        (folder / disk.version_file(version)).unlink()
        with pytest.raises(StoreError, match="is missing") as caught:
            await verb()
        assert caught.value.fault is StoreFault.CORRUPT
        assert await key_in(store, PATH, Slot.CURRENT) == "key-new"


async def test_a_store_that_was_vacated_halfway_is_vacated_by_the_next(
    open_store: OPEN, root: Path, key: Path, tmp_path: Path
) -> None:
    await prepared(open_store(root), "vacate")
    for copy in killed_copies("vacate", key, root, tmp_path / "copies"):
        survivor = open_store(copy)
        current = await survivor.peek(PATH, Slot.CURRENT)
        await survivor.vacate(PATH, expect_current=current.version if current else "")
        assert set(disk.names(copy / PATH)) == {".lock", "slots.json"}
        assert await state(survivor, PATH) == (None,) * 6


async def goes_on(store: AgeFilesStore, root: Path, path: str) -> None:
    """See that the next writer works as if nothing had been, and clears away what was left."""
    current = await store.peek(path, Slot.CURRENT)
    put = await put_key(store, path, "next", current and current.version)
    versions = [row.version for row in await store.history(path)]
    assert len(set(versions)) == len(versions)
    alive = {disk.version_file(row.version) for row in await store.history(path) if row.slots}
    assert set(disk.names(root / path)) == {".lock", "slots.json", *alive}
    assert disk.version_file(put.version) in alive
    assert all(finding.ok for finding in await store.check([path]))


def start_loop(key: Path, root: Path, turns: int = 0) -> subprocess.Popen[bytes]:
    argv = [sys.executable, str(HERE / "write_loop.py"), str(key), str(root), str(turns)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def number(version: str) -> int:
    return int(version[1:])


@pytest.mark.slow
async def test_sigkill_in_a_write_loop_loses_nothing_that_was_acknowledged(
    open_store: OPEN, root: Path, key: Path
) -> None:
    chance = random.Random(20261121)
    for _ in range(KILLS):
        process = start_loop(key, root)
        try:
            assert process.stdout
            first = process.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
        finally:
            process.kill()
            rest, _ = process.communicate(timeout=20)
        *_, last = (first + rest).split(b"\n")[:-1]
        acknowledged = last.decode().split()[2]
        store = open_store(root)
        current = await store.read(PATH, Slot.CURRENT)
        assert current
        assert number(current.info.version) >= number(acknowledged)
        pending, previous = await store.read(PATH, Slot.PENDING), await store.read(PATH, Slot.PREVIOUS)
        for stored in filter(None, (pending, current, previous)):
            assert stored.material.key_ref == f"key-{stored.info.attempt}"
        alive = {row.version for row in await store.history(PATH) if not row.destroyed}
        assert alive == {slot.version for slot in await slots_of(store, PATH) if slot and slot.meta}
        assert all(finding.ok for finding in await store.check([PATH]))


@pytest.mark.slow
async def test_two_processes_that_write_at_once_lose_nothing(open_store: OPEN, root: Path, key: Path) -> None:
    turns = 25
    processes = [start_loop(key, root, turns) for _ in range(2)]
    outputs = []
    try:
        for process in processes:
            outputs.append(process.communicate(timeout=60)[0].decode().split())
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=20)
    promoted = [number(version) for output in outputs for version in output[2::3]]
    assert len(promoted) == len(set(promoted)) == 2 * turns
    store = open_store(root)
    current = await store.read(PATH, Slot.CURRENT)
    assert current
    assert number(current.info.version) == max(promoted)


async def test_a_writer_waits_for_the_lock_and_then_gives_up(
    store: AgeFilesStore, open_store: OPEN, root: Path, folder: Path
) -> None:
    await put_key(store, PATH, "old")
    hasty = open_store(root, lock_wait=0.1)
    with (folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="Another process is writing") as caught:
            await put_key(hasty, PATH, "x", "v000001")
        assert caught.value.fault is StoreFault.UNAVAILABLE
        assert [f.ok for f in await store.check([PATH])] == [True, True, True, False]
        waiting = asyncio.create_task(put_key(store, PATH, "new", "v000001"))
        # Many that wait take no thread from other paths.
        more = [asyncio.create_task(store.discard(PATH, Slot.PENDING, version="v000009")) for _ in range(50)]
        await put_key(store, "other/path", "z")
        assert not waiting.done()
    await asyncio.gather(waiting, *more)
    assert await key_in(store, PATH, Slot.CURRENT) == "key-new"


async def test_deleting_the_lock_file_lets_no_second_writer_in(store: AgeFilesStore, folder: Path) -> None:
    await put_key(store, PATH, "old")
    real_lock = disk.lock

    def lock_and_lose(descriptor: int) -> None:
        real_lock(descriptor)
        (folder / ".lock").unlink(missing_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "lock", lock_and_lose)
        with pytest.raises(disk.BusyError), disk.Writer(folder):
            pytest.fail("this lock is no longer the one that others take")
    await put_key(store, PATH, "new", "v000001")
