"""A bot's identity opens the current key of its own credential, and no other file of the store."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Slot
from keyturn.stores import folder as disk
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.age_files_readers import Readers
from keyturn.stores.keys import generate_identity
from keyturn.testing.store_contract_support import key_in, put_key, stage_key
from tests import other_user
from tests.other_user import common

__all__ = ["common"]

MINE, OTHERS, MANAGER = "bots/mm", "bots/arb", "managers/main"
ATTEMPT = Attempt("0123456789", 1)
needs_age = pytest.mark.skipif(not shutil.which("age"), reason="needs the age tool: apt install age")


class Desk:
    """A store with two bots and a manager key; each bot has its own identity."""

    def __init__(self, folder: Path) -> None:
        self.root, self.key = folder / "store", folder / "age.key"
        generate_identity(self.key)
        self.identity, self.other = folder / "mm.key", folder / "arb.key"
        self.recipient = generate_identity(self.identity)
        self.readers = {
            MINE: Readers(frozenset([self.recipient])),
            OTHERS: Readers(frozenset([generate_identity(self.other)])),
        }
        self.opened: list[AgeFilesStore] = []

    def open(self, **readers: Readers) -> AgeFilesStore:
        among = {**self.readers, **readers}
        self.opened.append(AgeFilesStore(self.root, self.key.read_text, readers=among))
        return self.opened[-1]

    def as_bot(self, identity: Path | None = None) -> AgeFilesStore:
        file = identity or self.identity
        return AgeFilesStore(self.root, file.read_text, for_a_bot=True)

    async def rotated(self) -> AgeFilesStore:
        store = self.open()
        await put_key(store, MANAGER, "manager")
        await put_key(store, OTHERS, "others")
        await put_key(store, MINE, "old")
        await stage_key(store, MINE, ATTEMPT, "new")
        await store.promote(MINE, ATTEMPT, expect_current="v000001")
        await store.spread(MINE)
        await stage_key(store, MINE, Attempt("9876543210", 1), "next")
        return store


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    for store in desk.opened:
        await store.close()


def opened_by_age(identity: Path, root: Path) -> set[str]:
    """Try every file of the store with the age tool, which knows nothing of keyturn."""
    found = set()
    for file in root.rglob("*.age"):
        argv = ["age", "-d", "-i", str(identity), str(file)]
        result = subprocess.run(argv, capture_output=True, check=False, timeout=20)
        if result.returncode == 0:
            found.add(json.loads(result.stdout)["meta"]["key_ref"])
    return found


def denied(call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        call()
    assert caught.value.fault is StoreFault.DENIED
    return caught.value


@needs_age
async def test_a_bots_identity_opens_its_current_key_and_no_other_file_of_the_store(desk: Desk) -> None:
    await desk.rotated()
    assert opened_by_age(desk.identity, desk.root) == {"key-new"}
    assert opened_by_age(desk.other, desk.root) == {"key-others"}
    everything = {"key-new", "key-old", "key-next", "key-others", "key-manager"}
    assert opened_by_age(desk.key, desk.root) == everything


@needs_age
async def test_a_bot_that_must_try_a_key_opens_what_is_pending_too(desk: Desk) -> None:
    store = desk.open(**{MINE: Readers(frozenset([desk.recipient]), frozenset([desk.recipient]))})
    await put_key(store, MINE, "old")
    await stage_key(store, MINE, ATTEMPT, "new")
    assert opened_by_age(desk.identity, desk.root) == {"key-old", "key-new"}


@needs_age
async def test_what_is_taken_back_is_closed_to_the_bot_and_what_comes_back_is_open(desk: Desk) -> None:
    store = await desk.rotated()
    await store.restore_previous(MINE, expect_current="v000002")
    # Before anything else happens: a bot that starts now finds its key.
    assert "key-old" in opened_by_age(desk.identity, desk.root)
    await store.spread(MINE)
    assert opened_by_age(desk.identity, desk.root) == {"key-old"}


async def test_the_key_is_open_to_its_bot_from_the_moment_that_it_is_current(desk: Desk) -> None:
    store = desk.open()
    await put_key(store, MINE, "old")
    await stage_key(store, MINE, ATTEMPT, "new")
    bot = desk.as_bot()
    assert "not encrypted for this bot" in denied(lambda: bot.read_sync(MINE, Slot.PENDING)).what
    await store.promote(MINE, ATTEMPT, expect_current="v000001")
    assert bot.read_sync(MINE, Slot.CURRENT).material.key_ref == "key-new"


async def test_recipients_that_change_in_the_inventory_change_who_opens_the_key_and_nothing_else(
    desk: Desk, tmp_path: Path
) -> None:
    store = await desk.rotated()
    before = [await store.peek(MINE, slot) for slot in Slot]
    sign = store.signature(MINE)
    replaced = tmp_path / "replaced.key"
    readers = Readers(frozenset([generate_identity(replaced)]))
    changed = desk.open(**{MINE: readers})
    (told,) = [f for f in await changed.check([MINE]) if not f.ok]
    assert desk.recipient in told.detail
    assert "store reseal" in told.todo
    await changed.spread(MINE)
    assert all(f.ok for f in await changed.check([MINE]))
    denied(lambda: desk.as_bot().read_sync(MINE, Slot.CURRENT))
    assert desk.as_bot(replaced).read_sync(MINE, Slot.CURRENT).material.key_ref == "key-new"
    assert [await store.peek(MINE, slot) for slot in Slot] == before
    assert store.signature(MINE) == sign
    # Nobody may read it any more but keyturn.
    none = desk.open(**{MINE: Readers()})
    assert [f.ok for f in await none.check([MINE])].count(False) == 1
    await none.spread(MINE)
    denied(lambda: desk.as_bot(replaced).read_sync(MINE, Slot.CURRENT))
    assert await key_in(none, MINE, Slot.CURRENT) == "key-new"


async def test_a_reader_never_meets_half_a_file_while_it_is_encrypted_anew(desk: Desk, monkeypatch) -> None:
    store = await desk.rotated()
    seen, real = [], os.rename

    def rename(source, target, **places):
        seen.append(desk.as_bot().read_sync(MINE, Slot.CURRENT).material.key_ref)
        real(source, target, **places)
        seen.append(desk.as_bot(second).read_sync(MINE, Slot.CURRENT).material.key_ref)

    second = desk.other
    both = Readers(frozenset([desk.recipient, *desk.readers[OTHERS].current]))
    changed = desk.open(**{MINE: both})
    monkeypatch.setattr(disk.os, "rename", rename)
    await changed.spread(MINE)
    assert seen == ["key-new", "key-new"]
    await store.spread(OTHERS)
    assert len(seen) == 2


@pytest.mark.parametrize("verb", ["promote", "spread", "restore"])
async def test_a_death_while_files_are_encrypted_anew_leaves_current_open_to_its_bot(
    desk: Desk, tmp_path: Path, verb: str
) -> None:
    store = desk.open()
    await put_key(store, MINE, "old")
    await stage_key(store, MINE, ATTEMPT, "new")
    if verb != "promote":
        await store.promote(MINE, ATTEMPT, expect_current="v000001")
    if verb == "restore":
        await store.spread(MINE)
    script = Path(__file__).parents[1] / "stores" / "crash_points.py"
    copies = tmp_path / "copies"
    store_and_bot = (str(desk.root), str(copies), MINE, desk.recipient)
    argv = [sys.executable, str(script), verb, str(desk.key), *store_and_bot]
    subprocess.run(argv, check=True, timeout=60)
    deaths = sorted(copies.iterdir(), key=lambda p: int(p.name))
    assert len(deaths) > 4
    for copy in deaths:
        bot = AgeFilesStore(copy, desk.identity.read_text, for_a_bot=True)
        now = bot.peek_sync(MINE, Slot.CURRENT)
        assert bot.read_sync(MINE, Slot.CURRENT).info == now, copy
        survivor = AgeFilesStore(copy, desk.key.read_text, readers=desk.readers)
        await survivor.spread(MINE)
        assert all(finding.ok for finding in await survivor.check([MINE])), copy
        for slot in (Slot.PENDING, Slot.PREVIOUS):
            if survivor.peek_sync(MINE, slot):
                denied(lambda bot=bot, slot=slot: bot.read_sync(MINE, slot))
        await put_key(survivor, MINE, "after", now.version)
        assert bot.read_sync(MINE, Slot.CURRENT).material.key_ref == "key-after"
        await survivor.close()


async def test_a_recipient_that_is_the_stores_own_is_told(desk: Desk) -> None:
    own = desk.open().sealer().recipient
    store = desk.open(**{MINE: Readers(frozenset([own]))})
    await put_key(store, MINE, "a")
    (told,) = [f for f in await store.check([MINE]) if not f.ok]
    assert "opens every key" in told.detail


async def test_no_key_is_minted_for_a_recipient_that_nothing_can_be_encrypted_for(desk: Desk) -> None:
    store = desk.open(**{MINE: Readers(frozenset(["age1" + "q" * 58]))})
    with pytest.raises(StoreError) as caught:
        await store.claim(MINE, ATTEMPT)
    assert caught.value.fault is StoreFault.MISCONFIGURED
    assert not desk.root.exists()


def seen_by(identity: Path, root: Path) -> str:
    """Read the key as its bot does, and try everything else of the store."""
    bot = AgeFilesStore(root, identity.read_text, for_a_bot=True)
    found = [bot.read_sync(MINE, Slot.CURRENT).material.key_ref]
    for path in (root / MINE / ".lock", root / OTHERS, root / MANAGER):
        try:
            list(path.iterdir()) if path.is_dir() else path.read_bytes()
            found.append(f"open: {path}")
        except PermissionError:
            continue
    return ", ".join(found + [f"writable: {p}" for p in (root, *root.rglob("*")) if os.access(p, os.W_OK)])


@pytest.mark.skipif(not other_user.AS_ROOT, reason="needs root, to be two users at once")
async def test_a_bot_of_another_user_sees_its_own_files_and_cannot_hold_up_the_writer(
    common: Path,
) -> None:
    desk = Desk(common)
    gid, uid = 54321, 54322
    desk.readers[MINE] = Readers(frozenset([desk.recipient]), group=str(gid))
    await desk.rotated()
    os.chown(desk.identity, uid, uid)
    assert other_user.as_user(uid, [gid], lambda: seen_by(desk.identity, desk.root)) == "key-new"
    folder = desk.root / MINE
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert not [p for p in folder.iterdir() if p.stat().st_mode & 0o027]
    for store in desk.opened:
        await store.close()
