"""A venue's sites: an account is called at its own, and a key of another one is told as that first."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.inventory import Inventory
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges import catalog
from keyturn.exchanges._base import CcxtDriver
from keyturn.ports.exchange import Caller
from keyturn.settings import LoadedInventory
from keyturn.testing.driver_contract_support import refused
from keyturn.wiring import InventoryAdapters

from .benches import BENCHES

NOBODY = Caller(
    SecretMaterial("00000000-0000-0000-0000-000000000000", "not-a-real-secret", "not-a-real-pass")
)
SITED = [(m.code, name) for m in catalog.manifests().values() for name in m.sites]


@pytest.mark.parametrize(("code", "name"), [("okx", "eea"), ("bybit", "jp")])
async def test_an_unknown_key_is_told_to_be_looked_for_at_the_site_first(code: str, name: str) -> None:
    async with BENCHES[code]() as bench:
        error = await refused(bench.driver.introspect(NOBODY), ExchangeFault.UNKNOWN_KEY)
    assert error.todo.startswith("Look first at `site`")
    assert f"{name}, " in error.todo


@pytest.mark.parametrize(("code", "name"), SITED)
async def test_an_account_is_called_at_the_site_that_it_names(code: str, name: str, tmp_path: Path) -> None:
    manager = {"store": "s", "path": "managers/main"}
    inventory = Inventory.model_validate(
        {
            "version": 1,
            "stores": {"s": {"kind": "age_files", "path": "s", "key": {"env": "K"}}},
            "accounts": {"main": {"exchange": code, "site": name, "manager": manager}},
        }
    )
    adapters = InventoryAdapters(LoadedInventory(inventory, (), tmp_path / "keyturn.yaml"))
    try:
        driver = adapters.driver("main")
        assert isinstance(driver, CcxtDriver)
        client = driver._client._exchange
        urls = {client.implode_hostname(url) for url in client.urls["api"].values() if isinstance(url, str)}
        assert urls == {catalog.manifests()[code].sites[name].url}
    finally:
        await adapters.close()
