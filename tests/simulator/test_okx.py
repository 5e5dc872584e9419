from __future__ import annotations

import pytest

from keyturn.simulator import IssuedKey

KEYS = "/api/v5/users/subaccount/apikey"
MODIFY, DELETE = "/api/v5/users/subaccount/modify-apikey", "/api/v5/users/subaccount/delete-apikey"
CONFIG, ORDER = "/api/v5/account/config", "/api/v5/trade/order"
PASSPHRASE = "Not-a-real-1"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def mint(world, **changes) -> IssuedKey:
    body = {"subAcct": "bot", "label": "kt-1", "passphrase": PASSPHRASE, "perm": "read_only,trade", **changes}
    answer = await world.manager.post(KEYS, **body)
    assert answer.code == 0, answer
    (made,) = answer.body["data"]
    return IssuedKey(made["apiKey"], made["secretKey"], made["passphrase"])


async def test_a_rightly_signed_call_is_answered(okx):
    answer = await okx.manager.get(CONFIG)
    assert (answer.status, answer.code) == (200, 0)
    (config,) = answer.body["data"]
    assert (config["uid"], config["mainUid"], config["perm"]) == ("1001", "1001", "read_only,trade")
    assert config["ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": IssuedKey(UNKNOWN, "not-a-real-secret-1", PASSPHRASE)}, 50119),
        ({"key": IssuedKey("short", "not-a-real-secret-1", PASSPHRASE)}, 50111),
        ({"skew_ms": -31_000}, 50102),
        ({"skew_ms": 31_000}, 50102),
        ({"headers": {"OK-ACCESS-TIMESTAMP": "yesterday"}}, 50112),
        ({"headers": {"OK-ACCESS-TIMESTAMP": "2026-11-21T08:00:00"}}, 50112),
        ({"headers": {"OK-ACCESS-PASSPHRASE": "Wrong-one-1"}}, 50105),
        ({"headers": {"OK-ACCESS-SIGN": "AAAA"}}, 50113),
        ({"tamper_query": "&apiKey=x"}, 50113),
        ({"drop": frozenset({"OK-ACCESS-KEY"})}, 50103),
        ({"drop": frozenset({"OK-ACCESS-PASSPHRASE"})}, 50104),
        ({"drop": frozenset({"OK-ACCESS-SIGN"})}, 50106),
        ({"drop": frozenset({"OK-ACCESS-TIMESTAMP"})}, 50107),
        ({"forwarded_for": "203.0.113.9"}, 50110),
    ],
)
async def test_a_call_that_is_not_rightly_signed_is_refused(okx, changes, code):
    answer = await okx.calls(okx.master, **changes).get(KEYS, subAcct="bot")
    assert (answer.status, answer.code) == (401, code)
    assert "data" not in answer.body


async def test_a_wrong_secret_and_a_changed_body_are_refused(okx):
    wrong = IssuedKey(okx.master.key_ref, "not-a-real-secret-1", okx.master.passphrase)
    assert (await okx.calls(wrong).get(CONFIG)).code == 50113
    body = {"subAcct": "bot", "label": "kt-1", "passphrase": PASSPHRASE}
    assert (await okx.calls(okx.master, tamper_body=b" ").post(KEYS, **body)).code == 50113
    assert okx.sim.truth()["bot"] == []


async def test_a_server_clock_that_is_off_refuses_and_tells_its_time(okx):
    okx.sim.clock_offset_s = 60
    assert (await okx.manager.get(CONFIG)).code == 50102
    (told,) = (await okx.manager.get("/api/v5/public/time")).body["data"]
    assert abs(int(told["ts"]) - okx.manager.now() - 60_000) < 2000


async def test_unknown_paths_and_wrong_methods_are_told_apart(okx):
    assert (await okx.manager.get("/api/v5/nothing")).status == 404
    answer = await okx.manager.get(MODIFY)
    assert (answer.status, answer.code) == (405, 50115)


async def test_a_minted_key_is_what_was_asked_for_and_can_read(okx):
    minted = await mint(okx, ip="127.0.0.1,2001:db8::/32")
    (key,) = okx.sim.truth()["bot"]
    assert (key.label, key.permissions) == ("kt-1", {"read_only", "trade"})
    assert key.ips == ("127.0.0.1", "2001:db8::/32")
    (config,) = (await okx.calls(minted).get(CONFIG)).body["data"]
    assert (config["uid"], config["mainUid"], config["type"]) == ("2002", "1001", "1")
    assert (config["label"], config["perm"]) == ("kt-1", "read_only,trade")
    assert okx.sim.accepts(minted.key_ref, minted.secret, PASSPHRASE)
    assert not okx.sim.accepts(minted.key_ref, minted.secret, "Wrong-one-1")


async def test_a_key_is_refused_from_another_address(okx):
    minted = await mint(okx, ip="203.0.113.0/24")
    answer = await okx.calls(minted).get(CONFIG)
    assert answer.code == 50110
    assert "127.0.0.1" in answer.body["msg"]
    assert (await okx.calls(minted, forwarded_for="203.0.113.200").get(CONFIG)).code == 0


@pytest.mark.parametrize(("perm", "code"), [("read_only", 50120), ("trade", 0), ("", 50120)])
async def test_an_order_needs_the_trade_permission(okx, perm, code):
    minted = await mint(okx, perm=perm)
    order = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "market", "sz": "1"}
    assert (await okx.calls(minted).post(ORDER, **order)).code == code
    assert (await okx.calls(minted).get("/api/v5/account/balance")).code == 0


