"""Keep an endpoint's own rate, whatever delays a call on its way to the venue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# A call that left and has no answer for so long is taken to have been counted: a venue that hangs must not
# make all others wait for their time-outs, one after the other.
_LONGEST_WAY_SECONDS = 1.0


class Pace:
    """Spaces the calls of one endpoint for one account.

    The venue counts a call when it arrives, which is some time after it was given its turn: signing, ccxt's
    throttler, the connection and a busy machine delay it. That it was counted is sure only when its answer
    is there. So calls leave one at a time, each an interval after the answer to the one before.

    (ccxt has one bucket a venue, where an endpoint of one call a second would hold up all others.)
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next_turn = self._next_departure = 0.0
        self._turns, self._departures = asyncio.Lock(), asyncio.Lock()

    async def turn(self) -> None:
        """Wait until a call may be expected to leave at once, and take that turn."""
        async with self._turns:
            # Where answers are slower than the rate, so are turns: no call waits once its intent is written.
            async with self._departures:
                pass
            # An answer that comes meanwhile puts it off.
            while (wait := max(self._next_turn, self._next_departure) - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            self._next_turn = time.monotonic() + self._interval

    @asynccontextmanager
    async def departure(self) -> AsyncIterator[Departure]:
        """Wait until a call may leave; the next one may an interval after the end of this block."""
        await self._departures.acquire()
        departure = Departure(self._counted)
        try:
            await asyncio.sleep(max(0.0, self._next_departure - time.monotonic()))
            yield departure
        finally:
            departure.end()

    def _counted(self, *, has_left: bool) -> None:
        if has_left:
            self._next_departure = time.monotonic() + self._interval
        self._departures.release()


class Departure:
    """One call that may leave."""

    def __init__(self, counted: Callable[..., None]) -> None:
        self._counted: Callable[..., None] | None = counted
        self._timer: asyncio.TimerHandle | None = None

    def left(self) -> None:
        """Say that it is on its way; from here its answer is waited for, but not for long."""
        loop = asyncio.get_running_loop()
        self._timer = self._timer or loop.call_later(_LONGEST_WAY_SECONDS, self.end)

    def end(self) -> None:
        """Say that its answer is there, or that none comes."""
        if self._counted is not None:
            self._counted(has_left=self._timer is not None)
            self._counted = None
        if self._timer is not None:
            self._timer.cancel()
