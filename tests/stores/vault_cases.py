"""Fixtures of the tests against Vault: each kind of server once for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from keyturn.stores.vault_kv2 import VaultKv2Store

from .vault_server import Server, development, enforcing, simulated

SERVERS = ("simulated", "development", "enforcing")


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run each test on the simulator, on a real server, and on a real one behind TLS."""
    folder = tmp_path_factory.mktemp(request.param)
    opened = {
        "simulated": simulated,
        "development": lambda: development(folder),
        "enforcing": lambda: enforcing(folder),
    }
    with opened[request.param]() as found:
        yield found


@pytest.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[VaultKv2Store]:
    """Open a store with the rotator's policy and no other right."""
    opened = server.rotator(tmp_path)
    yield opened
    await opened.close()
