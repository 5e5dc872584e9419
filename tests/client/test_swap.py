from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time

import ccxt
import pytest

import keyturn.client
from keyturn.domain.errors import InventoryError, RefusedError, StoreError, StoreFault
from keyturn.simulator import Fault, FaultKind

from .conftest import BALANCE, CONSUMER, CREDENTIAL, PATH, until


class Flaky:
    """A source whose signature is seen while its content is not."""

    def __init__(self, inner):
        self.inner, self.down = inner, False

    def signature(self):
        return self.inner.signature()

    def read(self, slot):
        if self.down:
            raise StoreError(StoreFault.UNAVAILABLE, "the disk is away")
        return self.inner.read(slot)


class Bot:
    """Makes signed calls as fast as it can, in its own thread or task, and counts."""

    def __init__(self, exchange):
        self.exchange, self.made, self.failed, self.stopped = exchange, 0, [], False

    def run_sync(self):
        while not self.stopped:
            try:
                self.exchange.private_get_v5_account_wallet_balance({"accountType": "UNIFIED"})
            except Exception as e:
                self.failed.append(e)
            self.made += 1

    async def run_async(self):
        while not self.stopped:
            try:
                await self.exchange.private_get_v5_account_wallet_balance({"accountType": "UNIFIED"})
            except Exception as e:
                self.failed.append(e)
            self.made += 1


async def turn(world, bot, old):
    """Rotate under the running bot; give back the seconds until its first call with the new key."""
    await until(lambda: bot.made > 20)
    new = await world.rotate()
    begun = time.monotonic()
    await until(lambda: world.calls_by(new).signed > 0)
    took = time.monotonic() - begun
    world.notice(new)
    await until(lambda: world.box.ack(f"rotation{world.rotations}-promoted"))
    world.revoke(old)
    made = bot.made
    await until(lambda: bot.made > made + 20)
    return new, took


@pytest.mark.parametrize("kind", ["sync", "async", "pro"])
async def test_a_bot_loses_no_call_while_its_key_is_swapped_and_the_old_one_dies(world, kind):
    first = await world.put_first()
    bot = Bot(world.exchange(kind))
    attachment = world.attach(bot.exchange)
    running = asyncio.create_task(asyncio.to_thread(bot.run_sync) if kind == "sync" else bot.run_async())
    try:
        for _ in range(3):
            new, took = await turn(world, bot, first)
            assert took < 1
            assert attachment.fingerprint == new
            ack = world.box.ack(f"rotation{world.rotations}-promoted")
            assert (ack.fingerprint, ack.call, ack.private_stream) == (new, f"GET {BALANCE}", "none")
            first = new
    finally:
        bot.stopped = True
        await running
    assert bot.failed == []
    assert bot.made > 60


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_call_refused_for_its_dead_key_is_made_again_with_the_fresh_one(world, kind):
    old = await world.put_first()
    exchange = world.exchange(kind)
    # The watcher sleeps: only the refusal can tell the client to look.
    world.attach(exchange, interval=60)
    await asyncio.sleep(0.2)
    new = await world.rotate()
    world.revoke(old)
    call = exchange.private_get_v5_account_wallet_balance
    answer = await (asyncio.to_thread(call) if kind == "sync" else call())
    assert answer["retCode"] == "0" or answer["retCode"] == 0
    assert world.calls_by(new).signed == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_refusal_of_the_key_that_is_current_reaches_the_bot_after_one_call(world, kind):
    only = await world.put_first()
    exchange = world.exchange(kind)
    world.attach(exchange)
    world.revoke(only)
    call = exchange.private_get_v5_account_wallet_balance
    with pytest.raises(ccxt.AuthenticationError):
        await (asyncio.to_thread(call) if kind == "sync" else call())
    assert world.calls_by(only).signed == 1


