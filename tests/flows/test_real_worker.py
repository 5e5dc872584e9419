"""The other way to run: `prefect deploy` to a work pool and a process worker, which is then ended."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(420)]


def worker(pool: Any) -> Any:
    """The worker that an earlier test left at work, or a new one."""
    at_work = [each for each in pool.processes if "worker" in each.args and each.poll() is None]
    return (
        at_work[0] if at_work else pool.prefect("worker", "start", "--pool", "keyturn", "--type", "process")
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_ended_in_the_middle_of_a_rotation_leaves_nothing_unfinished(
    pool: Any, number: signal.Signals
) -> None:
    first = worker(pool)
    run, before = pool.in_the_middle()
    first.send_signal(number)
    if number is signal.SIGKILL:  # a machine that goes down takes the run's process along
        for process in pool.pids("prefect.engine"):
            os.kill(process, number)
    first.wait(150)
    assert pool.state(run)["type"] not in {"COMPLETED", "FAILED"}
    assert worker(pool) is not first
    pool.sweep()
    pool.comes_to_rest()
    assert before not in pool.live()["mm-bybit"]
    assert pool.planted.untouched()
