"""Whatever answers in a venue's place ends in a fault of the closed set, and never in a wrong success."""

from __future__ import annotations

import asyncio
import json as jsons
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeySpec, Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller, ExchangeDriver, KeyHandle
from tests.hostile import ODD, Reply, answering, json, page

VENUES = [*catalog.manifests()]
MANAGER = Caller(SecretMaterial("not-a-real-key", "not-a-real-secret", "not-a-real-pass"))
REF = "someones-key-ref"

Ask = Callable[[ExchangeDriver], Awaitable[object]]


def _sub(driver: ExchangeDriver) -> str | None:
    return None if driver.manifest.subaccount == "none" else "12345678"


def _spec(driver: ExchangeDriver) -> KeySpec:
    label = driver.manifest.label.separator.join(("kt", "0123456789", "1"))
    return KeySpec(label, frozenset({Permission.READ}), frozenset(), _sub(driver))


CHANGES: Mapping[str, Ask] = {
    "create_key": lambda d: d.create_key(MANAGER, _spec(d)),
    "edit_key": lambda d: d.edit_key(MANAGER, KeyHandle(REF, "7", _sub(d)), _spec(d)),
    "revoke_key": lambda d: d.revoke_key(MANAGER, KeyHandle(REF, "7", _sub(d))),
}
READS: Mapping[str, Ask] = {
    "introspect": lambda d: d.introspect(MANAGER),
    "private_read": lambda d: d.private_read(MANAGER),
    "list_keys": lambda d: d.list_keys(MANAGER, _sub(d)),
    "server_time": lambda d: d.server_time(),
}
ENDPOINTS = {**CHANGES, **READS}

# Grants of each venue as its documentation shows them, by a part of the call's path.
GRANTS: Mapping[str, Mapping[str, Any]] = {
    "bybit": {
        "create-sub-api": {
            "retCode": 0,
            "result": {"id": "1", "apiKey": "newly-made-key", "secret": "Ab1c" * 9},
        },
        "update-sub-api": {"retCode": 0, "result": {}},
        "delete-sub-api": {"retCode": 0, "result": {}},
        "query-api": {
            "retCode": 0,
            "result": {
                "note": "n",
                "readOnly": 0,
                "permissions": {"Spot": ["SpotTrade"], "Wallet": []},
                "ips": ["127.0.0.1"],
                "userID": 24617703,
                "parentUid": "0",
                "createdAt": "2026-05-16T03:17:48Z",
                "expiredAt": "2026-08-23T03:17:48Z",
                "status": 1,
            },
        },
        "sub-apikeys": {
            "retCode": 0,
            "result": {
                "result": [
                    {
                        "apiKey": "newly-made-key",
                        "note": "n",
                        "readOnly": False,
                        "permissions": {"Spot": ["SpotTrade"]},
                        "ips": ["*"],
                        "createdAt": "2026-05-16T03:17:48Z",
                        "expiredAt": "1970-01-01T00:00:00Z",
                        "status": 3,
                    }
                ],
                "nextPageCursor": "",
            },
        },
        "wallet-balance": {"retCode": 0, "result": {"list": []}},
        "market/time": {
            "retCode": 0,
            "result": {"timeSecond": "1688639403", "timeNano": "1688639403423213947"},
        },
    },
    "okx": {
        "POST users/subaccount/apikey": {
            "code": "0",
            "data": [{"apiKey": "newly-made-key", "secretKey": "Ab1c" * 9, "perm": "read_only", "ip": ""}],
        },
        "modify-apikey": {"code": "0", "data": [{"apiKey": "newly-made-key"}]},
        "delete-apikey": {"code": "0", "data": [{"subAcct": "12345678"}]},
        "account/config": {
            "code": "0",
            "data": [
                {"uid": "1", "mainUid": "2", "perm": "read_only,trade", "ip": "127.0.0.1", "label": "n"}
            ],
        },
        "GET users/subaccount/apikey": {
            "code": "0",
            "data": [
                {
                    "apiKey": "newly-made-key",
                    "label": "n",
                    "perm": "read_only",
                    "ip": "",
                    "ts": "1597026383085",
                }
            ],
        },
        "account/balance": {"code": "0", "data": []},
        "public/time": {"code": "0", "data": [{"ts": "1597026383085"}]},
    },
    "deribit": {
        "create_api_key": {
            "result": {
                "id": 7,
                "client_id": "newly-made-key",
                "client_secret": "Ab1c" * 9,
                "max_scope": "account:read",
            }
        },
        "edit_api_key": {"result": {"id": 7}},
        "remove_api_key": {"result": "ok"},
        "list_api_keys": {
            "result": [
                {
                    "id": 7,
                    "client_id": REF,
                    "name": "n",
                    "max_scope": "account:read",
                    "timestamp": 1560242482758,
                    "enabled": True,
                    "ip_whitelist": ["127.0.0.1"],
                }
            ]
        },
        "public/auth": {"result": {"scope": "account:read connection", "access_token": "t" * 20}},
        "get_account_summary": {"result": {"id": 10, "equity": 1}},
        "get_time": {"result": 1550147385946},
    },
}
# The call that each method makes last, where a wrong answer is put.
LAST: Mapping[str, Mapping[str, str]] = {
    "bybit": {
        "create_key": "create-sub-api",
        "edit_key": "update-sub-api",
        "revoke_key": "delete-sub-api",
        "introspect": "query-api",
        "private_read": "wallet-balance",
        "list_keys": "sub-apikeys",
        "server_time": "market/time",
    },
    "okx": {
        "create_key": "POST users/subaccount/apikey",
        "edit_key": "modify-apikey",
        "revoke_key": "delete-apikey",
        "introspect": "account/config",
        "private_read": "account/balance",
        "list_keys": "GET users/subaccount/apikey",
        "server_time": "public/time",
    },
    "deribit": {
        "create_key": "create_api_key",
        "edit_key": "edit_api_key",
        "revoke_key": "remove_api_key",
        "introspect": "public/auth",
        "private_read": "get_account_summary",
        "list_keys": "list_api_keys",
        "server_time": "get_time",
    },
}
EACH = [(code, method) for code in VENUES for method in ENDPOINTS]


