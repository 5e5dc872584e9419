"""The other way to run: `prefect deploy` to a work pool and a process worker, which is then ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "deployments" / "prefect.yaml"

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def town(
    tmp_path_factory: pytest.TempPathFactory, make_town: Any, furnish_prefect: Callable[[Path], None]
) -> Iterator[Any]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("these tests find their processes in /proc: run them on Linux")
    made = make_town(tmp_path_factory.mktemp("pool"))
    furnish_prefect(made.folder / "prefect")
    try:
        made.python("flows.prefect_server", "--port", str(made.port))
        made.wait_for("Prefect's server", made.healthy, 180)
        assert made.prefect("work-pool", "create", "keyturn", "--type", "process").wait(60) == 0
        # This command puts the folder that it starts in on its path, whatever Python was told (3.8.8).
        deploying = made.prefect("deploy", "--all", "--prefect-file", str(FILE), folder=FILE.parent)
        assert deploying.wait(90) == 0
        yield made
    finally:
        made.close()


def worker(town: Any) -> Any:
    return town.prefect("worker", "start", "--pool", "keyturn", "--type", "process")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_ended_in_the_middle_of_a_rotation_leaves_nothing_unfinished(
    town: Any, number: signal.Signals
) -> None:
    first = worker(town)
    run, before = town.in_the_middle()
    first.send_signal(number)
    if number is signal.SIGKILL:  # a machine that goes down takes the run's process along
        for process in town.pids("prefect.engine"):
            os.kill(process, number)
    first.wait(150)
    assert town.state(run)["type"] not in {"COMPLETED", "FAILED"}
    second = worker(town)
    town.at_rest()
    assert before not in town.live()["mm-bybit"]
    assert town.planted.untouched()
    second.terminate()
    second.wait(150)
