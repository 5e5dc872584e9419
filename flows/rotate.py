"""The flow that rotates one credential: by hand, by an automation, or sent by the sweep."""

from __future__ import annotations

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.ending import Ending, ending, told
from flows.following import follow
from flows.forms import RotateRequest, filled
from flows.report import publish_plan, publish_story
from keyturn.domain.difference import read_names
from keyturn.domain.rotation import Mode
from tasks.boundary import PlainError, PlainRefusalError, bounded
from tasks.rotation import confirm_consumers, open_rotation, plan_rotation
from tasks.world import engine, opened


# Prefect's own validation would fail the run with a traceback; ours refuses in words.
@flow(
    name="rotate-credential",
    description="Replace the API key of one credential: mint, store, cut over, prove, revoke.",
    validate_parameters=False,
    persist_result=False,
    log_prints=False,
)
async def rotate_credential(request: RotateRequest) -> Ending:
    """Rotate a credential.

    The run ends Completed, as `Waiting` when a sweep goes on later, or Failed as `Refused`, `Parked`,
    `Aborted` with a text that says what happened, what is true now and what to do.

    Args:
        request: What to rotate.
    """
    try:
        return await _rotate(request)
    except PlainError as error:
        return told(error)


@bounded
async def _rotate(answers: object) -> Ending:
    request, run = filled(RotateRequest, answers), flow_run.id
    async with opened(actor_of(run, request.requested_by)) as at_work:
        if request.credential not in at_work.world.inventory.credentials:
            raise _unknown()
        await _name_run(run, f"rotate {request.credential}")
        mode = Mode.INCIDENT if request.now else Mode.MANUAL
        if request.dry_run:
            text = await publish_plan(await plan_rotation(request.credential, mode))
            return Completed(name="Planned", message=text)
        if vouched := read_names(request.confirmed):
            begun = await confirm_consumers(request.credential, vouched, request.requested_by, request.reason)
        else:
            lost = read_names(request.accept_loss)
            begun = await open_rotation(
                request.credential, mode, request.reason, engine().world.actor, accept_loss=lost
            )
        view = await follow(begun)
        await publish_story(view)
        return ending(view)


def actor_of(run: str | None, requested_by: str) -> str:
    """Name who acts, for the journal: the flow run, so that it finds its own rotation again, and a person."""
    return f"prefect:{run} for {requested_by}"


def _unknown() -> PlainRefusalError:
    return PlainRefusalError(
        "The chosen credential is not in the inventory.\n"
        "Now: nothing was changed.\n"
        "Do: choose another; if the drop-down offers names that are gone, deploy again (keyturn up does)."
    )


async def _name_run(run: str | None, name: str) -> None:
    """Name the run after its credential, once it is known to be one: names are stored for ever."""
    if run is not None:
        async with get_client() as client:
            await client.set_flow_run_name(run, name)  # type: ignore[arg-type]
