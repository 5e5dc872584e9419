"""Fixtures of the tests against Vault: each kind of server, and a mount for each module."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.stores.vault_kv2 import VaultKv2Store

from .vault_server import Server, simulated

SERVERS = ("simulated", "development", "enforcing")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, vaults: Callable[[str], Server]) -> Iterator[Server]:
    """Run each test on the simulator, on a real server, and on a real one behind TLS."""
    with simulated() if request.param == "simulated" else vaults(request.param).apart() as found:
        yield found


@pytest.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[VaultKv2Store]:
    """Open a store with the rotator's policy and no other right."""
    opened = server.rotator(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def path() -> str:
    return f"bots/p-{secrets.token_hex(4)}"


@pytest.fixture
def one() -> Attempt:
    return Attempt(new_rotation_id(), 1)
