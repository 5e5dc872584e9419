"""The catalog, the manifests, and the small parts of each venue."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from typing import Any

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import Permission
from keyturn.domain.labels import MAX_ATTEMPTS, Attempt, new_rotation_id, parse_label
from keyturn.exchanges import catalog
from keyturn.exchanges.bybit.driver import _facts as bybit_facts
from keyturn.exchanges.deribit.driver import Driver as DeribitDriver
from keyturn.exchanges.okx.driver import new_passphrase

VENUES = [*catalog.manifests()]


def test_reading_manifests_imports_neither_ccxt_nor_a_driver() -> None:
    script = (
        "import sys; from keyturn.exchanges import catalog; catalog.manifests();"
        "print([m for m in sys.modules if m == 'ccxt' or m == 'aiohttp' or m.endswith('.driver')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_unknown_venue_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        catalog.build("nowhere")


@pytest.mark.parametrize("code", VENUES)
def test_our_longest_label_fits_and_is_recognised(code: str) -> None:
    rules = catalog.manifests()[code].label
    attempt = Attempt(new_rotation_id(), MAX_ATTEMPTS)
    assert rules.fits(attempt.label(rules.separator))
    assert parse_label(attempt.label(rules.separator)) == attempt


@pytest.mark.parametrize("code", VENUES)
def test_every_venue_names_its_sources_and_guides_people(code: str) -> None:
    manifest = catalog.manifests()[code]
    assert manifest.documents
    assert all(document.url.startswith("https://") for document in manifest.documents)
    guide = files("keyturn.exchanges") / code / "guide.md"
    assert manifest.console_url in guide.read_text(encoding="utf-8")
    assert import_module(f"keyturn.exchanges.{code}").__doc__


@pytest.mark.parametrize("code", VENUES)
def test_every_row_of_an_error_table_says_what_happened(code: str) -> None:
    table = import_module(f"keyturn.exchanges.{code}.errors").TABLE
    rows = [*table.exact.values(), *table.broad.values(), *table.status.values()]
    faults = {row.fault for row in rows}
    assert all(row.words.endswith(".") for row in rows)
    assert all(text == text.lower() for text in table.broad)
    assert faults >= {
        ExchangeFault.UNKNOWN_KEY if code != "deribit" else ExchangeFault.UNCLEAR_REFUSAL,
        ExchangeFault.WRONG_IP,
        ExchangeFault.MISSING_PERMISSION,
        ExchangeFault.CLOCK_SKEW if code != "deribit" else ExchangeFault.SECOND_FACTOR,
        ExchangeFault.RATE_LIMITED,
        ExchangeFault.KEY_QUOTA,
    }


@pytest.mark.parametrize(
    ("code", "part"), [("bybit", "api-testnet."), ("deribit", "test.deribit.com"), ("okx", "")]
)
def test_the_testnet_is_another_place(code: str, part: str) -> None:
    live: Any = catalog.build(code)
    test: Any = catalog.build(code, environment="testnet")
    if part:
        assert all(part in url for url in test._client._exchange.urls["api"].values())
        assert not any(part in url for url in live._client._exchange.urls["api"].values())
    else:
        assert test._client._exchange.headers.get("x-simulated-trading") == "1"
        assert "x-simulated-trading" not in live._client._exchange.headers


def test_okx_passphrases_keep_its_rule() -> None:
    drawn = {new_passphrase() for _ in range(500)}
    assert len(drawn) == 500
    for text in drawn:
        assert 8 <= len(text) <= 32
        assert any(c.isdigit() for c in text)
        assert any(c.isupper() for c in text)
        assert any(c.islower() for c in text)
        assert any(c in "-_.+" for c in text)


def test_bybit_folds_the_unified_word_and_shows_what_it_does_not_know() -> None:
    row = {
        "readOnly": 0,
        "ips": ["*"],
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Derivatives": ["DerivativesTrade"],
            "Earn": ["Earn"],
            "NFT": [],
        },
    }
    facts = bybit_facts(row, "ref")
    assert facts.grants == {"ContractTrade.Order", "ContractTrade.Position", "Earn.Earn"}
    assert facts.grants != catalog.build("bybit").grants_for(frozenset({Permission.TRADE_DERIVATIVES}))


BYBIT_ROW: dict[str, Any] = {"readOnly": 0, "permissions": {"Spot": ["SpotTrade"]}}


@pytest.mark.parametrize("ips", [["*", "127.0.0.1"], ["127.0.0.1", "*"], ["*"]])
def test_a_bybit_key_that_is_open_never_counts_as_bound(ips: list[str]) -> None:
    assert bybit_facts({**BYBIT_ROW, "ips": ips}, "ref").ip_allowlist == frozenset()


@pytest.mark.parametrize("ips", [["", "127.0.0.1"], [" * ", "127.0.0.1"], ["127.0.0.1", "any"]])
def test_an_address_list_of_bybit_s_that_cannot_be_read_is_no_list(ips: list[str]) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        bybit_facts({**BYBIT_ROW, "ips": ips}, "ref")


def test_bybit_s_read_only_key_is_no_trading_key() -> None:
    driver = catalog.build("bybit")
    read = driver.grants_for(frozenset({Permission.READ}))
    trade = driver.grants_for(frozenset({Permission.READ, Permission.TRADE_SPOT}))
    assert "readOnly" in read
    assert trade == {"Spot.SpotTrade"}


def test_deribit_takes_the_higher_of_two_levels() -> None:
    driver = catalog.build("deribit")
    assert isinstance(driver, DeribitDriver)
    wanted = frozenset({Permission.READ, Permission.TRADE, Permission.MANAGE_KEYS})
    assert driver.grants_for(wanted) == {"account:read_write", "trade:read_write", "wallet:read"}
