"""Find the venues and build their drivers.

A venue is a folder here with a `driver.toml`; adding one is adding a folder. Reading manifests imports
neither ccxt nor a driver, so that commands which only look at the inventory start fast.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, Protocol, cast

from keyturn.domain.manifest import DriverManifest
from keyturn.exchanges._errors import ErrorTable
from keyturn.ports.exchange import ExchangeDriver

Environment = Literal["live", "testnet"]


class _Builder(Protocol):
    def __call__(
        self,
        manifest: DriverManifest,
        *,
        url: str | None,
        environment: Environment,
        timeout: float,
        rate_limit: bool,
    ) -> ExchangeDriver: ...


@cache
def manifests() -> Mapping[str, DriverManifest]:
    """Give the manifest of every venue by its code, in alphabetical order.

    Raises:
        pydantic.ValidationError: a `driver.toml` is not a manifest.
        ValueError: a folder and the code in its manifest differ.
    """
    found: dict[str, DriverManifest] = {}
    for folder in sorted(files(__package__).iterdir(), key=lambda entry: entry.name):
        toml = folder / "driver.toml"
        if not toml.is_file():
            continue
        manifest = DriverManifest.model_validate(tomllib.loads(toml.read_text(encoding="utf-8")))
        if manifest.code != folder.name:
            raise ValueError(f"the folder {folder.name} holds the manifest of {manifest.code}")
        found[manifest.code] = manifest
    return MappingProxyType(found)


@cache
def errors_of(ccxt_id: str) -> ErrorTable | None:
    """Give the error table of the venue that ccxt knows by this id; None when there is no such venue here."""
    code = next((code for code, manifest in manifests().items() if manifest.ccxt_id == ccxt_id), None)
    if code is None:
        return None
    module = import_module(f"{__package__}.{code}.errors")
    return cast("ErrorTable", module.TABLE)


def build(
    code: str,
    *,
    url: str | None = None,
    environment: Environment = "live",
    timeout: float = 10.0,
    rate_limit: bool = True,
) -> ExchangeDriver:
    """Build the driver of a venue for one account.

    Args:
        code: the venue, as in `manifests()`.
        url: another base URL of the venue's API, without a trailing path.
        environment: `testnet` takes the venue's own test environment; `url` goes before it.
        timeout: seconds to wait for an answer.
        rate_limit: keep to the venue's documented rates.

    Raises:
        KeyError: there is no such venue.
    """
    manifest = manifests()[code]
    module = import_module(f"{__package__}.{code}.driver")
    builder = cast("_Builder", module.Driver)
    return builder(manifest, url=url, environment=environment, timeout=timeout, rate_limit=rate_limit)
