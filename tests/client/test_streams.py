"""Private websocket streams, against a server that speaks Bybit's v5 private protocol."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ccxt
import ccxt.pro
import pytest
from aiohttp import WSMsgType, web

from keyturn.client import streams as streams_module

from .conftest import until


class PrivateStream:
    """Checks logins against the simulator's books; sends order events; cuts the connections of dead keys.

    After https://bybit-exchange.github.io/docs/v5/ws/connect (read 2026-11-21).
    """

    def __init__(self, sim) -> None:
        self.sim, self.logins, self.open, self.refuse = sim, [], {}, False

    async def serve(self, request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        key_ref = None
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                break
            told = json.loads(message.data)
            if told["op"] == "auth":
                key_ref, expires, given = told["args"]
                key = self.sim.key_in_books(key_ref)
                good = (
                    not self.refuse
                    and self.sim.is_live(key_ref)
                    and given
                    == hmac.new(
                        key.secret.value.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256
                    ).hexdigest()
                )
                self.logins.append((key_ref, good))
                refusal = {"ret_msg": "error:USVC1111", "request": {"op": "auth", "args": told["args"]}}
                await ws.send_json(
                    {"success": good, "conn_id": "c", **({"ret_msg": "", "op": "auth"} if good else refusal)}
                )
            elif told["op"] == "subscribe":
                assert key_ref, "subscribed without a login"
                self.open[ws] = key_ref
                await ws.send_json(
                    {"success": True, "ret_msg": "", "op": "subscribe", "req_id": told.get("req_id")}
                )
        self.open.pop(ws, None)
        return ws

    async def order(self, order_id, key_ref=None):
        """Send an order event on the connections (of a key)."""
        row = {
            "category": "spot", "symbol": "BTCUSDT", "orderId": order_id, "side": "Buy", "orderType": "Limit",
            "price": "1", "qty": "1", "orderStatus": "New", "createdTime": "1700000000000",
            "updatedTime": "1700000000000", "cumExecQty": "0", "cumExecValue": "0", "cumExecFee": "0",
        }  # fmt: skip
        for ws, ref in list(self.open.items()):
            if key_ref in {None, ref}:
                await ws.send_json({"topic": "order", "creationTime": 1700000000000, "data": [row]})

    async def cut(self, key_ref):
        for ws, ref in list(self.open.items()):
            if ref == key_ref:
                await ws.close()


@asynccontextmanager
async def serving(world) -> AsyncIterator[PrivateStream]:
    stream = PrivateStream(world.sim)
    app = web.Application()
    app.router.add_get("/v5/private", stream.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stream.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/v5/private"
    yield stream
    # The bot leaves first: a server that stops closes with an error on the other side.
    for exchange in world.opened:
        await exchange.close()
    await runner.cleanup()


@pytest.fixture
async def private(world) -> AsyncIterator[PrivateStream]:
    async with serving(world) as stream:
        yield stream


@pytest.fixture
async def second(world) -> AsyncIterator[PrivateStream]:
    """Stand at another address of the venue, such as the one for orders."""
    async with serving(world) as stream:
        yield stream


def watching(world, stream):
    exchange = world.exchange("pro", options={"enableUnifiedMargin": False, "enableUnifiedAccount": True})
    exchange.urls["api"]["ws"]["private"] = {"contract": stream.url, "usdc": stream.url, "trade": stream.url}
    return exchange


class Watch:
    """A bot's loop over its own orders."""

    def __init__(self, exchange, method="watch_orders"):
        self.seen, self.failed = [], []
        self.task = asyncio.create_task(self._run(getattr(exchange, method)))

    async def _run(self, method):
        while True:
            try:
                self.seen += [order["id"] for order in await method()]
            except asyncio.CancelledError:
                raise
            except Exception as e:
                self.failed.append(e)
                await asyncio.sleep(0.05)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.parametrize("method", ["watch_orders", "watchOrders"])
