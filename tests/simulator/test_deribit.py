from __future__ import annotations

import hashlib
import hmac
import json
import time
from urllib.parse import urlencode

import pytest

from keyturn.simulator import IssuedKey, Nonces, SimDeribit
from keyturn.simulator.deribit_tfa import totp

TOTP_SECRET = "JBSWY3DPEHPK3PXP"  # the example of Deribit's documentation


async def mint(world, **changes) -> IssuedKey:
    params = {"max_scope": "account:read trade:read_write", "name": "kt_1", **changes}
    answer = await world.manager.get("create_api_key", **params)
    assert answer.code == 0, answer
    return IssuedKey(answer.body["result"]["client_id"], answer.body["result"]["client_secret"])


def number_of(world, key: IssuedKey) -> int:
    return world.sim.key_in_books(key.key_ref).number


async def test_a_rightly_signed_call_is_answered(deribit):
    answer = await deribit.manager.get("get_account_summaries")
    assert (answer.status, answer.code) == (200, 0)
    assert answer.body["jsonrpc"] == "2.0"
    assert answer.body["usDiff"] == answer.body["usOut"] - answer.body["usIn"]
    assert answer.body["result"]["id"] == 1001


async def test_a_json_rpc_call_is_answered_with_its_id(deribit):
    answer = await deribit.manager.rpc("create_api_key", max_scope="trade:read", name="kt_rpc")
    assert (answer.code, answer.body["id"]) == (0, 7)
    assert deribit.sim.truth()["main"][-1].label == "kt_rpc"
    assert (await deribit.calls(deribit.master, tamper_body=b" ").rpc("list_api_keys")).code == 13009


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"key": IssuedKey("nobody12", "not-a-real-secret-1")}, 400, 13004),
        ({"skew_ms": -61_000}, 401, 13009),
        ({"skew_ms": 61_000}, 401, 13009),
        ({"tamper_query": "?count=1"}, 401, 13009),
        ({"drop": frozenset({"Authorization"})}, 401, 13009),
        ({"headers": {"Authorization": "deri-hmac-sha256 id=x,ts=y"}}, 401, 13009),
    ],
)
async def test_a_call_that_is_not_rightly_signed_is_refused(deribit, changes, status, code):
    answer = await deribit.calls(deribit.master, **changes).get("list_api_keys")
    assert (answer.status, answer.code) == (status, code)
    assert "data" not in answer.body["error"]


async def test_a_wrong_secret_is_refused(deribit):
    wrong = IssuedKey(deribit.master.key_ref, "not-a-real-secret-1")
    assert (await deribit.calls(wrong).get("list_api_keys")).code == 13009


async def test_a_replayed_change_is_refused(deribit):
    caller = deribit.manager
    target = "/api/v2/private/create_api_key?max_scope=trade:read"
    headers = caller._headers("GET", target, "")
    assert (await caller.send("GET", target, "", headers)).code == 0
    assert (await caller.send("GET", target, "", headers)).code == 13009
    assert len(deribit.sim.truth()["main"]) == 2


async def test_a_replayed_change_happens_twice_when_nonces_are_ignored(deribit):
    async with SimDeribit(nonces=Nonces.IGNORED) as sim:
        sim.add_account("main")
        key = sim.add_key("main", ["account:read_write"])
        caller = deribit.calls(key, base_url=sim.base_url)
        target = "/api/v2/private/create_api_key?max_scope=trade:read"
        headers = caller._headers("GET", target, "")
        assert (await caller.send("GET", target, "", headers)).code == 0
        assert (await caller.send("GET", target, "", headers)).code == 0
        assert len(sim.truth()["main"]) == 3


async def test_a_nonce_works_once_when_nonces_are_strict(deribit):
    async with SimDeribit(nonces=Nonces.STRICT) as sim:
        sim.add_account("main")
        key = sim.add_key("main", ["account:read"])
        caller = deribit.calls(key, base_url=sim.base_url, nonce="once")
        assert (await caller.get("list_api_keys")).code == 0
        assert (await caller.get("get_access_log")).code == 13009


async def test_a_server_clock_that_is_off_refuses_and_tells_its_time(deribit):
    deribit.sim.clock_offset_s = -90
    assert (await deribit.manager.get("list_api_keys")).code == 13009
    caller = deribit.manager
    told = await caller.send("GET", "/api/v2/public/get_time", "", {})
    assert abs(told.body["result"] - caller.now() + 90_000) < 2000


