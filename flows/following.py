"""Go on with a rotation for as long as it only rests for a moment."""

from __future__ import annotations

from prefect.logging import get_run_logger

from flows.report import publish_story
from keyturn.domain.rotation import State
from tasks.rotation import DOING, step_rotation
from tasks.view import RotationView
from tasks.world import engine

# How long a run may wait in place, in all: for confirmations, which come within seconds, and for a short
# grace. Whatever takes longer is the sweep's; a flow run that sleeps for hours dies with its worker.
PATIENCE_SECONDS = 60.0
# Clocks that tell the time and clocks that sleep differ by microseconds; without this a step would find
# itself a moment too early and rest once more.
_WAKE_MARGIN_SECONDS = 0.01
# A rest that a person watching the run would notice: worth an artifact in between.
_NOTICEABLE_SECONDS = 2.0


async def follow(view: RotationView, *, patience: float = PATIENCE_SECONDS) -> RotationView:
    """Step a rotation until it is closed, needs a person, or rests for longer than the patience left.

    Args:
        view: where it stands.
        patience: seconds of rest, in all.
    """
    clock, log, told = engine().world.clock, get_run_logger(), False
    while view.is_open:
        if view.rests:
            if view.wake_at is None or view.state is State.PARKED:
                return view
            pause = max(0.0, (view.wake_at - clock.now()).total_seconds()) + _WAKE_MARGIN_SECONDS
            if pause > patience:
                return view
            if pause > _NOTICEABLE_SECONDS and not told:
                await publish_story(view)
                told = True
            patience -= pause
            await clock.sleep(pause)
        before = view.state
        view = await step_rotation(view.rotation_id, view.credential, DOING[before])
        if view.state is not before:
            log.info("%s: %s, then %s", view.credential, before, view.state)
    return view