def _fits(head: str, call: str) -> bool:
    verb, _, path = call.rpartition(" ")
    return head.startswith(verb) and f"{path}" in head.split("\r\n", maxsplit=1)[0]


def granting(code: str, instead: Mapping[str, Reply]) -> Callable[[str], Reply]:
    """Answer each call as documented, but some otherwise."""

    def answer(head: str) -> Reply:
        for call, reply in instead.items():
            if _fits(head, call):
                return reply
        return next(json(jsons.dumps(body)) for call, body in GRANTS[code].items() if _fits(head, call))

    return answer


@asynccontextmanager
async def driver_at(code: str, url: str, timeout: float = 5.0) -> AsyncIterator[ExchangeDriver]:
    driver = catalog.build(code, url=url, rate_limit=False, timeout=timeout)
    try:
        yield driver
    finally:
        await driver.close()


async def ask(code: str, method: str, reply: Reply | Callable[[str], Reply]) -> object:
    """Give what a method makes of an answer: a value, or the `ExchangeError`; nothing else gets out."""
    async with answering(reply) as url, driver_at(code, url) as driver:
        return await outcome(driver, method)


async def ask_all(code: str, reply_to: Callable[[str], Callable[[str], Reply]]) -> dict[str, object]:
    """Give what each method makes of its answer; each with a driver that has met no ban yet."""
    reply = granting(code, {})
    found = {}
    async with answering(lambda head: reply(head)) as url:
        for method in ENDPOINTS:
            reply = reply_to(method)
            async with driver_at(code, url) as driver:
                found[method] = await outcome(driver, method)
    return found


async def outcome(driver: ExchangeDriver, method: str) -> object:
    """Give a value or an `ExchangeError`."""
    try:
        return await ENDPOINTS[method](driver)
    except ExchangeError as error:
        text = error.diagnostics()
        assert all(c.isprintable() or c == "\n" for c in text), text
        assert "not-a-real-secret" not in text
        return error


