"""Clients that others wrote, against the simulators. Not among the project's own dependencies: to try them,

pip install deribit-wrapper==0.6.4 typed-deribit==0.4.1 pybit==5.17.0
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


@pytest.mark.parametrize("auth_method", ["credentials", "signature"])
async def test_deribit_wrapper_manages_keys(deribit, monkeypatch, auth_method):
    library = pytest.importorskip("deribit_wrapper.account_management", reason="deribit-wrapper is absent")
    client_class = library.AccountManagement
    monkeypatch.setattr(client_class, "api_url", f"{deribit.sim.base_url}/api/v2")
    client = client_class(deribit.master.key_ref, deribit.master.secret, auth_method=auth_method)

    def steps() -> None:
        made = client.create_api_key("account:read trade:read", "theirs")
        assert made["client_secret"]
        assert made["client_id"] in [*client.list_api_keys()["client_id"]]
        assert client.edit_api_key(made["id"], "account:read", "theirs_2")["name"] == "theirs_2"
        assert client.disable_api_key(made["id"])["enabled"] is False
        assert client.enable_api_key(made["id"])["enabled"] is True
        assert client.remove_api_key(made["id"]) == {"result": "ok"}
        client.get_new_token()  # by the refresh token
        assert len(client.list_api_keys()) == 1

    await asyncio.to_thread(steps)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("http_auth", ["token", "hmac"])
async def test_typed_deribit_takes_every_answer(deribit, monkeypatch, http_auth):
    base = pytest.importorskip("typed_deribit.core.base", reason="typed-deribit is absent")
    from typed_deribit import Deribit

    monkeypatch.setattr(base, "resolve_http_base_url", lambda _: f"{deribit.sim.base_url}/api/v2")
    key = deribit.sim.add_key("main", ["account:read_write", "trade:read_write"], label="theirs")
    client: Any = Deribit.new(client_id=key.key_ref, client_secret=key.secret, http_auth=http_auth)
    async with client.rpc_client:
        account, order = client.account, {"instrument_name": "BTC-PERPETUAL", "amount": 10}
        number = (await account.create_api_key(max_scope="account:read trade:read", name="made"))["id"]
        assert len(await account.list_api_keys()) == 3
        await account.edit_api_key(id=number, max_scope="account:read", name="made_2")
        await account.change_scope_in_api_key(id=number, max_scope="account:read")
        await account.change_api_key_name(id=number, name="made_3")
        await account.disable_api_key(id=number)
        await account.enable_api_key(id=number)
        await account.reset_api_key(id=number)
        await account.remove_api_key(id=number)
        await account.get_access_log()
        await account.get_account_summary(currency="BTC", extended=True)
        await account.get_account_summaries()
        await client.trading.get_open_orders_by_currency("BTC")
        await client.trading.get_open_orders_by_instrument("BTC-PERPETUAL")
        await client.trading.buy({**order, "price": 1})
        await client.trading.sell({**order, "type": "market"})
        await client.supporting.get_time()
        await client.market_data.get_instruments(currency="BTC")
        await client.market_data.get_currencies()


async def test_pybit_lives_a_key_s_life(bybit):
    http = pytest.importorskip("pybit.unified_trading", reason="pybit is absent")
    master, account = bybit.master, bybit.sim.accounts["bot"].uid

    def steps() -> None:
        session = http.HTTP(api_key=master.key_ref, api_secret=master.secret)
        session.endpoint = bybit.sim.base_url
        rights = {"Spot": ["SpotTrade"]}
        for ips in ("*", ["*"], ["203.0.113.7"], "203.0.113.7,203.0.113.8"):
            made = session.create_sub_api_key(
                subuid=int(account), readOnly=0, note="theirs", ips=ips, permissions=rights
            )["result"]
            session.modify_sub_api_key(apikey=made["apiKey"], readOnly=1, ips=["*"], permissions=rights)
            rows = session.get_all_sub_api_keys(subMemberId=account)["result"]["result"]
            assert [row["ips"] for row in rows] == [["*"]]
            session.delete_sub_api_key(apikey=made["apiKey"])

    await asyncio.to_thread(steps)
