from __future__ import annotations

import pytest

from keyturn.simulator import IssuedKey, KeyRules, SimBybit

QUERY, SUBS = "/v5/user/query-api", "/v5/user/sub-apikeys"
CREATE, UPDATE = "/v5/user/create-sub-api", "/v5/user/update-sub-api"
DELETE = "/v5/user/delete-sub-api"
TRADE = {"Spot": ["SpotTrade"]}


async def mint(world, **changes) -> IssuedKey:
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE, "note": "kt-1", **changes}
    answer = await world.manager.post(CREATE, **body)
    assert answer.code == 0, answer
    return IssuedKey(answer.body["result"]["apiKey"], answer.body["result"]["secret"])


async def test_a_rightly_signed_call_is_answered(bybit):
    answer = await bybit.manager.get(QUERY)
    assert (answer.status, answer.code) == (200, 0)
    assert answer.body["result"]["isMaster"] is True
    assert answer.body["result"]["userID"] == 1001
    assert answer.body["result"]["secret"] == ""


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"key": IssuedKey("nobody", "not-a-real-secret-1")}, 401, 10003),
        ({"skew_ms": -6000}, 200, 10002),
        ({"skew_ms": 1500}, 200, 10002),
        ({"tamper_query": "&limit=1"}, 200, 10004),
        ({"headers": {"X-BAPI-SIGN": "00"}}, 200, 10004),
        ({"headers": {"X-BAPI-RECV-WINDOW": "60000"}}, 200, 10004),
        ({"drop": frozenset({"X-BAPI-SIGN"})}, 401, 10007),
        ({"drop": frozenset({"X-BAPI-API-KEY"})}, 401, 10007),
        ({"drop": frozenset({"X-BAPI-TIMESTAMP"})}, 401, 10007),
        ({"headers": {"X-BAPI-TIMESTAMP": "soon"}}, 200, 10001),
    ],
)
async def test_a_call_that_is_not_rightly_signed_is_refused(bybit, changes, status, code):
    answer = await bybit.calls(bybit.master, **changes).get(SUBS, subMemberId=2002)
    assert (answer.status, answer.code) == (status, code)


async def test_a_wrong_secret_and_a_changed_body_are_refused(bybit):
    wrong = IssuedKey(bybit.master.key_ref, "not-a-real-secret-1")
    assert (await bybit.calls(wrong).get(QUERY)).code == 10004
    changed = bybit.calls(bybit.master, tamper_body=b" ")
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE}
    assert (await changed.post(CREATE, **body)).code == 10004
    assert bybit.sim.truth()["bot"] == []


async def test_a_wider_window_lets_a_late_call_in(bybit):
    caller = bybit.calls(bybit.master, skew_ms=-6000, recv_window=20_000)
    assert (await caller.get(QUERY)).code == 0


async def test_a_server_clock_that_is_off_refuses_and_tells_its_time(bybit):
    bybit.sim.clock_offset_s = 60
    assert (await bybit.manager.get(QUERY)).code == 10002
    told = await bybit.manager.get("/v5/market/time")
    assert abs(int(told.body["result"]["timeSecond"]) - bybit.manager.now() / 1000 - 60) < 2


async def test_an_unknown_path_is_not_found(bybit):
    answer = await bybit.manager.get("/v5/user/nothing")
    assert (answer.status, answer.code) == (404, 10017)


async def test_a_minted_key_is_what_was_asked_for_and_can_read(bybit):
    minted = await mint(bybit, ips="127.0.0.1,203.0.113.0/24")
    (key,) = bybit.sim.truth()["bot"]
    assert (key.key_ref, key.label, key.minted_by_api) == (minted.key_ref, "kt-1", True)
    assert key.permissions == {"Spot.SpotTrade"}
    assert key.ips == ("127.0.0.1", "203.0.113.0/24")
    assert key.expires_ms is None
    seen = (await bybit.calls(minted).get(QUERY)).body["result"]
    assert seen["permissions"]["Spot"] == ["SpotTrade"]
    assert seen["permissions"]["Wallet"] == []
    assert (seen["parentUid"], seen["isMaster"], seen["deadlineDay"]) == ("1001", False, -2)
    assert seen["ips"] == ["127.0.0.1", "203.0.113.0/24"]
    assert bybit.sim.accepts(minted.key_ref, minted.secret)
    assert not bybit.sim.accepts(minted.key_ref, "not-a-real-secret-1")


async def test_a_key_without_an_ip_list_ends_after_90_days(bybit):
    minted = await mint(bybit)
    seen = (await bybit.calls(minted).get(QUERY)).body["result"]
    assert seen["ips"] == ["*"]
    assert seen["deadlineDay"] in (89, 90)
    bybit.sim.expire_key(minted.key_ref)
    assert (await bybit.calls(minted).get(QUERY)).code == 33004
    assert not bybit.sim.is_live(minted.key_ref)


async def test_a_key_is_refused_from_another_address(bybit):
    minted = await mint(bybit, ips="203.0.113.7")
    assert (await bybit.calls(minted).get(QUERY)).code == 10010
    assert (await bybit.calls(minted, forwarded_for="203.0.113.7").get(QUERY)).code == 0
    assert (await bybit.calls(minted, forwarded_for="203.0.113.8").get(QUERY)).code == 10010


