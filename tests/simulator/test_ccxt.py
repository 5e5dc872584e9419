"""ccxt reaches the simulated exchanges with its own paths and signatures."""

from __future__ import annotations

import json

import ccxt.async_support as ccxt
import pytest
from ccxt.base.errors import AuthenticationError, ExchangeError, InvalidNonce, NetworkError, PermissionDenied

from keyturn.simulator import Fault, IssuedKey, Nonces, SimDeribit
from keyturn.simulator.proxy import EgressProxy

SPOT = {"Spot": ["SpotTrade"]}


@pytest.fixture
async def connect():
    opened = []

    def make(world, key: IssuedKey, base_url: str = "", **options):
        exchange = getattr(ccxt, world.sim.venue)(
            {
                "apiKey": key.key_ref,
                "secret": key.secret,
                "password": key.passphrase,
                "enableRateLimit": False,
                **options,
            }
        )
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], base_url or world.sim.base_url)
        opened.append(exchange)
        return exchange

    yield make
    for exchange in opened:
        await exchange.close()


async def test_a_bybit_key_lives_and_dies_by_ccxt(bybit, connect):
    manager = connect(bybit, bybit.master)
    made = await manager.privatePostV5UserCreateSubApi(
        {
            "subuid": 2002,
            "note": "kt-1",
            "readOnly": 0,
            "ips": "127.0.0.1",
            "permissions": {"Spot": ["SpotTrade"], "ContractTrade": ["Order", "Position"]},
        }
    )
    minted = IssuedKey(made["result"]["apiKey"], made["result"]["secret"])
    bot = connect(bybit, minted)
    assert (await bot.fetch_balance())["USDT"]["total"] == 1000
    assert await bot.fetch_open_orders("BTC/USDT") == []
    assert (await bot.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000))["id"]
    assert (await bot.create_order("BTC/USDT:USDT", "limit", "buy", 0.01, 50_000))["id"]
    assert await bot.fetch_time() > 0
    seen = await bot.privateGetV5UserQueryApi()
    assert seen["result"]["note"] == "kt-1"
    rows = await manager.privateGetV5UserSubApikeys({"subMemberId": "2002"})
    assert [row["apiKey"] for row in rows["result"]["result"]] == [minted.key_ref]
    await manager.privatePostV5UserUpdateSubApi({"apikey": minted.key_ref, "readOnly": 1, "ips": "127.0.0.1"})
    with pytest.raises(PermissionDenied, match="10005"):
        await bot.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000)
    await manager.privatePostV5UserDeleteSubApi({"apikey": minted.key_ref})
    with pytest.raises(AuthenticationError, match="10003"):
        await bot.fetch_balance()
    await manager.privatePostV5UserUpdateApi({"readOnly": 0})
    await manager.privatePostV5UserDeleteApi()
    with pytest.raises(AuthenticationError, match="10003"):
        await manager.privateGetV5UserQueryApi()


async def test_an_okx_key_lives_and_dies_by_ccxt(okx, connect):
    manager = connect(okx, okx.master)
    made = await manager.privatePostUsersSubaccountApikey(
        {"subAcct": "bot", "label": "kt-1", "passphrase": "Not-a-real-1", "perm": "trade", "ip": "127.0.0.1"}
    )
    (made,) = made["data"]
    minted = IssuedKey(made["apiKey"], made["secretKey"], made["passphrase"])
    bot = connect(okx, minted)
    assert (await bot.fetch_balance())["USDT"]["total"] == 1000
    assert await bot.fetch_open_orders("BTC/USDT") == []
    assert (await bot.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000))["id"]
    assert await bot.fetch_time() > 0
    assert (await bot.privateGetAccountConfig())["data"][0]["uid"] == "2002"
    rows = await manager.privateGetUsersSubaccountApikey({"subAcct": "bot"})
    assert [row["apiKey"] for row in rows["data"]] == [minted.key_ref]
    named = {"subAcct": "bot", "apiKey": minted.key_ref}
    await manager.privatePostUsersSubaccountModifyApikey({**named, "perm": "read_only"})
    with pytest.raises(ExchangeError, match="50120"):
        await bot.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000)
    await manager.privatePostUsersSubaccountModifyApikey({**named, "ip": "203.0.113.7"})
    with pytest.raises(PermissionDenied, match="50110"):
        await bot.fetch_balance()
    await manager.privatePostUsersSubaccountDeleteApikey(named)
    # ccxt 4.5.90 has no class for 50119, so that a dead key is not an AuthenticationError.
    with pytest.raises(ExchangeError, match="50119") as caught:
        await bot.fetch_balance()
    assert not isinstance(caught.value, AuthenticationError)


