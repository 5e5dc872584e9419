"""`deployments/prefect.yaml` deploys what the code serves, by Prefect's own command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows import deploy
from flows.deploy import SWEEP_CRON, WANTED, settle_server

FILE = Path(__file__).parents[2] / "deployments" / "prefect.yaml"


def test_the_file_and_the_code_name_the_same_deployments_and_schedules() -> None:
    listed = {d["name"]: d for d in yaml.safe_load(FILE.read_text())["deployments"]}
    assert {n: frozenset(s["slug"] for s in d.get("schedules", [])) for n, d in listed.items()} == WANTED
    assert listed["sweep"]["schedules"][0]["cron"] == SWEEP_CRON
    assert {d["entrypoint"] for d in listed.values()} == {d.entrypoint for d in deploy.served()}
    assert all(d["tags"] == [deploy.TAG] for d in listed.values())


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.timeout(240)
async def test_prefect_deploys_the_file_with_the_drop_down_of_the_inventory(house: Any) -> None:
    environ = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}

    def prefect(*arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command,
            env=environ,
            cwd=FILE.parents[1],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "keyturn", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", str(FILE))
    assert await settle_server() == []
    async with get_client() as client:
        rotating = await client.read_deployment_by_name("rotate-credential/rotate")
        sweeping = await client.read_deployment_by_name("sweep/sweep")
    form = rotating.parameter_openapi_schema["definitions"]["RotateRequest"]  # type: ignore[index]
    assert form["properties"]["credential"]["enum"] == sorted(house.uids)
    assert form["additionalProperties"] is False
    assert rotating.entrypoint == "flows.rotate.rotate_credential"
    assert not rotating.pull_steps
    assert [s.slug for s in sweeping.schedules] == ["every-few-minutes"]