async def test_unknown_methods_are_not_found(deribit):
    assert (await deribit.manager.get("nothing")).code == -32601
    assert (await deribit.manager.send("POST", "/api/v2", "{", {})).code == -32700


async def test_a_minted_key_has_the_scopes_asked_for_and_no_address_list(deribit):
    params = {"max_scope": "trade:read_write account:read", "name": "kt_1", "ip_whitelist": '["127.0.0.1"]'}
    answer = await deribit.manager.get("create_api_key", **params)
    made = answer.body["result"]
    assert made["max_scope"] == "account:read block_trade:none trade:read_write wallet:none"
    assert made["ip_whitelist"] == []
    assert len(made["client_secret"]) == 43
    assert (made["enabled"], made["name"]) == (True, "kt_1")
    key = deribit.sim.truth()["main"][-1]
    assert (key.permissions, key.ips) == ({"account:read", "trade:read_write"}, ())


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"max_scope": ""}, "max_scope"),
        ({"max_scope": "trade:all"}, "max_scope"),
        ({"max_scope": "money:read"}, "max_scope"),
        ({"max_scope": "trade:read trade:read_write"}, "max_scope"),
        ({"name": "kt-1"}, "name"),
        ({"name": "a_name_of_17_char"}, "name"),
    ],
)
async def test_a_wrong_parameter_mints_nothing(deribit, changes, param):
    params = {"max_scope": "trade:read", "name": "kt_1", **changes}
    answer = await deribit.manager.get("create_api_key", **params)
    assert (answer.status, answer.code) == (400, -32602)
    assert answer.body["error"]["data"]["param"] == param
    assert len(deribit.sim.truth()["main"]) == 1


async def test_a_full_quota_mints_nothing(deribit):
    for _ in range(7):
        await mint(deribit)
    answer = await deribit.manager.get("create_api_key", max_scope="trade:read")
    assert answer.code == 13008
    assert len(deribit.sim.truth()["main"]) == 8


@pytest.mark.parametrize(
    ("scope", "method", "code"),
    [
        ("account:read", "get_account_summaries", 0),
        ("trade:read_write", "get_account_summaries", 13021),
        ("account:read", "list_api_keys", 0),
        ("trade:read", "list_api_keys", 13021),
        ("account:read", "get_access_log", 0),
        ("trade:read_write", "buy", 0),
        ("trade:read", "buy", 13021),
        ("trade:read", "get_open_orders_by_currency", 0),
        ("account:read", "create_api_key", 13403),
        ("account:read", "remove_api_key", 13403),
        ("account:read", "reset_api_key", 13403),
        ("trade:read_write", "edit_api_key", 13403),
    ],
)
async def test_every_method_needs_its_scope(deribit, scope, method, code):
    key = deribit.sim.add_key("main", [scope])
    params = {"instrument_name": "BTC-PERPETUAL", "amount": 10} if method == "buy" else {}
    assert (await deribit.calls(key).get(method, **params)).code == code


async def test_an_address_list_is_set_by_an_edit_and_enforced(deribit):
    minted = await mint(deribit)
    params = {"id": number_of(deribit, minted), "max_scope": "account:read"}
    answer = await deribit.manager.get("edit_api_key", ip_whitelist=json.dumps(["203.0.113.7"]), **params)
    assert answer.body["result"]["ip_whitelist"] == ["203.0.113.7"]
    assert (await deribit.calls(minted).get("get_account_summaries")).code == 13009
    bound = deribit.calls(minted, forwarded_for="203.0.113.7")
    assert (await bound.get("get_account_summaries")).code == 0
    for wrong in ("['203.0.113.7']", '"203.0.113.7"', '["x"]', "[1]"):
        assert (await deribit.manager.get("edit_api_key", ip_whitelist=wrong, **params)).code == -32602
    assert (await deribit.manager.rpc("edit_api_key", ip_whitelist=[], **params)).code == 0
    assert deribit.sim.rules_of(minted.key_ref).ips == ()


async def test_an_edit_must_say_the_scope_and_keeps_the_rest(deribit):
    minted = await mint(deribit)
    number = number_of(deribit, minted)
    assert (await deribit.manager.get("edit_api_key", id=number, name="other")).code == -32602
    answer = await deribit.manager.get("edit_api_key", id=number, max_scope="account:read", enabled="false")
    assert answer.code == 0
    rules = deribit.sim.rules_of(minted.key_ref)
    assert (rules.permissions, rules.label, rules.enabled) == ({"account:read"}, "kt_1", False)


