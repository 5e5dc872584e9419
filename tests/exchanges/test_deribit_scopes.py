"""What the driver of Deribit takes a token's scope for, and when it asks for a new token."""

from __future__ import annotations

import dataclasses
import json

import pytest
from aiohttp import web

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, Permission
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges.deribit import scope
from keyturn.exchanges.deribit.sessions import Sessions
from keyturn.ports.exchange import Caller
from keyturn.simulator import Fault, FaultKind
from keyturn.testing.driver_contract_support import handle_of, mint, refused

from .benches import SimBench, caller_of, deribit
from .callers import driver_at, server

FULL = {
    "account:read_write",
    "block_trade:read_write",
    "custody:read_write",
    "trade:read_write",
    "wallet:read_write",
}
LESS = {"account:read_write", "block_trade:read", "custody:read", "trade:read_write", "wallet:read"}
# Scopes that real accounts were given, as published.
CAPTURED = {
    # ccxt 4.5.90, ccxt/pro/deribit.py, `authenticate`
    "account:read_write block_trade:read_write connection custody:read_write mainaccount name:ccxt"
    " trade:read_write wallet:read_write": FULL,
    # a Scala client's test of its parser, 2021
    "account:read_write block_trade:read_write custody:read_write mainaccount name:scala"
    " session:rest-PRwURohyuaQ= trade:read_write wallet:read_write": FULL,
    # a guide's sample answer, 2021
    "account:read_write block_trade:read_write custody:read_write mainaccount name:donsasikumar"
    " session:rest-waHCBhVpNio= trade:read_write wallet:read_write": FULL,
    # a C++ client's sample, 2022
    "account:read_write block_trade:read connection custody:read mainaccount name:TestFirst"
    " trade:read_write wallet:read": LESS,
    # a Java client's test, the venue's own API console
    "account:read_write block_trade:read_write custody:read_write mainaccount name:test"
    " session:apiconsole-ssgdmkb9ii trade:read_write wallet:read_write": FULL,
    # the example of public/auth
    "connection mainaccount": set(),
}
NAMES_THAT_LOOK_LIKE_RIGHTS = [
    "name:read",
    "name:read_write",
    "name:trade:read_write",
    "name:account:none",
    "name:wallet",
    "session:read_write",
    "expires:600",
    "ip:203.0.113.7",
]


async def facts_for(scope_text: str) -> KeyFacts:
    def answer(request: web.BaseRequest) -> web.Response:
        token = {
            "access_token": "not-a-real-token",
            "token_type": "bearer",
            "expires_in": 899,
            "refresh_token": "not-a-real-token-either",
            "scope": scope_text,
        }
        result = token if request.path.endswith("/auth") else {"id": 7}
        return web.Response(
            text=json.dumps({"jsonrpc": "2.0", "result": result}), content_type="application/json"
        )

    async with server(answer) as url, driver_at("deribit", url) as driver:
        return await driver.introspect(Caller(SecretMaterial("not-a-real-key", "not-a-real-secret")))


@pytest.mark.parametrize(("captured", "rights"), CAPTURED.items())
async def test_a_captured_scope_grants_its_rights_and_nothing_else(captured: str, rights: set[str]) -> None:
    facts = await facts_for(captured)
    assert facts.grants == rights
    assert not facts.unnamed


@pytest.mark.parametrize("word", NAMES_THAT_LOOK_LIKE_RIGHTS)
def test_a_name_and_a_session_are_never_a_right(word: str) -> None:
    assert scope.of_token(f"account:read {word} trade:none") == {"account:read"}
    assert scope.of_key(["account:read", word, "trade:none"]) == {"account:read"}


@pytest.mark.parametrize("word", ["staking:read_write", "lending:read", "trade:everything", "wallet:write"])
async def test_a_right_that_keyturn_does_not_know_never_passes_unseen(word: str) -> None:
    facts = await facts_for(f"account:read {word} name:kt_0123456789_1")
    assert word in facts.grants
    assert (word in facts.unnamed) is not word.endswith(":read")


async def test_a_name_hides_no_right_and_with_a_blank_in_it_can_only_add() -> None:
    async with deribit() as bench:
        names = ["x trade:read_write", "x account:none", "account:none", "x wallet:read_write name:y", ""]
        for name in names:
            key = bench.sim.add_key("main", ["account:read", "trade:read"], label=name)
            facts = await bench.driver.introspect(caller_of(key))
            assert {"account:read", "trade:read"} <= facts.grants
            # What the list says has the name in a field of its own.
            listed = await bench.driver.list_keys(bench.manager, None)
            (row,) = [facts for facts in listed if facts.key_ref == key.key_ref]
            assert row.grants == {"account:read", "trade:read"}


def sessions_of(bench: SimBench, key_ref: str) -> int:
    return len(bench.sim.calls(key_ref=key_ref, match="/public/auth"))


NOBODY = Caller(SecretMaterial("nobody12", "not-a-real-secret"))
READ = KeySpec("kt_0123456789_1", frozenset({Permission.READ}), frozenset())
TRADE = dataclasses.replace(READ, permissions=frozenset({Permission.TRADE}))


