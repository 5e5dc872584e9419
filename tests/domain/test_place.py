"""Where an account's keys lie, by what the inventory says of its URL, site and environment."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from keyturn.domain.inventory import AccountEntry
from keyturn.domain.place import api_url, place_of
from keyturn.exchanges.catalog import manifests


def account(exchange: str, **fields: str) -> AccountEntry:
    return AccountEntry.model_validate(
        {"exchange": exchange, "manager": {"store": "s", "path": "m/main"}, **fields}
    )


def place(exchange: str, **fields: str) -> str:
    return place_of(account(exchange, **fields), manifests()[exchange])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "www.okx.com"),
        ({"site": "global"}, "www.okx.com"),
        ({"url": "https://www.okx.com"}, "www.okx.com"),
        ({"url": "https://WWW.OKX.com:443/"}, "www.okx.com"),
        ({"url": "https://openapi.okx.com"}, "www.okx.com"),
        ({"site": "eea"}, "eea.okx.com"),
        ({"url": "https://my.okx.com"}, "eea.okx.com"),
        ({"environment": "testnet"}, "www.okx.com (testnet)"),
        ({"url": "http://127.0.0.1:8080"}, "127.0.0.1:8080"),
        ({"url": "http://127.0.0.1:8080/okx/", "site": "eea"}, "127.0.0.1:8080/okx"),
        ({"url": "http://[::1]:80"}, "[::1]"),
        ({"url": "https://proxy.example", "environment": "testnet"}, "proxy.example (testnet)"),
    ],
)
def test_one_place_has_one_name_however_the_inventory_spells_it(fields, expected):
    assert place("okx", **fields) == expected


def test_a_test_environment_with_a_host_of_its_own_is_no_live_place():
    assert place("bybit", environment="testnet") == "api.bybit.com (testnet)"
    assert place("bybit", url="https://api-testnet.bybit.com") == "api.bybit.com (testnet)"
    assert place("deribit", environment="testnet") != place("deribit")


@pytest.mark.parametrize("exchange", sorted(manifests()))
def test_every_site_is_a_place_of_its_own_and_says_where_that_is_written(exchange):
    sites = manifests()[exchange].sites
    assert len({place(exchange, site=name) for name in sites}) == len(sites)
    for site in sites.values():
        for url in (site.url, *site.also, site.testnet_url or site.url):
            assert urlsplit(url).scheme == "https"
        assert site.source.startswith("https://")


def test_an_account_is_called_at_its_site_and_an_url_goes_before_it():
    okx, bybit = manifests()["okx"], manifests()["bybit"]
    assert api_url(account("okx"), okx) is None
    assert api_url(account("okx", site="global"), okx) is None
    assert api_url(account("okx", site="eea"), okx) == "https://eea.okx.com"
    assert api_url(account("okx", site="eea", url="http://127.0.0.1:1"), okx) == "http://127.0.0.1:1"
    assert api_url(account("bybit", site="jp", environment="testnet"), bybit) == (
        "https://api-testnet.manepa.jp"
    )
    assert api_url(account("bybit", site="jp"), bybit) == "https://api.manepa.jp"
