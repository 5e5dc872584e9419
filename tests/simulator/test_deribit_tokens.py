"""Tokens of the simulated Deribit: what their scope says, and what a call with one may do."""

from __future__ import annotations

import asyncio
import json

import pytest

from keyturn.simulator import IssuedKey

ALL = ["account:read_write", "block_trade:read_write", "custody:read_write", "trade:read_write"]
FEW = ["account:read_write", "block_trade:read", "custody:read", "trade:read_write", "wallet:read"]
# Scopes of tokens that real accounts got, as they were published: the key's rights, its name, the session
# that was asked for (over a WebSocket none is, and the scope says `connection`).
CAPTURED = [
    # ccxt 4.5.90, ccxt/pro/deribit.py, `authenticate`
    (
        (
            "account:read_write block_trade:read_write connection custody:read_write mainaccount name:ccxt"
            " trade:read_write wallet:read_write"
        ),
        [*ALL, "wallet:read_write"],
        "ccxt",
        "connection",
    ),
    # a Scala client's test of its parser, 2021; REST
    (
        (
            "account:read_write block_trade:read_write custody:read_write mainaccount name:scala"
            " session:rest-PRwURohyuaQ= trade:read_write wallet:read_write"
        ),
        [*ALL, "wallet:read_write"],
        "scala",
        "session:rest-PRwURohyuaQ=",
    ),
    # a C++ client's sample, 2022; WebSocket
    (
        (
            "account:read_write block_trade:read connection custody:read mainaccount name:TestFirst"
            " trade:read_write wallet:read"
        ),
        FEW,
        "TestFirst",
        "connection",
    ),
    # a Java client's test, the venue's own API console
    (
        (
            "account:read_write block_trade:read_write custody:read_write mainaccount name:test"
            " session:apiconsole-ssgdmkb9ii trade:read_write wallet:read_write"
        ),
        [*ALL, "wallet:read_write"],
        "test",
        "session:apiconsole-ssgdmkb9ii",
    ),
]


async def rpc(world, method: str, token: str = "", path: str = "/api/v2", **params):
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    headers = {"Authorization": f"bearer {token}"} if token else {}
    return await world.manager.send("POST", path, body, headers)


async def token_of(world, key: IssuedKey, **more) -> dict:
    params = {"grant_type": "client_credentials", "client_id": key.key_ref, "client_secret": key.secret}
    answer = await rpc(world, "public/auth", **params, **more)
    assert answer.code == 0, answer
    return answer.body["result"]


@pytest.mark.parametrize(("scope", "rights", "name", "session"), CAPTURED)
async def test_a_scope_is_as_captured(deribit, scope, rights, name, session):
    key = deribit.sim.add_key("main", rights, label=name)
    assert (await token_of(deribit, key, scope=session))["scope"] == scope


async def test_over_http_a_token_opens_a_session_of_its_own(deribit):
    key = deribit.sim.add_key("main", ["account:read"])
    first, second = [(await token_of(deribit, key))["scope"].split() for _ in range(2)]
    sessions = {word for word in (*first, *second) if word.startswith("session:rest-")}
    assert len(sessions) == 2
    assert {*first, *second} - sessions == {"account:read", "mainaccount"}


async def test_a_call_with_a_token_does_what_its_key_may(deribit):
    key = deribit.sim.add_key("main", ["account:read"], label="hand")
    token = (await token_of(deribit, key))["access_token"]
    assert (await rpc(deribit, "/private/get_account_summaries", token)).code == 0
    assert (await rpc(deribit, "private/create_api_key", token, max_scope="trade:read")).code == 13403
    assert deribit.sim.calls_by(key.key_ref).ok == 2


async def test_a_token_may_do_no_more_than_was_asked_for_and_than_its_key_may_by_now(deribit):
    key = deribit.sim.add_key("main", ["account:read_write", "trade:read_write"])
    narrow = await token_of(deribit, key, scope="account:read wallet:read_write")
    assert "account:read" in narrow["scope"].split()
    assert not {"account:read_write", "trade:read_write", "wallet:read_write"} & {*narrow["scope"].split()}
    token = (await token_of(deribit, key))["access_token"]
    assert (await rpc(deribit, "private/create_api_key", narrow["access_token"])).code == 13403
    await rpc(deribit, "private/edit_api_key", token, id=2, max_scope="account:read_write trade:read")
    buy = {"instrument_name": "BTC-PERPETUAL", "amount": 10}
    assert (await rpc(deribit, "private/buy", token, **buy)).code == 13021


@pytest.mark.parametrize("method", ["disable_api_key", "remove_api_key"])
async def test_a_token_dies_with_its_key(deribit, method):
    key = deribit.sim.add_key("main", ["account:read"])
    given = await token_of(deribit, key)
    assert (await deribit.manager.get(method, id=2)).code == 0
    refused = await rpc(deribit, "private/get_account_summaries", given["access_token"])
    assert (refused.status, refused.code) == (401, 13009)
    assert refused.body["error"]["data"]["reason"] == "invalid_token"
    renewed = await rpc(
        deribit, "public/auth", grant_type="refresh_token", refresh_token=given["refresh_token"]
    )
    assert renewed.code == 13009


async def test_a_token_ends_and_its_successor_stays_in_the_session(deribit):
    key = deribit.sim.add_key("main", ["account:read"])
    old = await token_of(deribit, key, scope="session:mine expires:1")
    await asyncio.sleep(1.05)
    assert (await rpc(deribit, "private/list_api_keys", old["access_token"])).code == 13009
    answer = await rpc(deribit, "public/auth", grant_type="refresh_token", refresh_token=old["refresh_token"])
    assert "session:mine" in answer.body["result"]["scope"].split()
    token = answer.body["result"]["access_token"]
    assert (await rpc(deribit, "private/list_api_keys", token)).code == 0


async def test_a_seventeenth_session_ends_the_oldest(deribit):
    key = deribit.sim.add_key("main", ["account:read"])
    tokens = [(await token_of(deribit, key))["access_token"] for _ in range(17)]
    codes = [(await rpc(deribit, "private/list_api_keys", token)).code for token in tokens]
    assert codes == [13009, *[0] * 16]


async def test_a_token_is_bound_to_the_addresses_of_its_key(deribit):
    key = deribit.sim.add_key("main", ["account:read"])
    token = (await token_of(deribit, key))["access_token"]
    await deribit.manager.get("edit_api_key", id=2, max_scope="account:read", ip_whitelist='["203.0.113.7"]')
    assert (await rpc(deribit, "private/list_api_keys", token)).code == 13009


async def test_nobody_s_token_is_refused(deribit):
    answer = await deribit.manager.send(
        "GET", "/api/v2/private/list_api_keys", "", {"Authorization": "Bearer x"}
    )
    assert (answer.status, answer.code) == (401, 13009)


@pytest.mark.parametrize("path", ["/api/v2", "/api/v2/private/list_api_keys"])
@pytest.mark.parametrize("body", ["{}", '{"jsonrpc": "2.0", "id": 1, "params": {}}', '{"method": 7}'])
async def test_a_body_without_a_method_is_refused(deribit, path, body):
    answer = await deribit.manager.send("POST", path, body, {})
    assert (answer.status, answer.code) == (400, 11050)
