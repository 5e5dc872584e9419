"""The error tables: what each row rests on, and where ccxt's own judgement differs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ccxt
import pytest

from keyturn.domain.errors import KEY_FAULTS, ExchangeFault
from keyturn.exchanges import catalog
from keyturn.exchanges._errors import ErrorTable, Row

VENUES = tuple(catalog.manifests())
FAULT = ExchangeFault
DATED = re.compile(r"\d{4}-\d{2}-\d{2}")

# ccxt's classes that stand for each fault; a code whose class is none of them differs.
AGREES: Mapping[ExchangeFault, tuple[type[Exception], ...]] = {
    FAULT.UNKNOWN_KEY: (ccxt.AuthenticationError,),
    FAULT.KEY_REFUSED: (ccxt.AuthenticationError,),
    FAULT.UNCLEAR_REFUSAL: (ccxt.AuthenticationError,),
    FAULT.WRONG_IP: (ccxt.PermissionDenied,),
    FAULT.MISSING_PERMISSION: (ccxt.PermissionDenied,),
    FAULT.CLOCK_SKEW: (ccxt.InvalidNonce,),
    FAULT.RATE_LIMITED: (ccxt.RateLimitExceeded, ccxt.DDoSProtection),
    FAULT.VENUE_DOWN: (ccxt.ExchangeNotAvailable,),
    # A time-out, or ccxt's class for whatever it has no better one for.
    FAULT.OUTCOME_UNKNOWN: (ccxt.RequestTimeout, ccxt.ExchangeNotAvailable, ccxt.ExchangeError),
    FAULT.REJECTED: (ccxt.ExchangeError,),
    FAULT.KEY_QUOTA: (ccxt.ExchangeError,),
    FAULT.NOT_SUPPORTED: (ccxt.ExchangeError,),
}
_ADDRESS_TOO = "it covers wrong addresses, too, and proves nothing of a key"
_NO_BETTER = "ccxt's class for whatever it has no better one for"
#: Venue and code -> ccxt's class, and why the table says otherwise.
DIFFERENCES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("bybit", "10009"): ("AuthenticationError", "its text bars the region of the call, not the key"),
    ("okx", "50112"): ("AuthenticationError", "its text names the timestamp, not the key"),
    ("okx", "50012"): ("ExchangeError", _NO_BETTER),
    ("okx", "50100"): ("ExchangeError", _NO_BETTER),
    ("okx", "59500"): ("ExchangeError", _NO_BETTER),
    ("deribit", "10000"): (
        "AuthenticationError",
        _ADDRESS_TOO,
    ),
    ("deribit", "13009"): (
        "AuthenticationError",
        _ADDRESS_TOO,
    ),
    ("deribit", "10048"): ("ExchangeError", _NO_BETTER),
    ("deribit", "12998"): ("AuthenticationError", "its text names the second factor, not the key"),
    ("deribit", "13025"): ("ExchangeError", _NO_BETTER),
}


def table_of(code: str) -> ErrorTable:
    table = catalog.errors_of(catalog.manifests()[code].ccxt_id)
    assert table is not None
    return table


def rows_of(table: ErrorTable) -> list[Row]:
    return [*table.exact.values(), *table.broad.values(), *table.status.values()]


def classes_of(code: str) -> Mapping[str, type[Exception]]:
    """Give ccxt's own table of a venue: its class by code."""
    found: Mapping[str, Any] = getattr(ccxt, catalog.manifests()[code].ccxt_id)().exceptions
    return {**found.get("exact", found), **found.get("broad", {})}


@pytest.mark.parametrize("code", VENUES)
def test_every_row_quotes_the_documentation_or_says_what_it_was_seen_in_and_when(code: str) -> None:
    table = table_of(code)
    assert table.page.startswith("https://")
    for row in rows_of(table):
        assert row.says or (row.seen and DATED.search(row.seen)), row
        assert not (row.says and row.seen), row


@pytest.mark.parametrize("code", VENUES)
def test_where_ccxts_classes_differ_from_the_table_is_known_with_the_reason(code: str) -> None:
    classes = classes_of(code)
    found = {}
    for told, row in table_of(code).exact.items():
        kind = classes.get(told)
        if kind is not None and not issubclass(kind, AGREES.get(row.fault, ())):
            found[code, told] = kind.__name__
    known = {key: kind for key, (kind, _) in DIFFERENCES.items() if key[0] == code}
    assert found == known
    assert all(why for _, why in DIFFERENCES.values())


@pytest.mark.parametrize("code", VENUES)
def test_a_ban_a_right_and_an_address_are_never_an_unknown_key(code: str) -> None:
    table, classes = table_of(code), classes_of(code)
    for told, row in table.exact.items():
        if issubclass(classes.get(told, Exception), (ccxt.AccountSuspended, ccxt.PermissionDenied)):
            assert row.fault is not FAULT.UNKNOWN_KEY, told
        if row.fault is FAULT.UNKNOWN_KEY:
            assert re.search(r"doesn't exist|key is invalid", row.says, re.IGNORECASE), told
            assert "sites" in row.todo, "its advice looks at the site first"


def test_the_one_venue_that_does_not_tell_apart_never_says_that_a_key_is_unknown() -> None:
    assert FAULT.UNKNOWN_KEY not in {row.fault for row in rows_of(table_of("deribit"))}


@pytest.mark.parametrize(
    ("code", "told", "fault"),
    [
        ("bybit", "10014", FAULT.OUTCOME_UNKNOWN),
        ("bybit", "429", FAULT.OUTCOME_UNKNOWN),
        ("bybit", "131001", FAULT.OUTCOME_UNKNOWN),
        ("bybit", "10019", FAULT.OUTCOME_UNKNOWN),
        ("bybit", "10429", FAULT.RATE_LIMITED),
        ("bybit", "20096", FAULT.REJECTED),
        ("okx", "50042", FAULT.OUTCOME_UNKNOWN),
        ("okx", "59604", FAULT.MISSING_PERMISSION),
        ("deribit", "11031", FAULT.OUTCOME_UNKNOWN),
        ("deribit", "13666", FAULT.OUTCOME_UNKNOWN),
        ("deribit", "10047", FAULT.RATE_LIMITED),
        ("deribit", "10048", FAULT.VENUE_DOWN),
    ],
)
def test_documented_codes_that_may_follow_an_effect_are_listed(
    code: str, told: str, fault: ExchangeFault
) -> None:
    assert table_of(code).exact[told].fault is fault


def test_only_refusals_of_the_key_itself_are_faults_of_a_key() -> None:
    assert {FAULT.UNKNOWN_KEY, FAULT.KEY_REFUSED, FAULT.UNCLEAR_REFUSAL} == KEY_FAULTS