async def test_a_forwarded_address_counts_only_where_it_is_trusted(bybit):
    async with SimBybit() as sim:
        sim.add_account("main")
        key = sim.add_key("main", [], ips=["203.0.113.7"])
        caller = bybit.calls(key, base_url=sim.base_url, forwarded_for="203.0.113.7")
        assert (await caller.get(QUERY)).code == 10010


@pytest.mark.parametrize(
    ("category", "permission", "read_only", "allowed"),
    [
        ("spot", "Spot.SpotTrade", False, True),
        ("spot", "Spot.SpotTrade", True, False),
        ("spot", "ContractTrade.Order", False, False),
        ("linear", "ContractTrade.Order", False, True),
        ("linear", "Spot.SpotTrade", False, False),
        ("linear", "Derivatives.DerivativesTrade", False, True),
        ("option", "Options.OptionsTrade", False, True),
        ("option", "Derivatives.DerivativesTrade", False, False),
        ("option", "Wallet.AccountTransfer", False, False),
    ],
)
async def test_an_order_needs_the_permission_of_its_market(bybit, category, permission, read_only, allowed):
    key = bybit.sim.add_key("bot", [permission], read_only=read_only)
    answer = await bybit.calls(key).post("/v5/order/create", category=category, symbol="BTCUSDT")
    assert answer.code == (0 if allowed else 10005)


@pytest.mark.parametrize("permission", ["Spot.SpotTrade", "Earn.Earn"])
async def test_a_master_key_without_transfer_rights_cannot_manage_keys(bybit, permission):
    weak = bybit.calls(bybit.sim.add_key("main", [permission]))
    victim = await mint(bybit)
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE}
    assert (await weak.post(CREATE, **body)).code == 10005
    assert (await weak.post(UPDATE, apikey=victim.key_ref)).code == 10005
    assert (await weak.post(DELETE, apikey=victim.key_ref)).code == 10005
    assert (await weak.get(SUBS, subMemberId=2002)).code == 0
    assert bybit.sim.is_live(victim.key_ref)


async def test_a_unified_account_adds_its_right_to_what_is_made_and_changed_and_says_so(bybit):
    added = "Derivatives.DerivativesTrade"
    bybit.sim.accounts["bot"].adds = frozenset({added})
    minted = await mint(bybit)
    assert bybit.sim.book.count > 0
    [made] = [key for key in bybit.sim.truth()["bot"] if key.key_ref == minted.key_ref]
    assert added in made.permissions
    own = await bybit.calls(minted).get(QUERY)
    assert (own.body["result"]["uta"], own.body["result"]["permissions"]["Derivatives"]) == (
        1,
        ["DerivativesTrade"],
    )
    await bybit.manager.post(UPDATE, apikey=minted.key_ref, readOnly=0, permissions={"Earn": ["Earn"]})
    [changed] = [key for key in bybit.sim.truth()["bot"] if key.key_ref == minted.key_ref]
    assert changed.permissions == {"Earn.Earn", added}


async def test_a_classic_account_adds_nothing_and_says_so(bybit):
    minted = await mint(bybit)
    own = await bybit.calls(minted).get(QUERY)
    assert (own.body["result"]["uta"], own.body["result"]["permissions"]["Derivatives"]) == (0, [])


async def test_a_sub_key_cannot_mint_or_list(bybit):
    sub = bybit.calls(bybit.sim.add_key("bot", ["Wallet.AccountTransfer"]))
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE}
    assert (await sub.post(CREATE, **body)).code == 10005
    assert (await sub.get(SUBS, subMemberId=2002)).code == 10005
    assert (await sub.post("/v5/user/delete-api")).code == 10005


@pytest.mark.parametrize(
    "changes",
    [
        {"subuid": 9999},
        {"subuid": 1001},
        {"permissions": {}},
        {"permissions": {"Spot": []}},
        {"permissions": {"Wallet": ["Withdraw"]}},
        {"permissions": {"Nonsense": ["X"]}},
        {"permissions": "Spot"},
        {"readOnly": 2},
        {"ips": "not-an-ip"},
        {"ips": ["*", "127.0.0.1"]},
        {"ips": [7]},
    ],
)
async def test_a_wrong_parameter_mints_nothing(bybit, changes):
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE, **changes}
    assert (await bybit.manager.post(CREATE, **body)).code == 10001
    assert bybit.sim.truth()["bot"] == []


async def test_a_full_quota_mints_nothing(bybit):
    bybit.sim.accounts["bot"].key_limit = 1
    await mint(bybit)
    body = {"subuid": 2002, "readOnly": 0, "permissions": TRADE}
    answer = await bybit.manager.post(CREATE, **body)
    assert answer.code == 10001
    assert "upper limit" in answer.body["retMsg"]
    assert len(bybit.sim.truth()["bot"]) == 1


