"""Where at a venue the keys of an account lie: which of its sites, and live or test.

A venue has several sites (EEA, US, ...), each with accounts of its own. A key of one is unknown to the
others, who say so in the same words as of a key that is dead; so nothing that another place says of a key
counts.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from keyturn.domain.inventory import AccountEntry
from keyturn.domain.manifest import DriverManifest

_DEFAULT_PORTS = {"https": 443, "http": 80}


def api_url(account: AccountEntry, manifest: DriverManifest) -> str | None:
    """Give the base URL of the API that an account is called at; None for the venue's own default."""
    if account.url or account.site is None or account.site == manifest.main_site:
        return account.url
    site = manifest.sites[account.site]
    return site.testnet_url if account.environment == "testnet" else site.url


def place_of(account: AccountEntry, manifest: DriverManifest) -> str:
    """Name where the keys of an account lie, as the inventory has it now; two names are two places.

    A URL of a site, written out, is that site; one that is none of the venue's is a place of its own.
    """
    testnet = account.environment == "testnet"
    name = account.site or manifest.main_site
    if account.url:
        name, of_tests = _site_of(account.url, manifest)
        testnet = testnet or of_tests
        if name is None:
            return f"{_address(account.url)} (testnet)" if testnet else _address(account.url)
    where = _address(manifest.sites[name].url) if name else manifest.code
    return f"{where} (testnet)" if testnet else where


def _site_of(url: str, manifest: DriverManifest) -> tuple[str | None, bool]:
    """Give the site that a URL belongs to, and whether it is that of its test environment."""
    address = _address(url)
    for name, site in manifest.sites.items():
        if address in map(_address, (site.url, *site.also)):
            return name, False
        if site.testnet_url and address == _address(site.testnet_url):
            return name, True
    return None, False


# A rotation asks where its keys lie a dozen times, and each time all sites of the venue are compared.
@lru_cache(maxsize=256)
def _address(url: str) -> str:
    """Give host, port and path in one form; whoever stands before the host is left out."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{host}{port}{parts.path.rstrip('/')}"
