"""A bot judges a refusal by the venue's own error table, as the venue's driver does."""

from __future__ import annotations

import json

import ccxt
import pytest

from keyturn.client.refusal import CannotSignError, fault_of, is_refused_key
from keyturn.domain.errors import ExchangeFault
from keyturn.exchanges import catalog

VENUES = tuple(catalog.manifests())


def body_of(venue: str, code: str, text: str) -> dict:
    return {
        "bybit": {"retCode": int(code), "retMsg": text, "result": {}},
        "okx": {"code": code, "msg": text, "data": []},
        "deribit": {"jsonrpc": "2.0", "error": {"code": int(code), "message": text}},
    }[venue]


def raised(exchange: ccxt.Exchange, body: dict) -> Exception:
    text = json.dumps(body, separators=(",", ":"))
    with pytest.raises(ccxt.BaseError) as caught:
        exchange.handle_errors(200, "OK", "https://x/a", "GET", {}, text, body, {}, "")
    return caught.value


@pytest.mark.parametrize("venue", VENUES)
def test_each_code_of_the_table_means_the_same_to_the_bot(venue):
    exchange, table = getattr(ccxt, venue)(), catalog.errors_of(venue)
    codes = [code for code in table.exact if code.lstrip("-").isdecimal()]
    assert len(codes) > 20
    for code in codes:
        error = raised(exchange, body_of(venue, code, table.exact[code].says))
        assert fault_of(error, exchange) is table.find(code, table.exact[code].says).fault, code
        assert fault_of(error) is fault_of(error, exchange)


def test_a_site_of_a_venue_and_a_class_of_the_bots_own_are_judged_by_the_venues_table():
    class Mine(ccxt.bybiteu):
        pass

    for kind in (ccxt.bybiteu, Mine):
        exchange = kind()
        assert fault_of(raised(exchange, body_of("bybit", "10008", "banned")), exchange) is (
            ExchangeFault.KEY_REFUSED
        )
    exchange = ccxt.myokx()
    assert fault_of(raised(exchange, body_of("okx", "50119", "")), exchange) is ExchangeFault.UNKNOWN_KEY


def test_a_code_that_no_table_lists_is_no_refusal_of_the_key():
    exchange = ccxt.okx()
    error = raised(exchange, body_of("okx", "58213", "Please set a trading password."))
    assert isinstance(error, ccxt.AuthenticationError)
    assert fault_of(error, exchange) is ExchangeFault.REJECTED
    assert not is_refused_key(error, exchange)


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        (ccxt.AccountSuspended, "binance {}", ExchangeFault.KEY_REFUSED),
        (ccxt.PermissionDenied, "binance {}", ExchangeFault.MISSING_PERMISSION),
        (ccxt.PermissionDenied, "kucoin the ip is not in the whitelist", ExchangeFault.WRONG_IP),
        (ccxt.AuthenticationError, "kraken EAPI:Invalid key", ExchangeFault.UNCLEAR_REFUSAL),
        (
            ccxt.AuthenticationError,
            'binance {"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}',
            ExchangeFault.UNCLEAR_REFUSAL,
        ),
        (ccxt.RequestTimeout, "binance GET https://x 504 Gateway Timeout", ExchangeFault.VENUE_DOWN),
        (ValueError, "no error of ccxt", ExchangeFault.REJECTED),
    ],
)
def test_without_a_table_ccxts_class_judges_and_never_calls_a_key_unknown(kind, text, fault):
    assert fault_of(kind(text)) is fault


@pytest.mark.parametrize("status", [401, 407, 502])
def test_a_page_in_place_of_the_venues_answer_says_nothing_of_the_key(status):
    text = f"okx GET https://www.okx.com/api/v5/account/balance {status} Sorry <html></html>"
    assert fault_of(ccxt.AuthenticationError(text)) is ExchangeFault.VENUE_DOWN


def test_what_cannot_sign_is_a_fault_of_this_key_here():
    assert fault_of(CannotSignError()) is ExchangeFault.CANNOT_SIGN
    assert not is_refused_key(CannotSignError())