@pytest.mark.parametrize(("code", "method"), EACH)
async def test_the_documented_answers_are_taken(code: str, method: str) -> None:
    answer = await ask(code, method, granting(code, {}))
    assert not isinstance(answer, ExchangeError), answer


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("code", VENUES)
async def test_an_answer_that_is_no_api_s_is_a_fault_of_the_closed_set(code: str, odd: str) -> None:
    for method, error in (await ask_all(code, lambda m: granting(code, {LAST[code][m]: ODD[odd]}))).items():
        assert isinstance(error, ExchangeError), (method, error)
        told = (ExchangeFault.VENUE_DOWN, ExchangeFault.BARRED_REGION)
        assert error.fault is ExchangeFault.OUTCOME_UNKNOWN if method in CHANGES else error.fault in told, (
            method
        )


@pytest.mark.parametrize("status", [403, 451])
@pytest.mark.parametrize("code", VENUES)
async def test_a_page_of_a_barred_region_says_so_at_every_venue(code: str, status: int) -> None:
    for method in ENDPOINTS:
        error = await ask(code, method, page(status))
        assert isinstance(error, ExchangeError)
        assert "region" in error.what
        assert "an address in a region that" in error.todo
        assert error.retry_after == 600.0, "the pause that is advised"


async def test_a_longer_pause_that_is_asked_for_goes_before_the_advised_one() -> None:
    for asked, kept in (("30", 600.0), ("1800", 1800.0), ("Mon, 99 Foo", 600.0)):
        error = await ask("okx", "list_keys", page(403, **{"Retry-After": asked}))
        assert isinstance(error, ExchangeError)
        assert error.retry_after == kept


# -- one field that is not what it must be -----------------------------------------------------------------

WRONG: tuple[Any, ...] = (
    None,
    True,
    -7,
    1e30,
    10**30,
    0.5,
    "",
    "not this",
    "\x1b[2J",
    [],
    [None],
    {},
    {"a": []},
)