async def test_a_secret_that_a_list_shows_is_kept_nowhere() -> None:
    async with deribit() as bench:
        key = bench.sim.add_key("main", ["account:read"])
        listed = await bench.driver.list_keys(bench.manager, None)
        client = bench.driver._client
        held = [listed, vars(bench.driver), *map(vars, (client, client._exchange, *client._idle))]
        assert key.key_ref in repr(listed)
        assert key.secret not in repr(held)


async def test_one_token_serves_a_key_that_is_asked_again_and_again() -> None:
    async with deribit() as bench:
        minted = await mint(bench, READ)
        caller = Caller(minted.material)
        first = await bench.driver.introspect(caller)
        for _ in range(20):
            # As while a new key is verified: bound to its addresses again, and asked again.
            await bench.driver.edit_key(bench.manager, handle_of(bench, minted), READ)
            assert await bench.driver.introspect(caller) == first
        assert sessions_of(bench, minted.key_ref) == 1


async def test_other_rights_are_never_told_from_an_old_token() -> None:
    async with deribit() as bench:
        minted = await mint(bench, READ)
        caller = Caller(minted.material)
        assert (await bench.driver.introspect(caller)).grants == bench.driver.grants_for(READ.permissions)
        await bench.driver.edit_key(bench.manager, handle_of(bench, minted), TRADE)
        assert (await bench.driver.introspect(caller)).grants == bench.driver.grants_for(TRADE.permissions)


async def test_an_edit_without_an_answer_leaves_no_old_token() -> None:
    async with deribit() as bench:
        minted = await mint(bench, READ)
        caller = Caller(minted.material)
        await bench.driver.introspect(caller)
        bench.sim.faults.add(Fault(kind=FaultKind.CUT_AFTER, match="edit_api_key"))
        await refused(
            bench.driver.edit_key(bench.manager, handle_of(bench, minted), TRADE),
            ExchangeFault.OUTCOME_UNKNOWN,
        )
        assert (await bench.driver.introspect(caller)).grants == bench.driver.grants_for(TRADE.permissions)


@pytest.mark.parametrize("rights", [["account:read"], ["trade:read_write"]])
async def test_a_living_token_never_makes_a_dead_key_look_alive(rights: list[str]) -> None:
    async with deribit() as bench:
        key = bench.sim.add_key("main", rights)
        await bench.driver.introspect(caller_of(key))
        bench.sim.kill_key(key.key_ref)
        await refused(bench.driver.introspect(caller_of(key)), ExchangeFault.UNCLEAR_REFUSAL)
        await refused(bench.driver.private_read(caller_of(key)), ExchangeFault.UNCLEAR_REFUSAL)


async def test_a_token_is_given_to_the_holder_of_the_same_secret_alone() -> None:
    async with deribit() as bench:
        key = bench.sim.add_key("main", ["account:read"])
        await bench.driver.introspect(caller_of(key))
        wrong = Caller(SecretMaterial(key.key_ref, "not-a-real-secret"))
        await refused(bench.driver.introspect(wrong), ExchangeFault.UNCLEAR_REFUSAL)


async def test_a_key_that_was_refused_asks_for_a_new_token() -> None:
    async with deribit() as bench:
        key = bench.sim.add_key("main", ["account:read"])
        caller = caller_of(key)
        await bench.driver.introspect(caller)
        await refused(bench.driver.list_keys(NOBODY, None), ExchangeFault.UNCLEAR_REFUSAL)
        await bench.driver.introspect(caller)
        assert sessions_of(bench, key.key_ref) == 1
        await refused(bench.driver.create_key(caller, READ), ExchangeFault.MISSING_PERMISSION)
        await bench.driver.introspect(caller)
        assert sessions_of(bench, key.key_ref) == 2


def test_tokens_end_and_their_number_is_bounded() -> None:
    now = [0.0]
    sessions, grants = Sessions(lambda: now[0]), frozenset({"account:read"})
    callers = [Caller(SecretMaterial(f"key-{number}", "not-a-real-secret")) for number in range(100)]
    for caller in callers:
        sessions.remember(caller, grants, 31_536_000)
    known = [caller for caller in callers if sessions.grants(caller)]
    assert known == callers[-32:]
    now[0] = 839.0
    assert sessions.grants(callers[-1]) == grants
    now[0] = 841.0
    assert sessions.grants(callers[-1]) is None
    for life in (0, -5, 30):
        sessions.remember(callers[0], grants, life)
        assert sessions.grants(callers[0]) is None


def test_nothing_of_a_secret_or_a_token_is_kept() -> None:
    sessions = Sessions()
    sessions.remember(
        Caller(SecretMaterial("not-a-real-key", "not-a-real-secret")), frozenset({"account:read"}), 900
    )
    held = repr(vars(sessions))
    assert "account:read" in held
    assert "not-a-real-secret" not in held
    assert "holder" not in held
