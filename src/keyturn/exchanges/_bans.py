"""Keep calls from leaving while a venue bars the address that they come from, or has asked for a pause.

Calls into a ban, or into a limit that is exceeded, prolong it. One driver serves all credentials of an
account, so that a sweep asks once, and not for each of them: the first call of a driver goes alone, and after
a ban the first one does again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from keyturn.domain.errors import ExchangeError, ExchangeFault

T = TypeVar("T")

# To believe any pause would let whoever answers in a venue's place keep calls back for ever.
_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban that stands: what told it, and the seconds that are left of its pause."""

    fault: ExchangeFault
    code: str
    seconds: float


class Bans:
    """Keeps back calls that leave by one address while the venue bars it.

    Args:
        is_ban: tells of an error whether the venue bars the address, or wants a pause.
        time_now: counts seconds.
    """

    def __init__(
        self, is_ban: Callable[[ExchangeError], bool], *, time_now: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_ban = is_ban
        self._now = time_now
        self._alone = asyncio.Lock()
        self._first: asyncio.Task[Any] | None = None
        #: Whether the last call was not barred; not before the first one.
        self._open = False
        self._fault, self._code, self._until = ExchangeFault.BARRED_REGION, "", 0.0

    async def send(self, call: Callable[[], Awaitable[T]], held: Callable[[Ban], ExchangeError]) -> T:
        """Make a call, unless a ban stands.

        Args:
            call: makes it, with its answer judged.
            held: builds the error of a call that does not leave.

        Raises:
            ExchangeError: of the call, or the one that `held` gives.
        """
        if self._open or self._first is asyncio.current_task():
            # The latter: what the first call asks besides, to understand its answer.
            return await self._noted(call)
        async with self._alone:
            if ban := self._standing():
                raise held(ban)
            if not self._open:
                self._first = asyncio.current_task()
                try:
                    return await self._noted(call)
                finally:
                    self._first = None
        # The one that went alone was let in.
        return await self._noted(call)

    def _standing(self) -> Ban | None:
        left = self._until - self._now()
        return Ban(self._fault, self._code, left) if left > 0 else None

    async def _noted(self, call: Callable[[], Awaitable[T]]) -> T:
        before = self._until
        try:
            answer = await call()
        except ExchangeError as error:
            if self._is_ban(error):
                pause = min(error.retry_after or 0.0, _LONGEST_SECONDS)
                self._open, self._until = False, self._now() + pause
                self._fault, self._code = error.fault, error.code
            else:
                # One without any answer is no ban: the others need not wait for its time-out one by one.
                self._open = self._until == before
            raise
        # A call that left before another one was barred says nothing against the ban.
        self._open = self._until == before
        return answer
