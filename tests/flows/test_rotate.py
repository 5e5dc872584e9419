from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.rotate import rotate_credential

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(240)]


def form(credential: str = "mm-bybit", **more: Any) -> dict[str, Any]:
    return {"credential": credential, "reason": "a test asks for it", "requested_by": "alice"} | more


async def test_one_run_turns_the_key(house: Any) -> None:
    (before,) = house.live("mm-bybit")
    state = await rotate_credential(form(), return_state=True)
    print(state.name, state.message)
    assert state.is_completed()
    (after,) = house.live("mm-bybit")
    assert after != before
    async with get_client() as client:
        run = await client.read_flow_run(state.state_details.flow_run_id)
        tasks = await client.read_task_runs()
        arts = await client.read_artifacts()
    print(run.name, [t.name for t in tasks])
    print(arts[0].data)
