"""One Prefect server for all tests of this folder, one town, and a house."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from keyturn.simulator import SimBybit

from .house import NAMES, House, material
from .town import DEPLOYED, Town, wait_for


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with SimBybit() as sim:
        sim.add_account("master")
        uids = {n: sim.add_account(n, parent="master").uid for n in NAMES}
        made = House(tmp_path, sim.base_url, uids, sim=sim)
        manager = material(sim.add_key("master", House.manager_rights))
        await made.furnish(manager, {n: material(sim.add_key(n, House.bot_rights)) for n in uids})
        monkeypatch.setenv("KEYTURN_INVENTORY", str(made.file))
        yield made


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, furnish_prefect: Callable[[Path], None]
) -> Iterator[None]:
    """One server for the session; heartbeats off, or every flow would wait a second for their thread."""
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing import utilities

    home = tmp_path_factory.mktemp("harness")
    furnish_prefect(home)
    (home / "prefect.db").rename(home / "prefect-test.db")  # as the harness calls it
    with (
        patch.object(utilities, "mkdtemp", lambda: str(home)),
        utilities.prefect_test_harness(server_startup_timeout=180),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory, furnish_prefect: Callable[[Path], None]) -> Iterator[Town]:
    """A Prefect of one's own with the flows deployed to a work pool, by its own command; of two files."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("these tests find their processes in /proc: run them on Linux")
    made = Town(tmp_path_factory.mktemp("pool"))
    furnish_prefect(made.folder / "prefect")
    try:
        made.python("flows.prefect_server", "--port", str(made.port))
        wait_for("Prefect's server", made.healthy, 180)
        made.post("/work_pools/", {"name": "keyturn", "type": "process"}).raise_for_status()
        # This command puts the folder that it starts in on its path, whatever Python was told (3.8.8).
        deploying = made.prefect("deploy", "--all", "--prefect-file", str(DEPLOYED), folder=DEPLOYED.parent)
        assert deploying.wait(90) == 0, (made.folder / "prefect.out").read_text()
        yield made
    finally:
        made.close()
