"""A bot that forks: no lock of the parent's threads is left behind, and the key is followed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import keyturn.client
from keyturn.client import peers
from keyturn.client.settings import StoreSource

from .conftest import CREDENTIAL, PATH, until


async def in_a_fork(do: Callable[[], bool]) -> int:
    """Run something in a forked process; give 0 if it was true, 1 if not, -14 if it hung."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        good = False
        try:
            good = do()
        finally:
            os._exit(0 if good else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


class Slow(StoreSource):
    """A store that is being read nearly all the time."""

    def signature(self):
        return time.monotonic()

    def read(self, slot):
        time.sleep(0.3)
        return self.store.read_sync(self.path, slot)


async def test_a_process_forked_while_the_store_is_read_is_not_stuck(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    attachment = keyturn.client.attach(
        exchange, CREDENTIAL, source=Slow(world.store, PATH), verify_with=None, interval=0.01
    )
    world.attached.append(attachment)

    def call():
        return bool(exchange.private_get_v5_account_wallet_balance())

    await until(attachment._holder._refreshing.locked)
    new = await world.rotate()
    await until(attachment._holder._refreshing.locked)
    world.revoke(old)
    with attachment._link._lock, peers._lock, attachment._watcher._wake._cond:
        # As if other threads held them; in the new process nobody would let go.
        assert await in_a_fork(lambda: call() and exchange.apiKey == world.keys[new].key_ref) == 0


async def test_a_forked_process_follows_the_key_and_the_parent_alone_confirms(world):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    parents = attachment._holder.source

    def follow():
        exchange.private_get_v5_account_wallet_balance()
        before = exchange.apiKey
        while exchange.apiKey == before:
            time.sleep(0.01)
        exchange.private_get_v5_account_wallet_balance()
        time.sleep(0.6)
        return attachment.watching and attachment._holder.source is not parents

    child = asyncio.create_task(in_a_fork(follow))
    await until(lambda: world.sim.calls(match="wallet-balance"))
    new = await world.rotate()
    world.notice(new)
    assert await child == 0
    assert world.calls_by(new).signed == 1
    assert world.box.ack("rotation1-promoted") is None
    await asyncio.to_thread(exchange.private_get_v5_account_wallet_balance)
    await until(lambda: world.box.ack("rotation1-promoted"))


async def test_a_forked_process_that_makes_no_call_watches_nothing_and_detaches(world):
    await world.put_first()
    attachment = world.attach(world.exchange("sync"))

    def rest():
        idle = not attachment.watching
        attachment.detach()
        return idle and not attachment.watching

    assert await in_a_fork(rest) == 0
    assert attachment.watching