def _fields(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [p for key, value in pairs for p in ((*path, key), *_fields(value, (*path, key)))]


def _with(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = jsons.loads(jsons.dumps(body))
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize(("code", "method"), EACH)
async def test_a_field_of_the_wrong_type_is_a_value_or_a_fault_and_never_a_traceback(
    code: str, method: str
) -> None:
    call = LAST[code][method]
    body = GRANTS[code][call]
    current = Reply()
    async with (
        answering(lambda head: granting(code, {call: current})(head)) as url,
        driver_at(code, url) as driver,
    ):
        for path in _fields(body):
            for value in WRONG:
                current = json(jsons.dumps(_with(body, path, value)))
                try:
                    shown = repr(await ENDPOINTS[method](driver))
                except ExchangeError as error:
                    shown = error.diagnostics().replace("\n", "")
                assert shown.isprintable(), (path, value)
                assert "\\x1b" not in shown, (path, value)


SECRETS: Mapping[str, tuple[str, ...]] = {
    "bybit": ("result", "secret"),
    "okx": ("data", 0, "secretKey"),  # type: ignore[dict-item]
    "deribit": ("result", "client_secret"),
}
REFS: Mapping[str, tuple[str, ...]] = {
    "bybit": ("result", "apiKey"),
    "okx": ("data", 0, "apiKey"),  # type: ignore[dict-item]
    "deribit": ("result", "client_id"),
}
MASKS = (
    "",
    None,
    "******",
    "*" * 36,
    "abcd****************wxyz",
    "x" * 36,
    "null",
    "None",
    12345678901234567890,
    ["s" * 36],
)


@pytest.mark.parametrize("value", MASKS)
@pytest.mark.parametrize("code", VENUES)
async def test_a_mint_whose_secret_is_not_shown_is_no_success(code: str, value: object) -> None:
    call = LAST[code]["create_key"]
    body = _with(GRANTS[code][call], SECRETS[code], value)
    error = await ask(code, "create_key", granting(code, {call: json(jsons.dumps(body))}))
    assert isinstance(error, ExchangeError)
    assert error.fault is ExchangeFault.OUTCOME_UNKNOWN, "the key may live: it is found by its label"


@pytest.mark.parametrize("value", ["", None, "a b", "a\r\nb", [], {}, True])
@pytest.mark.parametrize("code", VENUES)
async def test_a_mint_that_does_not_name_its_key_is_no_success(code: str, value: object) -> None:
    call = LAST[code]["create_key"]
    body = _with(GRANTS[code][call], REFS[code], value)
    error = await ask(code, "create_key", granting(code, {call: json(jsons.dumps(body))}))
    assert isinstance(error, ExchangeError)
    assert error.fault is ExchangeFault.OUTCOME_UNKNOWN


TIMES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("bybit", "server_time", ("result", "timeNano")),
    ("bybit", "introspect", ("result", "createdAt")),
    ("bybit", "introspect", ("result", "expiredAt")),
    ("bybit", "list_keys", ("result", "result", 0, "expiredAt")),
    ("okx", "server_time", ("data", 0, "ts")),
    ("okx", "list_keys", ("data", 0, "ts")),
    ("deribit", "server_time", ("result",)),
    ("deribit", "list_keys", ("result", 0, "timestamp")),
)
ABSURD = (
    -1,
    "-1",
    1e30,
    10**30,
    "9" * 400,
    "soon",
    "2026-05-16",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    {"a": 1},
)


@pytest.mark.parametrize(("code", "method", "path"), TIMES)
async def test_an_absurd_time_is_no_time(code: str, method: str, path: tuple[Any, ...]) -> None:
    call = LAST[code][method]
    for value in ABSURD:
        body = jsons.dumps(_with(GRANTS[code][call], path, value))
        error = await ask(code, method, granting(code, {call: json(body)}))
        assert isinstance(error, ExchangeError), value
        assert error.fault is ExchangeFault.VENUE_DOWN


@pytest.mark.parametrize("data", ["{}", "null", '""', "0", "false", "[null]", '["text"]', "[[]]"])
async def test_okx_s_grant_without_a_list_is_no_empty_list(data: str) -> None:
    for method in ENDPOINTS:
        error = await ask("okx", method, json(f'{{"code":"0","data":{data}}}'))
        assert isinstance(error, ExchangeError), method


async def test_an_okx_that_refuses_every_clock_even_its_own_is_asked_twice() -> None:
    asked = 0

    def answer(_: str) -> Reply:
        nonlocal asked
        asked += 1
        return json('{"code":"50102","msg":"Timestamp request expired.","data":[]}')

    for method in ENDPOINTS:
        asked = 0
        error = await ask("okx", method, answer)
        assert isinstance(error, ExchangeError)
        assert error.fault is ExchangeFault.CLOCK_SKEW
        assert asked == (1 if method == "server_time" else 2)


@pytest.mark.parametrize("code", VENUES)
async def test_a_list_that_goes_on_for_ever_ends(code: str) -> None:
    asked = 0

    def answer(head: str) -> Reply:
        nonlocal asked
        asked += 1
        body = GRANTS[code][LAST[code]["list_keys"]]
        if code == "bybit":
            body = _with(body, ("result", "nextPageCursor"), f"page-{asked}")
        return json(jsons.dumps(body))

    answered = await ask(code, "list_keys", answer)
    assert asked <= 101
    assert isinstance(answered, ExchangeError) is (code == "bybit")


BOMB = """
import asyncio, sys
from tests.exchanges.test_hostile_answers import CHANGES, ENDPOINTS, LAST, VENUES, ask, granting
from tests.hostile import bomb, peak_memory
async def main():
    reply = bomb()
    before = peak_memory()
    for code in VENUES:
        for method in ENDPOINTS:
            error = await ask(code, method, granting(code, {LAST[code][method]: reply}))
            wanted = "outcome_unknown" if method in CHANGES else "venue_down"
            assert getattr(error, "fault", None) == wanted, (code, method, error)
    print(peak_memory() - before)
asyncio.run(main())
"""


def test_three_hundred_megabytes_from_a_small_body_take_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50 << 20


@pytest.mark.parametrize("code", VENUES)
async def test_a_body_that_trickles_ends_with_the_time_out(code: str) -> None:
    trickle = Reply(b'{"a":"', 200, {"Content-Type": "application/json"}, endless=b" ", pace=0.1)
    for method in ("create_key", "list_keys"):
        reply = granting(code, {LAST[code][method]: trickle})
        async with answering(reply) as url, driver_at(code, url, timeout=0.5) as driver, asyncio.timeout(5):
            with pytest.raises(ExchangeError) as caught:
                await ENDPOINTS[method](driver)
        assert caught.value.fault in {ExchangeFault.OUTCOME_UNKNOWN, ExchangeFault.VENUE_DOWN}
