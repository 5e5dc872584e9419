from __future__ import annotations

import json

import aiohttp
import pytest

from keyturn.simulator import Fault

QUERY = "/v5/user/query-api"
CREATE = "/v5/user/create-sub-api"


async def ask(world, method: str, path: str, body: object = None):
    async with world.http.request(method, world.sim.base_url + path, json=body) as response:
        return response.status, json.loads(await response.read())


async def test_calls_are_counted_by_key_and_outcome(bybit):
    bot = bybit.sim.add_key("bot", ["Spot.SpotTrade"])
    caller = bybit.calls(bot)
    await caller.get(QUERY)
    await caller.post("/v5/order/create", category="linear")
    await caller.post("/v5/order/create", category="nonsense")
    bybit.sim.faults.add(Fault(kind="cut_after"))
    with pytest.raises(aiohttp.ClientError):
        await caller.get(QUERY)
    totals = bybit.sim.calls_by(bot.key_ref)
    assert (totals.signed, totals.ok, totals.refused, totals.failed, totals.lost) == (4, 1, 1, 1, 1)
    assert totals.last_at >= totals.last_ok_at > 0
    assert bybit.sim.calls_by("nobody").signed == 0
    assert [call.code for call in bybit.sim.calls(key_ref=bot.key_ref)] == ["0", "10005", "10001", ""]


async def test_calls_without_a_signature_belong_to_nobody(bybit):
    await bybit.manager.send("GET", "/v5/market/time", "", {})
    (call,) = bybit.sim.calls(match="market/time")
    assert (call.key_ref, call.outcome) == (None, "ok")


async def test_the_books_are_shown_to_other_processes(bybit):
    bybit.sim.add_key("bot", ["Spot.SpotTrade"], ips=["203.0.113.7"], label="kt-1")
    status, state = await ask(bybit, "GET", "/_sim/state")
    assert status == 200
    assert state["exchange"] == "bybit"
    main, bot = state["accounts"]
    assert (main["name"], main["parent"], bot["parent"]) == ("main", None, "main")
    (key,) = bot["keys"]
    assert (key["label"], key["permissions"], key["ips"]) == ("kt-1", ["Spot.SpotTrade"], ["203.0.113.7"])
    assert key["live"] is True


async def test_other_processes_may_ask_for_calls(bybit):
    await bybit.manager.get(QUERY)
    await bybit.manager.get("/v5/account/info")
    _, calls = await ask(bybit, "GET", "/_sim/calls?match=query-api")
    assert [call["path"] for call in calls] == [QUERY]
    assert calls[0]["key_ref"] == bybit.master.key_ref
    _, later = await ask(bybit, "GET", f"/_sim/calls?after={calls[0]['number']}")
    assert [call["path"] for call in later] == ["/v5/account/info"]
    assert (await ask(bybit, "GET", "/_sim/calls?after=x"))[0] == 400


async def test_other_processes_may_order_and_withdraw_faults(bybit):
    fault = {"kind": "rate_limited", "match": "query-api", "times": 2}
    assert await ask(bybit, "POST", "/_sim/faults", fault) == (200, {"added": 1})
    assert (await bybit.manager.get(QUERY)).code == 10006
    _, pending = await ask(bybit, "GET", "/_sim/faults")
    assert [(fault["kind"], fault["times"]) for fault in pending] == [("rate_limited", 1)]
    assert await ask(bybit, "DELETE", "/_sim/faults") == (200, [])
    assert (await bybit.manager.get(QUERY)).code == 0


@pytest.mark.parametrize(
    "wrong", [{"kind": "flood"}, [{"kind": "hang", "times": 0}], {"kind": "second_factor"}, "hang"]
)
async def test_a_fault_that_makes_no_sense_is_refused(bybit, wrong):
    status, answer = await ask(bybit, "POST", "/_sim/faults", wrong)
    assert status == 400
    assert answer["error"]
    assert bybit.sim.faults.pending() == []


async def test_pages_that_do_not_exist_are_not_found(bybit):
    assert (await ask(bybit, "GET", "/_sim/secrets"))[0] == 404


@pytest.mark.parametrize("venue", ["bybit", "okx", "deribit"])
async def test_no_page_repr_or_record_shows_a_secret(worlds, venue, caplog):
    world = worlds[venue]
    caplog.set_level(0)
    world.sim.accounts["main"].totp_secret = "JBSWY3DPEHPK3PXP"
    if venue == "bybit":
        body = {"subuid": 2002, "readOnly": 0, "permissions": {"Spot": ["SpotTrade"]}}
        minted = (await world.manager.post(CREATE, **body)).body["result"]["secret"]
    elif venue == "okx":
        body = {"subAcct": "bot", "label": "kt-1", "passphrase": "Not-a-real-1"}
        answer = await world.manager.post("/api/v5/users/subaccount/apikey", **body)
        minted = answer.body["data"][0]["secretKey"]
    else:
        await world.manager.get("create_api_key", max_scope="trade:read")
        minted = world.master.secret
    shown = [
        json.dumps((await ask(world, "GET", f"/_sim/{page}"))[1]) for page in ("state", "calls", "faults")
    ]
    shown += [repr(world.master), repr(world.sim.accounts), repr(world.sim.truth()), repr(world.sim.calls())]
    shown += [repr(world.sim.key_in_books(world.master.key_ref)), caplog.text]
    for secret in (minted, world.master.secret, world.master.passphrase, "JBSWY3DPEHPK3PXP", "Not-a-real-1"):
        assert not secret or all(secret not in text for text in shown)
