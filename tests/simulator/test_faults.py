from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from pydantic import ValidationError

from keyturn.simulator import Fault, IssuedKey, SimBybit, SimOkx, books, core
from keyturn.simulator.faults import FaultPlan

QUERY, SUBS = "/v5/user/query-api", "/v5/user/sub-apikeys"
CREATE, UPDATE = "/v5/user/create-sub-api", "/v5/user/update-sub-api"
DELETE = "/v5/user/delete-sub-api"
BODY = {"subuid": 2002, "readOnly": 0, "permissions": {"Spot": ["SpotTrade"]}}


async def mint(world) -> IssuedKey:
    answer = await world.manager.post(CREATE, **BODY)
    return IssuedKey(answer.body["result"]["apiKey"], answer.body["result"]["secret"])


async def listed(world) -> list[str]:
    answer = await world.manager.get(SUBS, subMemberId=2002)
    return [row["apiKey"] for row in answer.body["result"]["result"]]


async def until(true) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def pass_time(monkeypatch):
    """Move the time by which changes spread; the clock that judges signatures stays with the callers'."""

    def pass_time(sim, seconds) -> None:
        for module in (books, core):
            monkeypatch.setattr(module, "real_ms", lambda: books_ms() + seconds * 1000)
        sim.clock_offset_s = -seconds

    books_ms = books.real_ms
    return pass_time


async def test_latency_delays_the_calls_that_it_matches(bybit):
    bybit.sim.faults.add(Fault(kind="latency", match="query-api", seconds=1.5))
    started = time.monotonic()
    assert (await bybit.manager.get(SUBS, subMemberId=2002)).code == 0
    assert time.monotonic() - started < 1.5
    started = time.monotonic()
    assert (await bybit.manager.get(QUERY)).code == 0
    assert time.monotonic() - started >= 1.5
    started = time.monotonic()
    assert (await bybit.manager.get(QUERY)).code == 0
    assert time.monotonic() - started < 1.5


async def test_delays_run_side_by_side(bybit):
    bybit.sim.faults.add(Fault(kind="latency", seconds=0.2, times=None))
    started = time.monotonic()
    await asyncio.gather(*(bybit.manager.get(QUERY) for _ in range(20)))
    assert time.monotonic() - started < 2.0


async def test_latency_after_the_effect_delays_only_the_answer(bybit):
    bybit.sim.faults.add(Fault(kind="latency", match="create", seconds=0.8, after_effect=True))
    call = asyncio.create_task(bybit.manager.post(CREATE, **BODY))
    await until(lambda: len(bybit.sim.truth()["bot"]) == 1)
    assert not call.done()
    assert (await call).code == 0


@pytest.mark.parametrize(
    ("venue", "code", "status"), [("bybit", 10006, 200), ("okx", 50011, 429), ("deribit", 10028, 429)]
)
async def test_rate_limits_come_in_the_venues_own_words(worlds, venue, code, status):
    world = worlds[venue]
    world.sim.faults.add(Fault(kind="rate_limited", times=2))
    read = {"bybit": QUERY, "okx": "/api/v5/account/config", "deribit": "list_api_keys"}[venue]
    answers = [await world.manager.get(read) for _ in range(3)]
    assert [(a.status, a.code) for a in answers] == [(status, code), (status, code), (200, 0)]


async def test_a_bare_429_has_no_body(bybit):
    bybit.sim.faults.add(Fault(kind="rate_limited", status=429))
    answer = await bybit.manager.get(QUERY)
    assert (answer.status, answer.body) == (429, b"")


@pytest.mark.parametrize(("venue", "code"), [("bybit", 10016), ("okx", 50026), ("deribit", 11094)])
async def test_server_errors_come_from_a_gateway_or_from_the_venue(worlds, venue, code):
    world = worlds[venue]
    world.sim.faults.add(Fault(kind="server_error"), Fault(kind="server_error", status=500))
    read = {"bybit": QUERY, "okx": "/api/v5/account/config", "deribit": "list_api_keys"}[venue]
    gateway, own = await world.manager.get(read), await world.manager.get(read)
    assert gateway.status == 502
    assert gateway.body.startswith(b"<html>")
    assert (own.status, own.code) == (500, code)


async def test_a_server_error_can_hide_that_the_call_was_carried_out(bybit):
    bybit.sim.faults.add(Fault(kind="server_error", match="create", status=504, after_effect=True))
    assert (await bybit.manager.post(CREATE, **BODY)).status == 504
    assert len(bybit.sim.truth()["bot"]) == 1


async def test_a_connection_cut_before_the_effect_changes_nothing(bybit):
    bybit.sim.faults.add(Fault(kind="cut_before", match=f"POST {CREATE}"))
    with pytest.raises(aiohttp.ClientError):
        await bybit.manager.post(CREATE, **BODY)
    assert bybit.sim.truth()["bot"] == []
    (record,) = bybit.sim.calls(match=CREATE)
    assert (record.outcome, record.effect, record.fault) == ("lost", False, "cut_before")


