"""Several exchange objects of one bot: one acknowledgement stands for all of them."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

import keyturn.client
from keyturn.client.settings import StoreSource
from keyturn.domain.slots import Slot

from .conftest import CONSUMER, CREDENTIAL, PATH, until
from .test_streams import Watch, private, watching  # noqa: F401 - a fixture


class Held:
    """A source that goes on giving the first key until it is let go."""

    def __init__(self, world):
        self._inner, self.held = StoreSource(world.store, PATH), True
        self._first = self._inner.read(Slot.CURRENT)

    def signature(self):
        return None if self.held else self._inner.signature()

    def read(self, slot):
        return self._first if self.held else self._inner.read(slot)


def attach_held(world, exchange):
    source = Held(world)
    attachment = keyturn.client.attach(
        exchange,
        CREDENTIAL,
        source=source,
        # Another spelling of the same folder.
        mailbox=world.root / "mailbox" / ".." / "mailbox",
        consumer=CONSUMER,
        verify_with=None,
    )
    return source, attachment


async def turn(world, exchange, attachment):
    """Rotate, and have this exchange prove the new key."""
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    return new


async def test_a_key_is_not_acknowledged_while_another_object_of_the_bot_is_on_the_old_one(world):
    await world.put_first()
    first, second = world.exchange("async"), world.exchange("sync")
    attachment = world.attach(first)
    source, other = attach_held(world, second)
    world.attached.append(other)
    new = await turn(world, first, attachment)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    source.held = False
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert second.apiKey == world.keys[new].key_ref


async def test_a_key_that_the_stream_of_another_object_refuses_is_not_acknowledged(world, private):  # noqa: F811
    await world.put_first()
    pro, rest = watching(world, private), world.exchange("async")
    world.attach(pro)
    attachment = world.attach(rest)
    bot = Watch(pro)
    await until(lambda: private.open)
    private.refuse = True
    await turn(world, rest, attachment)
    await until(lambda: bot.failed)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    private.refuse = False
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("rotation1-promoted").private_stream == "logged_in"
    await bot.stop()


@pytest.mark.parametrize("how", ["detached", "dropped"])
async def test_nobody_waits_for_an_object_that_the_bot_has_no_more(world, how):
    await world.put_first()
    first, second = world.exchange("async"), world.exchange("sync")
    _, other = attach_held(world, second)
    if how == "detached":
        await asyncio.to_thread(other.detach)
    world.opened.remove(second)
    attachment = world.attach(first)
    del second, other
    gc.collect()
    await turn(world, first, attachment)
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert len([t for t in threading.enumerate() if t.name == f"keyturn-{CREDENTIAL}"]) == 1


async def test_an_object_is_watched_for_as_long_as_the_bot_has_it(world):
    await world.put_first()
    exchange = world.exchange("sync")
    keyturn.client.attach(exchange, CREDENTIAL, inventory=world.root / "keyturn.yaml", verify_with=None)
    gc.collect()
    new = await world.rotate()
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await asyncio.to_thread(exchange._keyturn_link.watcher.stop)


async def test_an_object_whose_loop_has_ended_holds_nothing_up(world):
    await world.put_first()
    gone = world.exchange("async")
    world.opened.remove(gone)

    async def day():
        world.attach(gone)
        await gone.private_get_v5_account_wallet_balance()
        await gone.close()

    await asyncio.to_thread(lambda: asyncio.run(day()))
    exchange = world.exchange("async")
    await turn(world, exchange, world.attach(exchange))
    await until(lambda: world.box.ack("rotation1-promoted"))