async def test_a_disabled_key_is_refused_until_it_is_enabled(deribit):
    minted = await mint(deribit)
    number = number_of(deribit, minted)
    assert (await deribit.manager.get("disable_api_key", id=number)).code == 0
    assert (await deribit.calls(minted).get("get_account_summaries")).code == 13004
    assert not deribit.sim.is_live(minted.key_ref)
    assert (await deribit.manager.get("enable_api_key", id=number)).code == 0
    assert (await deribit.calls(minted).get("get_account_summaries")).code == 0


async def test_a_reset_gives_the_same_key_another_secret(deribit):
    minted = await mint(deribit)
    answer = await deribit.manager.get("reset_api_key", id=number_of(deribit, minted))
    fresh = IssuedKey(answer.body["result"]["client_id"], answer.body["result"]["client_secret"])
    assert fresh.key_ref == minted.key_ref
    assert fresh.secret != minted.secret
    assert (await deribit.calls(minted).get("get_account_summaries")).code == 13009
    assert (await deribit.calls(fresh).get("get_account_summaries")).code == 0


async def test_a_removed_key_is_refused_at_once(deribit):
    minted = await mint(deribit)
    number = number_of(deribit, minted)
    answer = await deribit.manager.get("remove_api_key", id=number)
    assert answer.body["result"] == "ok"
    assert (await deribit.calls(minted).get("get_account_summaries")).code == 13004
    assert (await deribit.manager.get("remove_api_key", id=number)).code == -32602


async def test_names_and_scopes_have_methods_of_their_own(deribit):
    minted = await mint(deribit)
    number = number_of(deribit, minted)
    assert (await deribit.manager.get("change_api_key_name", id=number, name="kt_2")).code == 0
    scope = await deribit.manager.get("change_scope_in_api_key", id=number, max_scope="wallet:read")
    assert scope.body["result"]["max_scope"] == "account:none block_trade:none trade:none wallet:read"
    assert deribit.sim.rules_of(minted.key_ref).label == "kt_2"


@pytest.mark.parametrize("shown", [False, True])
async def test_a_listing_shows_secrets_as_the_example_does_or_as_the_text_denies(deribit, shown):
    async with SimDeribit(secrets_in_list=shown) as sim:
        sim.add_account("main")
        key = sim.add_key("main", ["account:read"])
        answer = await deribit.calls(key, base_url=sim.base_url).get("list_api_keys")
        (row,) = answer.body["result"]
        assert ("client_secret" in row) is shown


async def test_accounts_see_their_own_keys_alone(deribit):
    deribit.sim.add_account("other")
    other = deribit.sim.add_key("other", ["account:read_write"])
    rows = (await deribit.calls(other).get("list_api_keys")).body["result"]
    assert [row["client_id"] for row in rows] == [other.key_ref]
    assert (await deribit.calls(other).get("remove_api_key", id=2)).code == -32602


async def test_the_access_log_tells_what_was_done_newest_first(deribit):
    minted = await mint(deribit)
    await deribit.manager.get("reset_api_key", id=number_of(deribit, minted))
    await deribit.manager.get("remove_api_key", id=number_of(deribit, minted))
    log = (await deribit.manager.get("get_access_log", count=2)).body["result"]
    assert log["records_total"] == 3
    rows = log["data"]
    assert [(row["log"], row["data"]) for row in rows] == [
        ("removed_api_key", minted.key_ref),
        ("reset_api_key", minted.key_ref),
    ]
    rows = (await deribit.manager.get("get_access_log", offset=2)).body["result"]["data"]
    assert [row["log"] for row in rows] == ["new_api_key"]
    assert (await deribit.manager.get("get_access_log", count=1001)).code == -32602