async def test_a_deribit_key_lives_and_dies_by_ccxt(deribit, connect):
    manager = connect(deribit, deribit.master)
    made = await manager.privateGetCreateApiKey(
        {"max_scope": "account:read trade:read_write", "name": "kt_1"}
    )
    made = made["result"]
    minted = IssuedKey(made["client_id"], made["client_secret"])
    number = made["id"]
    bot = connect(deribit, minted)
    assert (await bot.fetch_balance())["BTC"]["total"] == 1
    assert (await bot.fetch_balance({"code": "BTC"}))["BTC"]["total"] == 1
    assert await bot.fetch_open_orders("BTC/USD:BTC") == []
    assert (await bot.create_order("BTC/USD:BTC", "limit", "buy", 10, 50_000))["id"]
    assert await bot.fetch_time() > 0
    edit = {"id": number, "max_scope": "account:read", "ip_whitelist": json.dumps(["127.0.0.1"])}
    await manager.request("edit_api_key", ["private"], "GET", edit)
    with pytest.raises(PermissionDenied, match="13021"):
        await bot.create_order("BTC/USD:BTC", "limit", "buy", 10, 50_000)
    await manager.privateGetChangeScopeInApiKey({"id": number, "max_scope": "account:read_write"})
    await manager.privateGetChangeApiKeyName({"id": number, "name": "kt_2"})
    await manager.privateGetDisableApiKey({"id": number})
    with pytest.raises(AuthenticationError, match="13004"):
        await bot.fetch_balance()
    await manager.privateGetEnableApiKey({"id": number})
    rows = (await manager.privateGetListApiKeys())["result"]
    assert [row["name"] for row in rows] == ["manager", "kt_2"]
    fresh = (await manager.privateGetResetApiKey({"id": number}))["result"]
    bot.secret = fresh["client_secret"]
    assert (await bot.fetch_balance())["BTC"]["total"] == 1
    await manager.privateGetRemoveApiKey({"id": number})
    with pytest.raises(AuthenticationError, match="13004"):
        await bot.fetch_balance()
    log = (await manager.request("get_access_log", ["private"], "GET", {}))["result"]
    assert log["data"][0]["log"] == "removed_api_key"


@pytest.mark.parametrize(
    ("venue", "error"),
    [("bybit", InvalidNonce), ("okx", InvalidNonce), ("deribit", AuthenticationError)],
)
async def test_ccxt_meets_a_clock_that_is_off(worlds, connect, venue, error):
    world = worlds[venue]
    world.sim.clock_offset_s = 120
    exchange = connect(world, world.master)
    read = {
        "bybit": "privateGetV5UserQueryApi",
        "okx": "privateGetAccountConfig",
        "deribit": "privateGetListApiKeys",
    }[venue]
    with pytest.raises(error):
        await getattr(exchange, read)()


@pytest.mark.parametrize("venue", ["bybit", "okx"])
async def test_ccxt_reports_a_mint_that_was_cut_as_a_network_error(worlds, connect, venue):
    world = worlds[venue]
    exchange = connect(world, world.master)
    world.sim.faults.add(Fault(kind="cut_after", match="POST"))
    mints = {
        "bybit": ("privatePostV5UserCreateSubApi", {"subuid": 2002, "readOnly": 0, "permissions": SPOT}),
        "okx": (
            "privatePostUsersSubaccountApikey",
            {"subAcct": "bot", "label": "kt-1", "passphrase": "Not-a-real-1"},
        ),
    }
    method, parameters = mints[venue]
    with pytest.raises(NetworkError):
        await getattr(exchange, method)(parameters)
    assert len(world.sim.truth()["bot"]) == 1


async def test_a_cut_deribit_mint_is_repeated_by_aiohttp_and_then_looks_like_a_bad_key(deribit, connect):
    manager = connect(deribit, deribit.master)
    deribit.sim.faults.add(Fault(kind="cut_after", match="create_api_key"))
    with pytest.raises(AuthenticationError, match="13009"):
        await manager.privateGetCreateApiKey({"max_scope": "trade:read", "name": "kt_1"})
    assert [key.label for key in deribit.sim.truth()["main"]] == ["manager", "kt_1"]
    assert [call.code for call in deribit.sim.calls(match="create_api_key")] == ["", "13009"]


async def test_a_cut_deribit_mint_is_repeated_by_aiohttp_and_mints_twice_if_nonces_are_ignored(
    deribit, connect
):
    async with SimDeribit(nonces=Nonces.IGNORED) as sim:
        sim.add_account("main")
        manager = connect(deribit, sim.add_key("main", ["account:read_write"]), base_url=sim.base_url)
        sim.faults.add(Fault(kind="cut_after", match="create_api_key"))
        await manager.privateGetCreateApiKey({"max_scope": "trade:read", "name": "kt_1"})
        assert [key.label for key in sim.truth()["main"]] == ["", "kt_1", "kt_1"]


async def test_without_aiohttps_own_repetition_a_cut_deribit_mint_is_a_network_error(deribit, connect):
    manager = connect(deribit, deribit.master)
    await manager.privateGetListApiKeys()
    manager.session._retry_connection = False
    deribit.sim.faults.add(Fault(kind="cut_after", match="create_api_key"))
    with pytest.raises(NetworkError):
        await manager.privateGetCreateApiKey({"max_scope": "trade:read", "name": "kt_1"})
    assert [key.label for key in deribit.sim.truth()["main"]] == ["manager", "kt_1"]


async def test_a_bot_behind_an_egress_proxy_calls_from_its_address(bybit, connect):
    key = bybit.sim.add_key("bot", ["Spot.SpotTrade"], ips=["203.0.113.7"])
    async with EgressProxy(forwarded_for="203.0.113.7") as proxy:
        bot = connect(bybit, key)
        with pytest.raises(PermissionDenied, match="10010"):
            await bot.privateGetV5UserQueryApi()
        bot.http_proxy = proxy.url
        assert (await bot.fetch_balance())["USDT"]["total"] == 1000
        assert (await bot.create_order("BTC/USDT", "limit", "buy", 0.01, 50_000))["id"]
        assert proxy.calls > 2
