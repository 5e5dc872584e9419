"""What stands on a Prefect server: two deployments, one schedule, one automation. Deploying reconciles.

Prefect keeps what once was deployed: a schedule that left the file still fires, a drop-down shows the
names of the day it was deployed. So whatever carries our tag and is not listed here is removed.

After `prefect deploy`, run `python -P -m flows.deploy`: it does what `prefect deploy` leaves out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.rotate import rotate_credential
from flows.sweep import sweep

#: Marks what is ours on a server that may hold other work.
TAG = "keyturn"
ROTATE, SWEEP = "rotate", "sweep"
SWEEP_SLUG = "every-few-minutes"
SWEEP_CRON = "*/5 * * * *"
#: Deployment -> the slugs of its schedules; `deployments/prefect.yaml` names the same.
WANTED: Mapping[str, frozenset[str]] = {ROTATE: frozenset(), SWEEP: frozenset({SWEEP_SLUG})}

#: Prefect's shortest interval between two signs of life of a flow run.
HEARTBEAT_SECONDS = 30
# Three missed signs of life and a slow server.
_SILENCE = timedelta(seconds=4 * HEARTBEAT_SECONDS)
_AUTOMATION = "keyturn: close runs whose worker is gone"
# Whatever happens to a run is a sign of life. Prefect's own recipe lists the final states by name, and so
# marks runs as crashed that are suspended, paused, being cancelled, or ended under a name of our own.
_SIGN_OF_LIFE = "prefect.flow-run.*"


@dataclass(frozen=True)
class Pauses:
    """What a person has paused in Prefect of the deployment that sweeps."""

    deployment: bool = False
    schedule: bool = False


async def pauses(client: PrefectClient) -> Pauses:
    """Read what is paused now; deploying as if nothing were would undo it."""
    try:
        there = await client.read_deployment_by_name(f"{sweep.name}/{SWEEP}")
    except ObjectNotFound:
        return Pauses()
    ours = [each for each in there.schedules if each.slug == SWEEP_SLUG]
    return Pauses(there.paused, any(not each.active for each in ours))


def served(cron: str = SWEEP_CRON, paused: Pauses | None = None) -> list[RunnerDeployment]:
    """Build the deployments, with the inventory's names as they are now.

    Their entry points are module paths, with a dot before the function: with a colon Prefect takes them
    for files at run time and copies the working directory (3.8.8, seen 2026-11-21).
    """
    paused = paused or Pauses()
    rotating = RunnerDeployment.from_flow(
        rotate_credential, ROTATE, tags=[TAG], entrypoint_type=EntrypointType.MODULE_PATH
    )
    sweeping = RunnerDeployment.from_flow(
        sweep,
        SWEEP,
        tags=[TAG],
        paused=paused.deployment,
        schedules=[Cron(cron, slug=SWEEP_SLUG, active=not paused.schedule)],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    for each in (rotating, sweeping):
        # Said outright, so that it is taken from a work pool to which it was deployed before.
        each.work_pool_name = None
        each.work_queue_name = None
    return [rotating, sweeping]


async def reconcile(client: PrefectClient) -> list[str]:
    """Remove deployments and schedules of ours that are not wanted any more; say what was removed."""
    removed = []
    ours = await client.read_deployments(
        deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    )
    for deployment in ours:
        if deployment.name not in WANTED:
            await client.delete_deployment(deployment.id)
            removed.append(f"deployment {deployment.name}")
            continue
        for schedule in await client.read_deployment_schedules(deployment.id):
            if schedule.slug not in WANTED[deployment.name]:
                await client.delete_deployment_schedule(deployment.id, schedule.id)
                removed.append(f"schedule {schedule.slug or schedule.id} of {deployment.name}")
    return removed


def zombie_watch() -> AutomationCore:
    """Build the automation that closes the rows of runs whose process died without a word.

    It touches Prefect's rows alone. The rotation itself is in the journal and the sweep goes on with it.
    """
    return AutomationCore(
        name=_AUTOMATION,
        description="Marks runs without a sign of life as Crashed; their rotations go on by the sweep.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={_SIGN_OF_LIFE},
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{TAG}",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="No sign of life from the run's process. The sweep goes on with its rotation.",
            )
        ],
    )


async def watch_for_zombies(client: PrefectClient) -> None:
    """Create the automation, or bring the one that is there up to date; remove doubles.

    One that is as it should be is left alone: an update makes the server forget which runs it was waiting
    for (3.8.8, seen 2026-11-21), and a worker that starts again after a crash is when it has some.
    """
    wanted = zombie_watch()
    there = await client.read_automations_by_name(_AUTOMATION)
    if not there:
        await client.create_automation(wanted)
        return
    if _substance(there[0]) != _substance(wanted):
        await client.update_automation(there[0].id, wanted)
    for double in there[1:]:
        await client.delete_automation(double.id)


def _substance(automation: AutomationCore) -> dict[str, Any]:
    """Give what makes the automation what it is: not its ids, and not whether a person turned it off."""
    told = automation.model_dump(mode="python", include={"description", "trigger", "actions"})
    told["trigger"].pop("id", None)
    return told


async def settle_server() -> list[str]:
    """Reconcile and set the watch; say what was removed."""
    async with get_client() as client:
        removed = await reconcile(client)
        await watch_for_zombies(client)
    return removed


if __name__ == "__main__":
    asyncio.run(settle_server())