async def test_a_second_factor_is_demanded_as_if_the_call_had_succeeded(deribit):
    deribit.sim.accounts["main"].totp_secret = TOTP_SECRET
    answer = await deribit.manager.get("create_api_key", max_scope="trade:read")
    assert (answer.status, answer.code) == (200, 0)
    challenge = answer.body["result"]
    assert challenge["security_key_authorization_required"] is True
    assert challenge["security_keys"] == [{"type": "tfa", "name": "tfa"}]
    assert len(deribit.sim.truth()["main"]) == 1

    async def again(**params):
        return await deribit.manager.get(
            "create_api_key", max_scope="trade:read", **{"challenge": challenge["challenge"], **params}
        )

    assert reason(await again()) == "tfa_code_is_required"
    code = totp(TOTP_SECRET, time.time())
    assert reason(await again(authorization_data=code, challenge="stale")) == "challenge_timeout"
    done = await again(authorization_data=code)
    assert done.body["result"]["client_secret"]
    challenge = (await deribit.manager.get("create_api_key", max_scope="trade:read")).body["result"]
    assert reason(await again(authorization_data=code)) == "used_tfa_code"
    challenge = (await deribit.manager.get("create_api_key", max_scope="trade:read")).body["result"]
    assert reason(await again(authorization_data="12345x")) == "tfa_code_not_matched"


def reason(answer) -> str:
    assert (answer.status, answer.code) == (400, 13668)
    return answer.body["error"]["data"]["reason"]


@pytest.mark.parametrize(
    ("method", "demanded"),
    [
        ("list_api_keys", True),
        ("edit_api_key", True),
        ("change_scope_in_api_key", True),
        ("disable_api_key", True),
        ("enable_api_key", False),
        ("change_api_key_name", False),
        ("reset_api_key", False),
        ("remove_api_key", False),
        ("get_access_log", False),
    ],
)
async def test_only_the_documented_methods_demand_a_second_factor(deribit, method, demanded):
    minted = await mint(deribit)
    deribit.sim.accounts["main"].totp_secret = TOTP_SECRET
    params = {"id": number_of(deribit, minted), "max_scope": "trade:read", "name": "kt_2"}
    if method in ("list_api_keys", "get_access_log"):
        params = {}
    result = (await deribit.manager.get(method, **params)).body["result"]
    assert ("security_key_authorization_required" in result) is demanded


def signed(key: IssuedKey, stamp_ms: int) -> dict[str, str]:
    text = f"{stamp_ms}\nabcd\n"
    return {
        "grant_type": "client_signature",
        "client_id": key.key_ref,
        "timestamp": str(stamp_ms),
        "nonce": "abcd",
        "signature": hmac.new(key.secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
    }


async def ask_for_token(world, params: dict[str, str], **changes):
    caller = world.calls(world.master, **changes)
    return await caller.send("GET", f"/api/v2/public/auth?{urlencode(params)}", "", {})


async def test_a_token_tells_the_scope_of_its_key(deribit):
    key = deribit.sim.add_key("main", ["account:read", "trade:read_write"])
    by_secret = {
        "grant_type": "client_credentials",
        "client_id": key.key_ref,
        "client_secret": key.secret,
    }
    for params in (by_secret, signed(key, deribit.manager.now())):
        answer = await ask_for_token(deribit, params)
        scope = set(answer.body["result"]["scope"].split())
        (session,) = scope - {"account:read", "trade:read_write", "mainaccount"}
        assert session.startswith("session:rest-")
    assert deribit.sim.calls_by(key.key_ref).ok == 2


async def test_a_token_is_refused_to_wrong_credentials_old_requests_and_other_addresses(deribit):
    key = deribit.sim.add_key("main", ["account:read"], ips=["203.0.113.7"])
    now = deribit.manager.now()
    here = {"forwarded_for": "203.0.113.7"}
    assert (await ask_for_token(deribit, signed(key, now), **here)).code == 0
    assert (await ask_for_token(deribit, signed(key, now))).code == 13009
    assert (await ask_for_token(deribit, signed(key, now - 61_000), **here)).code == 13009
    wrong = IssuedKey(key.key_ref, "not-a-real-secret-1")
    assert (await ask_for_token(deribit, signed(wrong, now), **here)).code == 13004
    nobody = IssuedKey("nobody12", "not-a-real-secret-1")
    assert (await ask_for_token(deribit, signed(nobody, now), **here)).code == 13004
    by_secret = {"grant_type": "client_credentials", "client_id": key.key_ref, "client_secret": "x"}
    assert (await ask_for_token(deribit, by_secret, **here)).code == 13004
    assert (await ask_for_token(deribit, {**signed(key, now), "timestamp": "x"}, **here)).code == -32602
    assert (await ask_for_token(deribit, {"client_id": key.key_ref}, **here)).code == -32602


def test_codes_are_those_of_rfc_6238():
    # Appendix B: the secret "12345678901234567890", six of the eight digits.
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert [totp(secret, at) for at in (59, 1111111109, 20000000000)] == ["287082", "081804", "353130"]