async def test_fifty_calls_at_once_that_meet_a_dead_key_all_succeed(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    world.attach(exchange, interval=60)
    await asyncio.sleep(0.2)
    new = await world.rotate()
    world.revoke(old)
    await asyncio.gather(*(exchange.private_get_v5_account_wallet_balance() for _ in range(50)))
    assert world.calls_by(new).signed == 50


async def test_calls_in_flight_keep_the_key_that_signed_them(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    world.attach(exchange)
    world.sim.faults.add(Fault(kind=FaultKind.LATENCY, match=BALANCE, seconds=1.0, times=50))
    flying = [asyncio.create_task(exchange.private_get_v5_account_wallet_balance()) for _ in range(50)]
    await asyncio.sleep(0.3)
    new = await world.rotate()
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await exchange.private_get_v5_account_wallet_balance()
    await asyncio.gather(*flying)
    assert (world.calls_by(old).signed, world.calls_by(new).signed) == (50, 1)


async def test_threads_never_send_a_mixture_of_two_keys(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange, interval=0.005)
    bots = [Bot(exchange) for _ in range(8)]
    running = [asyncio.create_task(asyncio.to_thread(bot.run_sync)) for bot in bots]
    for _ in range(10):
        await world.rotate()
        await asyncio.sleep(0.05)
    for bot in bots:
        bot.stopped = True
    await asyncio.gather(*running)
    assert [e for bot in bots for e in bot.failed] == []


async def test_a_refused_order_is_sent_once_more_and_placed_once(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    world.attach(exchange, interval=60)
    await asyncio.sleep(0.2)
    new = await world.rotate()
    world.revoke(old)
    order = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit"}
    await exchange.private_post_v5_order_create({**order, "qty": "1", "price": "1"})
    placed = world.sim.calls(match="order/create")
    assert [c.key_ref for c in placed] == [world.keys[old].key_ref, world.keys[new].key_ref]


async def test_an_error_of_another_kind_is_never_repeated(world):
    await world.put_first()
    exchange = world.exchange("async")
    world.attach(exchange)
    await world.rotate()
    world.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match="order/create", times=1))
    order = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit"}
    with pytest.raises(ccxt.NetworkError):
        await exchange.private_post_v5_order_create({**order, "qty": "1", "price": "1"})
    assert len(world.sim.calls(match="order/create")) == 1


async def test_a_store_that_cannot_be_read_leaves_the_bot_on_its_key_and_is_said_once(world, caplog):
    old = await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange, interval=0.02)
    caplog.set_level(logging.INFO, "keyturn.client")
    await asyncio.sleep(0.1)
    slots = world.root / "store" / PATH / "slots.json"
    whole = slots.read_bytes()
    slots.write_bytes(whole[:10])
    await asyncio.sleep(0.3)
    await exchange.private_get_v5_account_wallet_balance()
    assert attachment.fingerprint == old
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    slots.write_bytes(whole)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    text = caplog.text
    assert not any(key.secret in text or key.key_ref in text for key in world.keys.values())


async def test_an_unreadable_store_that_heals_without_another_change_is_read_again(world):
    await world.put_first()
    source = Flaky(keyturn_source(world))
    with keyturn.client.attach(
        world.exchange("sync"), CREDENTIAL, source=source, interval=0.02
    ) as attachment:
        await asyncio.sleep(0.1)
        source.down = True
        new = await world.rotate()
        await asyncio.sleep(0.1)
        assert attachment.fingerprint != new
        source.down = False
        await until(lambda: attachment.fingerprint == new)


async def test_a_rolled_back_key_is_taken_back(world):
    from keyturn.domain.slots import Slot

    old = await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    current = await world.store.peek(PATH, Slot.CURRENT)
    await world.store.restore_previous(PATH, expect_current=current.version)
    await until(lambda: attachment.fingerprint == old)
    await exchange.private_get_v5_account_wallet_balance()
    assert world.calls_by(old).signed == 1