async def test_the_private_stream_moves_to_the_new_key_and_the_bot_sees_no_error(
    world, private, monkeypatch, method
):
    monkeypatch.setattr(streams_module, "LINGER", 0.5)
    old = await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    bot = Watch(exchange, method)
    await until(lambda: private.open)
    await private.order("before")
    await until(lambda: bot.seen == ["before"])
    new = await world.rotate()
    await until(lambda: world.keys[new].key_ref in private.open.values())
    assert private.logins == [(world.keys[old].key_ref, True), (world.keys[new].key_ref, True)]
    await until(lambda: world.keys[old].key_ref not in private.open.values())
    world.revoke(old)
    await private.order("after")
    await until(lambda: bot.seen == ["before", "after"])
    assert bot.failed == []
    assert attachment.fingerprint == new
    await bot.stop()


async def test_what_the_old_connection_still_delivers_is_not_lost(world, private, monkeypatch):
    monkeypatch.setattr(streams_module, "LINGER", 2)
    old = await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange)
    bot = Watch(exchange)
    await until(lambda: private.open)
    new = await world.rotate()
    await until(lambda: len(private.open) == 2)
    await private.order("on-the-old", world.keys[old].key_ref)
    await asyncio.sleep(0.1)
    await private.order("on-the-new", world.keys[new].key_ref)
    await until(lambda: set(bot.seen) == {"on-the-old", "on-the-new"})
    assert bot.failed == []
    await bot.stop()


async def test_an_old_connection_that_the_venue_cuts_does_not_take_the_new_one_with_it(
    world, private, monkeypatch
):
    monkeypatch.setattr(streams_module, "LINGER", 2)
    old = await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange)
    bot = Watch(exchange)
    await until(lambda: private.open)
    new = await world.rotate()
    await until(lambda: len(private.open) == 2)
    await private.cut(world.keys[old].key_ref)
    await until(lambda: list(private.open.values()) == [world.keys[new].key_ref])
    await private.order("after")
    await until(lambda: bot.seen == ["after"])
    assert (bot.failed, len(private.logins)) == ([], 2)
    await bot.stop()


async def test_the_acknowledgement_waits_for_the_private_stream(world, private):
    await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    await exchange.load_markets()
    bot = Watch(exchange)
    await until(lambda: private.open)
    await bot.stop()
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    bot = Watch(exchange)
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("rotation1-promoted").private_stream == "logged_in"
    await bot.stop()


async def test_a_private_stream_that_is_not_opened_again_is_said_so(world, private, monkeypatch):
    monkeypatch.setattr(streams_module, "PATIENCE", 0.5)
    await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    bot = Watch(exchange)
    await until(lambda: private.open)
    await bot.stop()
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("rotation1-promoted").private_stream == "not_reopened"


async def test_a_new_key_that_the_private_stream_refuses_is_never_acknowledged(world, private, monkeypatch):
    monkeypatch.setattr(streams_module, "PATIENCE", 0.3)
    await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    bot = Watch(exchange)
    await until(lambda: private.open)
    private.refuse = True
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: bot.failed)
    await asyncio.sleep(0.8)
    assert isinstance(bot.failed[0], ccxt.AuthenticationError)
    assert world.box.ack("rotation1-promoted") is None
    await bot.stop()


async def test_cancelling_a_watch_still_cancels_it(world, private):
    await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange)
    task = asyncio.create_task(exchange.watch_orders())
    await until(lambda: private.open)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_swaps_in_a_row_leave_one_connection(world, private, monkeypatch):
    monkeypatch.setattr(streams_module, "LINGER", 0.2)
    await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange, interval=0.02)
    bot = Watch(exchange)
    await until(lambda: private.open)
    for _ in range(5):
        new = await world.rotate()
        await asyncio.sleep(0.1)
    await until(lambda: list(private.open.values()) == [world.keys[new].key_ref])
    await private.order("last")
    await until(lambda: bot.seen == ["last"])
    assert bot.failed == []
    await bot.stop()


