"""A bot follows its credential to another store, and confirms it from there alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from keyturn.client.settings import StoreSource
from keyturn.domain.evidence import NoticeKind, place_mark
from keyturn.domain.slots import Slot
from keyturn.stores.age_files import AgeFilesStore

from .conftest import CREDENTIAL, PATH, World, until


async def move(world: World) -> tuple[AgeFilesStore, str]:
    """Copy the key to a second store; give that store and the key's version there."""
    stored = await world.store.read(PATH, Slot.CURRENT)
    assert stored is not None
    assert stored.info.meta is not None
    new = AgeFilesStore(world.root / "second", (world.root / "age.key").read_text)
    await world.store.close()
    info = await new.put(PATH, stored.material, stored.info.meta, expect_current=None)
    await new.close()
    assert info.version == stored.info.version, "each place counts for itself"
    return new, info.version


def point_over(world: World) -> None:
    file = world.root / "keyturn.yaml"
    data = json.loads(file.read_text())
    data["stores"]["second"] = {"kind": "age_files", "path": "second", "key": {"file": "age.key"}}
    data["credentials"][CREDENTIAL]["store"] = "second"
    file.write_text(json.dumps(data))


def told(world: World, mark: str, version: str) -> Any:
    at = f"{place_mark('second', PATH)}.{version}"
    notice = world.notice(mark, "move1", NoticeKind.MOVED).model_copy(update={"version": at})
    world.box.put(notice)
    return notice


async def test_a_bot_confirms_a_move_from_the_new_place_and_not_before(world: World) -> None:
    mark = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    _, version = await move(world)
    notice = told(world, mark, version)
    await asyncio.to_thread(exchange.fetch_balance)
    await asyncio.sleep(0.8)
    assert world.box.ack(notice.subject) is None, "its inventory names the old place still"
    point_over(world)
    await until(lambda: attachment._holder.source.place == place_mark("second", PATH))
    await asyncio.to_thread(exchange.fetch_balance)
    await until(lambda: world.box.ack(notice.subject))
    assert attachment.fingerprint == mark


async def test_a_bot_that_has_moved_follows_rotations_at_the_new_place(world: World) -> None:
    mark = await world.put_first()
    attachment = world.attach(world.exchange("sync"))
    new, version = await move(world)
    point_over(world)
    told(world, mark, version)
    await until(lambda: attachment._holder.source.place == place_mark("second", PATH))
    world.store = new
    other = await world.rotate()
    await until(lambda: attachment.fingerprint == other)


@pytest.mark.parametrize("broken", ["{", json.dumps({"version": 1})])
async def test_an_inventory_that_cannot_be_read_leaves_the_bot_where_it_is(world: World, broken: str) -> None:
    mark = await world.put_first()
    attachment = world.attach(world.exchange("sync"))
    _, version = await move(world)
    (world.root / "keyturn.yaml").write_text(broken)
    told(world, mark, version)
    await asyncio.sleep(0.8)
    assert attachment.watching
    assert attachment.fingerprint == mark
    other = await world.rotate()
    await until(lambda: attachment.fingerprint == other)


async def test_a_bot_that_was_given_its_source_stays_there(world: World) -> None:
    import keyturn.client

    mark = await world.put_first()
    attachment = keyturn.client.attach(
        world.exchange("sync"),
        CREDENTIAL,
        consumer="mm-bot",
        source=StoreSource(world.store, PATH),
        mailbox=world.root / "mailbox",
    )
    world.attached.append(attachment)
    _, version = await move(world)
    point_over(world)
    notice = told(world, mark, version)
    await asyncio.sleep(0.8)
    assert world.box.ack(notice.subject) is None