async def test_a_master_key_without_an_address_list_cannot_manage_keys(okx):
    minted = await mint(okx)
    unbound = okx.calls(okx.sim.add_key("main", ["read_only", "trade"]))
    body = {"subAcct": "bot", "label": "kt-2", "passphrase": PASSPHRASE}
    answer = await unbound.post(KEYS, **body)
    assert (answer.status, answer.code) == (403, 50035)
    assert (await unbound.post(MODIFY, subAcct="bot", apiKey=minted.key_ref, ip="")).code == 50035
    assert (await unbound.post(DELETE, subAcct="bot", apiKey=minted.key_ref)).code == 50035
    assert len(okx.sim.truth()["bot"]) == 1


async def test_a_master_key_without_trade_can_list_but_not_manage(okx):
    reader = okx.calls(okx.sim.add_key("main", ["read_only"], ips=["127.0.0.1"]))
    body = {"subAcct": "bot", "label": "kt-2", "passphrase": PASSPHRASE}
    assert (await reader.post(KEYS, **body)).code == 50120
    assert (await reader.get(KEYS, subAcct="bot")).code == 0


async def test_a_sub_key_can_neither_manage_nor_list(okx):
    sub = okx.calls(okx.sim.add_key("bot", ["read_only", "trade"], ips=["127.0.0.1"]))
    body = {"subAcct": "bot", "label": "kt-2", "passphrase": PASSPHRASE}
    assert (await sub.post(KEYS, **body)).code == 59500
    assert (await sub.get(KEYS, subAcct="bot")).code == 59500


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"subAcct": "nobody"}, 59510),
        ({"subAcct": "main"}, 59510),
        ({"label": ""}, 50014),
        ({"passphrase": "short-1A"[:7]}, 59505),
        ({"passphrase": "no-digit-HERE"}, 59505),
        ({"passphrase": "NO-LOWER-1"}, 59505),
        ({"passphrase": "no-upper-1"}, 59505),
        ({"passphrase": "NoSpecial1"}, 59505),
        ({"passphrase": "Aa1-" * 9}, 59505),
        ({"perm": "read_only,withdraw"}, 59504),
        ({"perm": "everything"}, 51000),
        ({"ip": "not-an-ip"}, 51000),
        ({"ip": ",".join(f"203.0.113.{n}" for n in range(21))}, 59503),
        ({"perm": ["trade"]}, 51000),
    ],
)
async def test_a_wrong_parameter_mints_nothing(okx, changes, code):
    body = {"subAcct": "bot", "label": "kt-1", "passphrase": PASSPHRASE, **changes}
    assert (await okx.manager.post(KEYS, **body)).code == code
    assert okx.sim.truth()["bot"] == []


async def test_bodies_that_are_not_json_are_told_apart(okx):
    caller = okx.manager
    headers = caller._headers("POST", KEYS, "")
    assert (await caller.send("POST", KEYS, "", headers)).code == 50000
    headers = caller._headers("POST", KEYS, "{")
    assert (await caller.send("POST", KEYS, "{", headers)).code == 50002
    headers = {**caller._headers("POST", KEYS, "{}"), "Content-Type": "text/plain"}
    assert (await caller.send("POST", KEYS, "{}", headers)).code == 50006


async def test_two_keys_of_an_account_cannot_share_a_label(okx):
    await mint(okx)
    body = {"subAcct": "bot", "label": "kt-1", "passphrase": PASSPHRASE}
    assert (await okx.manager.post(KEYS, **body)).code == 59502


async def test_a_full_quota_mints_nothing(okx):
    okx.sim.accounts["bot"].key_limit = 1
    await mint(okx)
    body = {"subAcct": "bot", "label": "kt-2", "passphrase": PASSPHRASE}
    assert (await okx.manager.post(KEYS, **body)).code == 59501


async def test_a_listing_shows_no_secret(okx):
    minted = await mint(okx, ip="127.0.0.1")
    (row,) = (await okx.manager.get(KEYS, subAcct="bot")).body["data"]
    assert row["apiKey"] == minted.key_ref
    assert sorted(row) == ["apiKey", "ip", "label", "perm", "ts"]
    assert (await okx.manager.get(KEYS, subAcct="bot", apiKey=minted.key_ref)).body["data"] == [row]
    assert (await okx.manager.get(KEYS, subAcct="bot", apiKey=UNKNOWN)).code == 59506


async def test_an_edit_changes_only_what_it_names(okx):
    minted = await mint(okx, ip="127.0.0.1")
    answer = await okx.manager.post(MODIFY, subAcct="bot", apiKey=minted.key_ref, perm="read_only")
    assert answer.body["data"][0]["ip"] == "127.0.0.1"
    rules = okx.sim.rules_of(minted.key_ref)
    assert (rules.permissions, rules.ips, rules.label) == ({"read_only"}, ("127.0.0.1",), "kt-1")
    await okx.manager.post(MODIFY, subAcct="bot", apiKey=minted.key_ref, ip="", label="kt-9")
    rules = okx.sim.rules_of(minted.key_ref)
    assert (rules.permissions, rules.ips, rules.label) == ({"read_only"}, (), "kt-9")
    assert okx.sim.accepts(minted.key_ref, minted.secret, PASSPHRASE)


async def test_a_deleted_key_is_refused_at_once(okx):
    minted = await mint(okx)
    assert (await okx.manager.post(DELETE, subAcct="bot", apiKey=minted.key_ref)).code == 0
    answer = await okx.calls(minted).get(CONFIG)
    assert (answer.status, answer.code) == (401, 50119)
    assert (await okx.manager.post(DELETE, subAcct="bot", apiKey=minted.key_ref)).code == 59506
