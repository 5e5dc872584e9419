"""A store whose answers are late: the sign of a change is seen before the change."""

from __future__ import annotations

import asyncio

import pytest

import keyturn.client
from keyturn.client import watcher as watcher_module
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.evidence import NoticeKind
from keyturn.domain.slots import Slot, Stored

from .conftest import CONSUMER, CREDENTIAL, PATH, World, until


class Lagging:
    """A source that answers the next readings with what it held before, or not at all."""

    pace = 0.05

    def __init__(self, world: World) -> None:
        self._store, self.stale, self.down, self.reads = world.store, 0, 0, 0
        self._old: Stored | None = None

    def signature(self) -> object:
        return self._store.signature(PATH)

    def read(self, slot: Slot) -> Stored | None:
        self.reads += 1
        if self.down:
            self.down -= 1
            raise StoreError(StoreFault.UNAVAILABLE, "The store does not answer.")
        if self.stale:
            self.stale -= 1
            return self._old
        self._old = self._store.read_sync(PATH, slot)
        return self._old


async def attached(world: World) -> tuple[Lagging, keyturn.client.Attachment]:
    source = Lagging(world)
    attachment = keyturn.client.attach(
        world.exchange("sync"),
        CREDENTIAL,
        source=source,
        mailbox=world.root / "mailbox",
        consumer=CONSUMER,
        interval=0.02,
        verify_with=None,
    )
    world.attached.append(attachment)
    await until(lambda: source.reads == 2)
    return source, attachment


async def steady(source: Lagging) -> bool:
    """Tell whether nothing is read while nothing changes."""
    reads = source.reads
    await asyncio.sleep(0.3)
    return source.reads == reads


@pytest.mark.parametrize("down", [0, 2])
async def test_a_reading_that_lags_behind_the_sign_does_not_lose_the_swap(world: World, down: int) -> None:
    await world.put_first()
    source, attachment = await attached(world)
    source.stale, source.down = 3, down
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new, 2)
    assert await steady(source)


async def test_a_failing_store_does_not_use_up_the_time_for_late_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "_EAGER", 0.3)
    await world.put_first()
    source, attachment = await attached(world)
    source.down = 10**6
    new = await world.rotate()
    await asyncio.sleep(0.6)
    source.stale, source.down = 2, 0
    await until(lambda: attachment.fingerprint == new, 2)


async def test_the_eager_readings_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "_EAGER", 0.3)
    old = await world.put_first()
    source, attachment = await attached(world)
    await world.stage()
    await asyncio.sleep(0.5)
    assert 4 < source.reads < 12, "at the pace"
    assert await steady(source)
    assert attachment.fingerprint == old


async def test_a_notice_about_a_key_that_was_not_read_has_the_store_read_until_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "_EAGER", 0.1)
    monkeypatch.setattr(watcher_module, "_BEHIND_PAUSE", 0.2)
    await world.put_first()
    source, attachment = await attached(world)
    source.stale = 10**6
    new = await world.rotate()
    world.notice(new)
    await asyncio.sleep(1)
    reads = source.reads
    await asyncio.sleep(1)
    assert 3 <= source.reads - reads <= 6, "slowly"
    source.stale = 0
    await until(lambda: attachment.fingerprint == new, 2)
    assert await steady(source)


async def test_a_late_answer_that_takes_a_bot_back_is_not_the_last_word(world: World) -> None:
    old = await world.put_first()
    source, attachment = await attached(world)
    before = source.read(Slot.CURRENT)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    source._old, source.stale = before, 1
    await world.stage()
    await until(lambda: source.stale == 0)
    await until(lambda: attachment.fingerprint == new, 2)
    assert old != new


async def test_the_notice_of_a_rotation_that_was_taken_back_has_nothing_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "_EAGER", 0.1)
    monkeypatch.setattr(watcher_module, "_BEHIND_PAUSE", 0.05)
    old = await world.put_first()
    source, attachment = await attached(world)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    current = await world.store.peek(PATH, Slot.CURRENT)
    assert current is not None
    await world.store.restore_previous(PATH, expect_current=current.version)
    world.notice(old, kind=NoticeKind.ROLLED_BACK)
    await until(lambda: attachment.fingerprint == old)
    await asyncio.sleep(0.3)
    assert await steady(source)


async def test_what_was_said_before_the_bot_started_has_nothing_read_on(world: World) -> None:
    only = await world.put_first()
    world.notice(only, "rotation9")
    source, _ = await attached(world)
    assert await steady(source)
    assert source.reads == 2
