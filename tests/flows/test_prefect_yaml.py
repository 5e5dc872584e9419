"""`deployments/prefect.yaml` deploys what the code serves, by Prefect's own command."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows import deploy
from flows.deploy import SWEEP_CRON, WANTED, settle_server
from tests.flows.town import DEPLOYED


def test_the_file_and_the_code_name_the_same_deployments_and_schedules() -> None:
    listed = {d["name"]: d for d in yaml.safe_load(DEPLOYED.read_text())["deployments"]}
    assert {n: frozenset(s["slug"] for s in d.get("schedules", [])) for n, d in listed.items()} == WANTED
    assert listed["sweep"]["schedules"][0]["cron"] == SWEEP_CRON
    assert {d["entrypoint"] for d in listed.values()} == {d.entrypoint for d in deploy.served()}
    assert all(d["tags"] == [deploy.TAG] for d in listed.values())


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_prefect_deploys_the_file_with_the_drop_down_of_the_inventory(pool: Any) -> None:
    there = {PREFECT_API_URL: str(pool.api.base_url), PREFECT_API_AUTH_STRING: pool.auth}
    with temporary_settings(there):
        assert await settle_server() == []
        async with get_client() as client:
            rotating = await client.read_deployment_by_name("rotate-credential/rotate")
            sweeping = await client.read_deployment_by_name("sweep/sweep")
    form = rotating.parameter_openapi_schema["definitions"]["RotateRequest"]  # type: ignore[index]
    assert form["properties"]["credential"]["enum"] == sorted(pool.house.uids)
    assert form["additionalProperties"] is False
    assert rotating.entrypoint == "flows.rotate.rotate_credential"
    assert not rotating.pull_steps
    assert [s.slug for s in sweeping.schedules] == ["every-few-minutes"]
