"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """The clock port; sleeping moves it on at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 12, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """Give the current time, in UTC."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Move the clock on and let other tasks run."""
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self._now += timedelta(seconds=seconds)

    def set_back(self, seconds: float) -> None:
        """Let somebody mend a clock that was ahead."""
        self._now -= timedelta(seconds=seconds)

    def travel_to(self, moment: datetime) -> None:
        """Move the clock to a moment that has not passed yet; otherwise leave it."""
        self._now = max(self._now, moment)