async def test_a_login_with_a_dead_key_is_made_again_with_the_fresh_one(world, private):
    old = await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange, interval=60)
    await exchange.load_markets()
    await asyncio.sleep(0.2)
    new = await world.rotate()
    world.revoke(old)
    bot = Watch(exchange)
    await until(lambda: private.open)
    assert private.logins == [(world.keys[old].key_ref, False), (world.keys[new].key_ref, True)]
    assert bot.failed == []
    await bot.stop()


async def test_a_login_refused_with_the_current_key_reaches_the_bot(world, private):
    only = await world.put_first()
    exchange = watching(world, private)
    world.attach(exchange)
    await exchange.load_markets()
    world.revoke(only)
    with pytest.raises(ccxt.AuthenticationError):
        await exchange.watch_orders()
    assert len(private.logins) == 1


async def test_a_login_with_a_key_that_the_bot_set_itself_is_no_proof_of_the_current_one(world, private):
    old = await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    await exchange.load_markets()
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new and exchange.apiKey == world.keys[new].key_ref)
    exchange.apiKey, exchange.secret = world.keys[old].key_ref, world.keys[old].secret
    bot = Watch(exchange)
    await until(lambda: private.open)
    assert private.logins == [(world.keys[old].key_ref, True)]
    world.notice(new)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    await bot.stop()


async def on_two_streams(world, private, second):
    """Give a bot that is logged in at two addresses, and has come to the new key by its calls."""
    await world.put_first()
    exchange = watching(world, private)
    attachment = world.attach(exchange)
    await exchange.load_markets()
    bot = Watch(exchange)
    await until(lambda: private.open)
    await exchange.authenticate(second.url)
    second.refuse = True
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await until(lambda: (world.keys[new].key_ref, True) in private.logins)
    await exchange.private_get_v5_account_wallet_balance()
    return exchange, bot


async def test_a_login_on_one_private_stream_does_not_count_for_another(world, private, second):
    exchange, bot = await on_two_streams(world, private, second)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    second.refuse = False
    await exchange.authenticate(second.url)
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("rotation1-promoted").private_stream == "logged_in"
    await bot.stop()


async def test_a_stream_that_refuses_the_new_key_is_not_outweighed_by_one_that_takes_it(
    world, private, second, monkeypatch
):
    exchange, bot = await on_two_streams(world, private, second)
    for _ in range(2):
        with pytest.raises(ccxt.AuthenticationError):
            await exchange.authenticate(second.url)
        await exchange.authenticate(private.url)
    monkeypatch.setattr(streams_module, "PATIENCE", 0.0)
    await asyncio.sleep(0.8)
    assert world.box.ack("rotation1-promoted") is None
    second.refuse = False
    await exchange.authenticate(second.url)
    await until(lambda: world.box.ack("rotation1-promoted"))
    await bot.stop()


async def test_a_login_by_token_counts_for_the_connection_of_that_token_alone(world):
    """As at venues whose address carries a listen key, one for each kind of market."""
    exchange = ccxt.pro.bybit()

    async def authenticate(kind):
        exchange.options.setdefault(kind, {})["listenKey"] = f"fresh-{kind}"

    async def freshen(*_):
        return False

    exchange.authenticate = authenticate
    streams = streams_module.Streams(exchange, freshen, lambda: "1")
    exchange.__dict__.update(streams.hooks(lambda name: getattr(exchange, name)))
    for kind in ("spot", "linear"):
        exchange.options[kind] = {"listenKey": f"old-{kind}"}
        exchange.client(f"ws://127.0.0.1:9/{kind}/old-{kind}")
    streams.renew(asyncio.get_running_loop())
    assert streams.status() is None
    await exchange.authenticate("spot")
    assert streams.status() is None
    await exchange.authenticate("linear")
    assert streams.status() == "logged_in"
    for task in list(streams._retiring):
        task.cancel()
    await exchange.close()