async def test_a_connection_cut_after_the_effect_has_minted(bybit):
    bybit.sim.faults.add(Fault(kind="cut_after", match=f"POST {CREATE}"))
    with pytest.raises(aiohttp.ClientError):
        await bybit.manager.post(CREATE, **BODY)
    (key,) = bybit.sim.truth()["bot"]
    assert await listed(bybit) == [key.key_ref]
    (record,) = bybit.sim.calls(match=CREATE)
    assert (record.outcome, record.effect, record.fault) == ("lost", True, "cut_after")


async def test_a_deletion_cut_after_the_effect_has_deleted(bybit):
    minted = await mint(bybit)
    bybit.sim.faults.add(Fault(kind="cut_after", match=DELETE))
    with pytest.raises(aiohttp.ClientError):
        await bybit.manager.post(DELETE, apikey=minted.key_ref)
    assert (await bybit.calls(minted).get(QUERY)).code == 10003


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_hanging_call_ends_in_the_callers_time_out(bybit, after_effect):
    bybit.sim.faults.add(Fault(kind="hang", match=CREATE, after_effect=after_effect))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bybit.manager.post(CREATE, **BODY), 0.5)
    await until(lambda: len(bybit.sim.truth()["bot"]) == int(after_effect))


async def test_a_hanging_call_does_not_keep_the_server_from_stopping(bybit):
    bybit.sim.faults.add(Fault(kind="hang"))
    call = asyncio.create_task(bybit.manager.get(QUERY))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await bybit.sim.stop()
    assert time.monotonic() - started < 2
    with pytest.raises(aiohttp.ClientError):
        await call


async def test_a_new_key_is_unknown_until_it_has_spread(bybit, pass_time):
    bybit.sim.faults.add(Fault(kind="slow_propagation", match=CREATE, seconds=60))
    minted = await mint(bybit)
    assert await listed(bybit) == [minted.key_ref]
    assert (await bybit.calls(minted).get(QUERY)).code == 10003
    assert not bybit.sim.is_live(minted.key_ref)
    pass_time(bybit.sim, 61)
    assert (await bybit.calls(minted).get(QUERY)).code == 0


async def test_a_deleted_key_works_until_the_deletion_has_spread(bybit, pass_time):
    minted = await mint(bybit)
    bybit.sim.faults.add(Fault(kind="slow_propagation", match=DELETE, seconds=60))
    await bybit.manager.post(DELETE, apikey=minted.key_ref)
    assert await listed(bybit) == []
    assert (await bybit.calls(minted).get(QUERY)).code == 0
    assert bybit.sim.is_live(minted.key_ref)
    pass_time(bybit.sim, 61)
    assert (await bybit.calls(minted).get(QUERY)).code == 10003
    assert not bybit.sim.is_live(minted.key_ref)


async def test_an_edit_is_enforced_only_when_it_has_spread(bybit, pass_time):
    minted = await mint(bybit)
    bybit.sim.faults.add(Fault(kind="slow_propagation", match=UPDATE, seconds=60))
    await bybit.manager.post(UPDATE, apikey=minted.key_ref, ips="203.0.113.7")
    assert bybit.sim.truth()["bot"][0].ips == ("203.0.113.7",)
    assert (await bybit.calls(minted).get(QUERY)).body["result"]["ips"] == ["*"]
    pass_time(bybit.sim, 61)
    assert (await bybit.calls(minted).get(QUERY)).code == 10010


async def test_a_reset_secret_works_only_when_it_has_spread(deribit, pass_time):
    key = deribit.sim.add_key("main", ["account:read"])
    deribit.sim.faults.add(Fault(kind="slow_propagation", match="reset_api_key", seconds=60))
    answer = await deribit.manager.get("reset_api_key", id=2)
    fresh = IssuedKey(key.key_ref, answer.body["result"]["client_secret"])
    assert (await deribit.calls(key).get("list_api_keys")).code == 0
    assert (await deribit.calls(fresh).get("list_api_keys")).code == 13009
    pass_time(deribit.sim, 61)
    assert (await deribit.calls(key).get("list_api_keys")).code == 13009
    assert (await deribit.calls(fresh).get("list_api_keys")).code == 0


async def test_a_stale_listing_answers_as_of_some_seconds_ago(bybit, pass_time):
    old = await mint(bybit)
    pass_time(bybit.sim, 61)
    new = await mint(bybit)
    await bybit.manager.post(DELETE, apikey=old.key_ref)
    bybit.sim.faults.add(Fault(kind="stale_list", match=SUBS, seconds=60))
    assert await listed(bybit) == [old.key_ref]
    assert await listed(bybit) == [new.key_ref]


