"""Deploying again keeps what a person has paused in Prefect."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows import deploy

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(240)]


async def _deployed(client: Any) -> Any:
    for each in deploy.served(paused=await deploy.pauses(client)):
        await each.aapply()
    return await client.read_deployment_by_name("sweep/sweep")


async def test_a_schedule_that_was_paused_stays_paused_when_it_is_deployed_again(house: Any) -> None:
    async with get_client() as client:
        made = await _deployed(client)
        (schedule,) = made.schedules
        assert schedule.active
        assert not made.paused
        await client.update_deployment_schedule(made.id, schedule.id, active=False)
        again = await _deployed(client)
        assert [each.active for each in again.schedules] == [False]
        await client.update_deployment_schedule(made.id, again.schedules[0].id, active=True)
        assert [each.active for each in (await _deployed(client)).schedules] == [True]


async def test_a_deployment_that_was_paused_stays_paused_when_it_is_deployed_again(house: Any) -> None:
    async with get_client() as client:
        made = await _deployed(client)
        await client.pause_deployment(made.id)
        assert (await _deployed(client)).paused
        await client.resume_deployment(made.id)
        assert not (await _deployed(client)).paused