async def test_a_listing_pages_through_all_keys_and_shows_no_secret(bybit):
    made = [await mint(bybit, note=f"kt-{n}") for n in range(23)]
    seen, cursor = [], ""
    while True:
        answer = await bybit.manager.get(SUBS, subMemberId=2002, limit=10, cursor=cursor)
        page = answer.body["result"]
        seen += page["result"]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    assert [row["apiKey"] for row in seen] == [key.key_ref for key in made]
    assert {row["secret"] for row in seen} == {"******"}
    assert seen[0]["readOnly"] is False
    assert seen[0]["status"] == 3
    assert (await bybit.manager.get(SUBS, subMemberId=2002, limit=21)).code == 10001
    assert (await bybit.manager.get(SUBS, subMemberId=1)).code == 10001


@pytest.mark.parametrize(
    ("ips", "bound_to"), [(["*"], ()), (["127.0.0.1", "203.0.113.7"], ("127.0.0.1", "203.0.113.7"))]
)
async def test_addresses_may_come_as_a_list_as_the_documentation_s_example_for_node_js_sends_them(
    bybit, ips, bound_to
):
    minted = await mint(bybit, ips=ips)
    assert bybit.sim.rules_of(minted.key_ref).ips == bound_to
    answer = await bybit.manager.post(UPDATE, apikey=minted.key_ref, readOnly=0, ips=ips)
    assert (answer.code, answer.body["result"]["ips"]) == (0, [*ips])


async def test_an_update_that_omits_read_only_and_ips_opens_the_key(bybit):
    minted = await mint(bybit, readOnly=1, ips="127.0.0.1")
    answer = await bybit.manager.post(UPDATE, apikey=minted.key_ref)
    assert answer.code == 0
    rules = bybit.sim.rules_of(minted.key_ref)
    assert (rules.read_only, rules.ips) == (False, ())
    assert rules.permissions == {"Spot.SpotTrade"}
    assert rules.label == "kt-1"


async def test_an_update_replaces_permissions_and_addresses(bybit):
    minted = await mint(bybit)
    answer = await bybit.manager.post(
        UPDATE, apikey=minted.key_ref, readOnly=1, ips="127.0.0.1", permissions={"Earn": ["Earn"]}
    )
    assert answer.body["result"]["ips"] == ["127.0.0.1"]
    rules = bybit.sim.rules_of(minted.key_ref)
    assert (rules.read_only, rules.ips, rules.permissions) == (True, ("127.0.0.1",), {"Earn.Earn"})
    assert bybit.sim.truth()["bot"][0].expires_ms is None


async def test_a_sub_key_may_change_and_delete_itself_alone(bybit):
    other = await mint(bybit)
    own = bybit.sim.add_key("bot", ["Wallet.AccountTransfer"])
    assert (await bybit.calls(own).post(DELETE, apikey=other.key_ref)).code == 10001
    assert (await bybit.calls(own).post(UPDATE, readOnly=0, ips="127.0.0.1")).code == 0
    assert (await bybit.calls(own).post(DELETE)).code == 0
    assert not bybit.sim.is_live(own.key_ref)
    assert bybit.sim.is_live(other.key_ref)


async def test_a_master_must_name_the_key_and_reaches_only_its_own(bybit):
    bybit.sim.add_account("stranger")
    bybit.sim.add_account("strangers bot", parent="stranger")
    foreign = bybit.sim.add_key("strangers bot", ["Spot.SpotTrade"])
    assert (await bybit.manager.post(DELETE)).code == 10001
    assert (await bybit.manager.post(DELETE, apikey=foreign.key_ref)).code == 10001
    assert bybit.sim.is_live(foreign.key_ref)


async def test_a_deleted_key_is_refused_at_once(bybit):
    minted = await mint(bybit)
    assert (await bybit.calls(minted).get(QUERY)).code == 0
    assert (await bybit.manager.post(DELETE, apikey=minted.key_ref)).code == 0
    assert (await bybit.calls(minted).get(QUERY)).code == 10003
    assert (await bybit.manager.post(DELETE, apikey=minted.key_ref)).code == 10001
    assert bybit.sim.truth()["bot"] == []


async def test_a_master_key_can_change_and_end_itself(bybit):
    answer = await bybit.manager.post(
        "/v5/user/update-api", readOnly=0, permissions={"Wallet": ["AccountTransfer", "Withdraw"]}
    )
    assert answer.code == 0
    assert bybit.sim.rules_of(bybit.master.key_ref).permissions == {
        "Wallet.AccountTransfer",
        "Wallet.Withdraw",
    }
    assert (await bybit.manager.post("/v5/user/delete-api")).code == 0
    assert (await bybit.manager.get(QUERY)).code == 10003


async def test_a_change_by_hand_shows_as_drift(bybit):
    minted = await mint(bybit, ips="127.0.0.1")
    bybit.sim.change_key(minted.key_ref, KeyRules(frozenset({"Earn.Earn"})))
    seen = (await bybit.calls(minted).get(QUERY)).body["result"]
    assert (seen["ips"], seen["permissions"]["Spot"]) == (["*"], [])
    bybit.sim.kill_key(minted.key_ref)
    assert (await bybit.calls(minted).get(QUERY)).code == 10003
