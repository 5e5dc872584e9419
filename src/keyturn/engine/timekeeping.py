"""A rotation whose last step lies in the future: this machine's clock was ahead then, or is behind now."""

from __future__ import annotations

from keyturn.domain import machine
from keyturn.domain.errors import KeyturnError
from keyturn.domain.rotation import CLOCK_MARGIN
from keyturn.engine.work import Rest, Work

# How long to wait for somebody to set the clock, or for the exchange to tell the time.
_LOOK_SECONDS = 60.0


async def set_right(work: Work) -> Rest | None:
    """Judge the rotation by the clock as it is, once the exchange's clock agrees with it.

    A clock that is behind writes nothing: it would cut the grace short for those whose clocks are right.

    Raises:
        SupersededError: another worker moved it on.
    """
    now = work.now()
    if not work.rotation.is_ahead(now):
        return None
    try:
        apart = abs(await work.driver.server_time() - work.now())
    except KeyturnError as error:
        why = f"The exchange could not be asked which is right: {error.what}"
    else:
        if apart <= CLOCK_MARGIN:
            await work.commit(machine.clock_set_back(work.rotation, now, work.world.actor))
            return None
        why = "The exchange's clock shows another time, too: set this machine's clock (NTP)."
    told = f"The last step was written at {work.rotation.updated_at:%Y-%m-%d %H:%M} UTC, which is to come."
    return Rest(work.after(_LOOK_SECONDS), f"{told} {why}")