async def test_a_stale_listing_answers_as_before_the_last_changes(bybit):
    first = await mint(bybit)
    await asyncio.sleep(0.01)
    await bybit.manager.post(UPDATE, apikey=first.key_ref, ips="203.0.113.7")
    await asyncio.sleep(0.01)
    await mint(bybit)
    bybit.sim.faults.add(Fault(kind="stale_list", changes=1), Fault(kind="stale_list", changes=2, skip=1))
    before_second_mint = (await bybit.manager.get(SUBS, subMemberId=2002)).body["result"]["result"]
    assert [row["ips"] for row in before_second_mint] == [["203.0.113.7"]]
    before_edit = (await bybit.manager.get(SUBS, subMemberId=2002)).body["result"]["result"]
    assert [row["ips"] for row in before_edit] == [["*"]]


@pytest.mark.parametrize("venue", ["bybit", "okx", "deribit"])
async def test_a_quota_can_be_full_on_demand(worlds, venue):
    world = worlds[venue]
    world.sim.faults.add(Fault(kind="quota_reached", match="api"))
    before = sum(len(keys) for keys in world.sim.truth().values())
    if venue == "bybit":
        code = (await world.manager.post(CREATE, **BODY)).code
    elif venue == "okx":
        body = {"subAcct": "bot", "label": "kt-1", "passphrase": "Not-a-real-1"}
        code = (await world.manager.post("/api/v5/users/subaccount/apikey", **body)).code
    else:
        code = (await world.manager.get("create_api_key", max_scope="trade:read")).code
    assert code == {"bybit": 10001, "okx": 59501, "deribit": 13008}[venue]
    assert sum(len(keys) for keys in world.sim.truth().values()) == before


async def test_one_call_can_meet_a_clock_that_is_off(okx):
    okx.sim.faults.add(Fault(kind="clock_skew", seconds=60))
    assert (await okx.manager.get("/api/v5/account/config")).code == 50102
    assert (await okx.manager.get("/api/v5/account/config")).code == 0


async def test_a_second_factor_can_be_demanded_of_any_deribit_call(deribit):
    deribit.sim.faults.add(Fault(kind="second_factor", match="remove_api_key"))
    result = (await deribit.manager.get("remove_api_key", id=1)).body["result"]
    assert result["security_key_authorization_required"] is True
    assert deribit.sim.is_live(deribit.master.key_ref)


@pytest.mark.parametrize("venue", [SimBybit, SimOkx])
def test_a_venue_that_has_no_second_factor_refuses_to_pretend(venue):
    with pytest.raises(ValueError, match="second_factor"):
        venue().faults.add(Fault(kind="second_factor"))


async def test_a_fault_can_concern_one_key_alone(bybit):
    other = bybit.sim.add_key("bot", ["Spot.SpotTrade"])
    bybit.sim.faults.add(Fault(kind="rate_limited", key_ref=other.key_ref, times=None))
    assert (await bybit.manager.get(QUERY)).code == 0
    assert (await bybit.calls(other).get(QUERY)).code == 10006


def test_faults_are_counted_and_wait_for_their_turn():
    plan = FaultPlan()
    plan.add(
        Fault(kind="cut_before", match="/a", skip=1, times=2),
        Fault(kind="server_error", match="/a"),
        Fault(kind="latency", seconds=1, times=None),
    )

    def next_call(path: str) -> str | None:
        taken = plan.take(f"GET {path}", None)
        assert taken.delay_before_s == 1
        return taken.decides.kind.value if taken.decides else None

    assert [next_call(path) for path in ("/b", "/a", "/a", "/a", "/a", "/a")] == [
        None,
        "server_error",
        "cut_before",
        "cut_before",
        None,
        None,
    ]
    assert [(fault.kind, fault.times) for fault in plan.pending()] == [("latency", None)]
    plan.clear()
    assert plan.take("GET /a", None).delay_before_s == 0


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "flood"}, {"kind": "hang", "tmes": 1}, {"kind": "cut_before", "after_effect": True}],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)


async def test_documented_rates_are_enforced_on_demand(bybit):
    async with SimBybit(enforce_rate_limits=True) as sim:
        sim.add_account("main")
        sim.add_account("bot", parent="main", uid="2002")
        key = sim.add_key("main", ["Wallet.SubMemberTransfer"])
        caller = bybit.calls(key, base_url=sim.base_url)
        codes = [(await caller.post(CREATE, **BODY)).code for _ in range(2)]
        assert codes == [0, 10006]
        assert len(sim.truth()["bot"]) == 1


async def test_an_exchange_that_was_down_comes_back_at_its_place_with_its_keys(bybit):
    minted = await mint(bybit)
    await bybit.sim.stop()
    with pytest.raises(aiohttp.ClientError):
        await bybit.calls(minted).get(QUERY)
    await bybit.sim.start()
    assert (await bybit.calls(minted).get(QUERY)).code == 0
