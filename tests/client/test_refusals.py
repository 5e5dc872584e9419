"""What a bot tells of calls that the exchange refuses to its new key, though the key works."""

from __future__ import annotations

import asyncio
import json

import ccxt
import pytest

from keyturn.client import holder as holder_module
from keyturn.client.mailbox import MORE_CALLS
from keyturn.domain.errors import ExchangeFault

from .conftest import BALANCE, CONSUMER, until

LINEAR = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "1"}
SUBJECT = "rotation1-promoted"


async def made(exchange, method, *args):
    """Make a call, sync or async."""
    call = getattr(exchange, method)
    return await (asyncio.to_thread(call, *args) if exchange.synchronous else call(*args))


async def order(exchange):
    """Place an order that the key has no right to."""
    with pytest.raises(ccxt.PermissionDenied):
        await made(exchange, "private_post_v5_order_create", LINEAR)


def told(world):
    """Give what the mailbox holds of refused calls."""
    message = world.box.refusals(SUBJECT)
    return [(c.call, c.fault) for c in message.calls] if message else []


@pytest.mark.parametrize("kind", ["sync", "async", "pro"])
async def test_a_call_without_its_right_is_told_by_its_name_also_after_the_acknowledgement(world, kind):
    await world.put_first()
    exchange = world.exchange(kind)
    world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await made(exchange, "private_get_v5_account_wallet_balance")
    await until(lambda: world.box.ack(SUBJECT))
    assert told(world) == []
    await order(exchange)
    await order(exchange)
    await until(lambda: told(world))
    assert told(world) == [("POST v5/order/create", ExchangeFault.MISSING_PERMISSION)]
    text = (world.box.folder / f"refusals-{SUBJECT}.json").read_text()
    key = world.keys[new]
    assert not any(part in text for part in (key.secret, key.key_ref, "BTCUSDT", "linear"))


async def test_a_call_from_an_address_that_the_key_does_not_know_is_told(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    world.rotations, attempt = 0, None
    print_, attempt, _ = await world.stage(ips=("203.0.113.7",))
    current = await world.store.peek("bots/mm-bybit", "current")
    await world.store.promote("bots/mm-bybit", attempt, expect_current=current.version)
    world.notice(print_)
    await until(lambda: exchange.apiKey == world.keys[print_].key_ref)
    with pytest.raises(ccxt.AuthenticationError):
        await made(exchange, "private_get_v5_account_wallet_balance")
    await until(lambda: told(world))
    assert told(world) == [(f"GET {BALANCE}", ExchangeFault.WRONG_IP)]
    assert world.box.ack(SUBJECT) is None


async def test_what_the_old_key_was_refused_is_no_word_on_the_new_one(world):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    await order(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await made(exchange, "private_get_v5_account_wallet_balance")
    await until(lambda: world.box.ack(SUBJECT))
    assert told(world) == []


async def test_a_refusal_of_before_the_notice_is_told_when_it_comes(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    new = await world.rotate()
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await order(exchange)
    world.notice(new)
    await until(lambda: told(world))


async def test_an_error_that_says_nothing_of_rights_is_not_told(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    with pytest.raises(ccxt.BaseError):
        await made(exchange, "private_post_v5_order_create", {"category": "none"})
    await asyncio.sleep(0.6)
    assert told(world) == []


async def test_several_objects_and_a_bot_that_starts_anew_add_to_what_is_told(world):
    await world.put_first()
    one, two = world.exchange("sync"), world.exchange("sync")
    first, _ = world.attach(one), world.attach(two)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: one.apiKey == two.apiKey == world.keys[new].key_ref)
    await order(one)
    await until(lambda: told(world))
    await asyncio.to_thread(first.detach)
    two._keyturn_link.holder.note_refusal(
        two._keyturn_link.holder.current, "GET v5/other", ExchangeFault.WRONG_IP
    )
    await until(lambda: len(told(world)) == 2)
    assert [call for call, _ in told(world)] == ["POST v5/order/create", "GET v5/other"]


async def test_a_bot_that_is_refused_everything_fills_no_disk(world, monkeypatch):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    holder = exchange._keyturn_link.holder
    for number in range(1000):
        call = f"GET v5/{number}/" + "; \x1b" * 80
        holder.note_refusal(holder.current, call[:200], ExchangeFault.MISSING_PERMISSION)
    await until(lambda: len(told(world)) == holder_module.MAX_REFUSALS)
    assert told(world)[-1][0] == MORE_CALLS
    await asyncio.sleep(0.6)
    assert len(told(world)) == holder_module.MAX_REFUSALS
    text = (world.box.folder / f"refusals-{SUBJECT}.json").read_bytes()
    assert len(text) < 16_384
    assert json.loads(json.loads(text)["message"])["consumer"] == CONSUMER
