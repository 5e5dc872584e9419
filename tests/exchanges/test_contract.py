"""Every venue of the catalog, and the fake, keep the contract of the exchange port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from keyturn.exchanges import catalog
from keyturn.testing.driver_contract import ExchangeDriverContract
from keyturn.testing.driver_contract_support import DriverBench

from .benches import BENCHES


class TestDrivers(ExchangeDriverContract):
    # From the catalog, so that a new folder without a bench fails here.
    @pytest.fixture(params=[*catalog.manifests(), "memory"])
    async def bench(self, request: pytest.FixtureRequest) -> AsyncIterator[DriverBench]:
        async with BENCHES[request.param]() as bench:
            yield bench