async def test_a_key_that_the_bot_sets_while_a_call_is_signed_confirms_nothing(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    signed = exchange.sign

    def sign(*args, **kwargs):
        # What another thread does between the swap and the signature.
        exchange.apiKey, exchange.secret = world.keys[old].key_ref, world.keys[old].secret
        return signed(*args, **kwargs)

    exchange.sign = sign
    attachment = world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    assert world.calls_by(old).signed == 1
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None


async def test_on_swap_is_told_and_its_failure_harms_nothing(world, caplog):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    told = []
    attachment.on_swap(lambda _: 1 / 0)
    attachment.on_swap(told.append)
    new = await world.rotate()
    await until(lambda: told)
    assert told == [new]
    assert "ZeroDivisionError" in caplog.text


async def test_detach_ends_the_thread_and_leaves_the_exchange_as_ccxt_made_it(world):
    await world.put_first()
    exchange = world.exchange("pro")
    before = set(exchange.__dict__)
    with world.attach(exchange) as attachment:
        assert attachment.watching
    assert not attachment.watching
    assert not [t for t in threading.enumerate() if t.name == f"keyturn-{CREDENTIAL}"]
    assert {
        n for n in set(exchange.__dict__) - before if "keyturn" in n or "watch" in n or n == "sign"
    } == set()
    await exchange.private_get_v5_account_wallet_balance()
    attachment.detach()
    world.attach(exchange)


async def test_attaching_twice_is_refused(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    with pytest.raises(RefusedError, match="attached already"):
        world.attach(exchange)


async def test_a_wrong_consumer_or_credential_is_named_with_what_is_declared(world):
    await world.put_first()
    options = {"inventory": world.root / "keyturn.yaml"}
    with pytest.raises(InventoryError) as caught:
        keyturn.client.attach(ccxt.bybit(), CREDENTIAL, consumer="other", **options)
    assert CONSUMER in caught.value.todo
    with pytest.raises(InventoryError) as caught:
        keyturn.client.attach(ccxt.bybit(), "nothing", **options)
    assert CREDENTIAL in caught.value.todo
    with pytest.raises(InventoryError, match="Neither"):
        keyturn.client.attach(ccxt.bybit(), CREDENTIAL)
    with pytest.raises(InventoryError, match="cannot be read"):
        keyturn.client.attach(ccxt.bybit(), CREDENTIAL, inventory=world.root / "no.yaml")
    (world.root / "bad.yaml").write_text("version: 1\nstores: [")
    with pytest.raises(InventoryError, match="not a usable"):
        keyturn.client.attach(ccxt.bybit(), CREDENTIAL, inventory=world.root / "bad.yaml")


async def test_the_only_client_consumer_needs_no_name(world):
    await world.put_first()
    with keyturn.client.attach(
        world.exchange("sync"), CREDENTIAL, inventory=world.root / "keyturn.yaml"
    ) as attachment:
        assert attachment.watching


async def test_a_bot_does_not_start_without_a_key_or_a_readable_store(world):
    with pytest.raises(RefusedError) as caught:
        world.attach(world.exchange("sync"))
    assert "keyturn rotate mm-bybit" in caught.value.todo
    await world.put_first()
    (world.root / "age.key").unlink()
    with pytest.raises(StoreError):
        world.attach(world.exchange("sync"))
    with pytest.raises(RefusedError, match="not a ccxt exchange"):
        keyturn.client.attach(object(), CREDENTIAL, source=keyturn_source(world))


def keyturn_source(world):
    from keyturn.client.settings import StoreSource

    return StoreSource(world.store, PATH)


async def test_current_gives_the_material_to_a_bot_without_ccxt(world):
    print_ = await world.put_first()
    material = keyturn.client.current(CREDENTIAL, inventory=world.root / "keyturn.yaml")
    assert material.reveal()["api_key"] == world.keys[print_].key_ref
    assert keyturn.client.current(CREDENTIAL, source=keyturn_source(world)) == material


async def test_a_programmatic_source_needs_no_inventory(world):
    print_ = await world.put_first()
    exchange = world.exchange("async")
    with keyturn.client.attach(
        exchange, CREDENTIAL, source=keyturn_source(world), mailbox=world.root / "mailbox", consumer=CONSUMER
    ):
        await exchange.private_get_v5_account_wallet_balance()
        world.notice(print_, "rotation9")
        await until(lambda: world.box.ack("rotation9-promoted"))


def test_a_bot_imports_neither_prefect_nor_sqlalchemy_nor_ccxt(tmp_path):
    code = (
        "import json, sys;"
        "import keyturn.client, keyturn.client.settings, keyturn.client.trial, keyturn.client.webhook;"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(out.stdout))
    assert not loaded & {"prefect", "sqlalchemy", "ccxt", "flows", "tasks", "aiohttp", "alembic", "fastapi"}
