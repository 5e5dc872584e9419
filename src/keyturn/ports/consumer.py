"""The consumer port: tell whoever uses a credential that it changed, and collect the proof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from keyturn.domain.evidence import Confirmation, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.domain.slots import Stored
from keyturn.ports.store import Finding

#: Opens the current slot of a consumer's credential, freshly read.
ReadCurrent = Callable[[], Awaitable[Stored | None]]


class Consumer(Protocol):
    """One consumer. Every method raises `ConsumerError` with one fault of the closed set."""

    @property
    def can_probe(self) -> bool:
        """Whether this consumer can try a pending key from where it stands."""
        ...

    async def notify(self, notice: Notice) -> None:
        """Tell the consumer. Sending the same notice again has no further effect."""
        ...

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Give the proofs that the consumer has produced for this notice so far."""
        ...

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Give the calls that the exchange has refused to the notice's key for its rights or its address.

        Also after the consumer has confirmed: other calls may have worked. Empty for a kind that cannot tell.
        """
        ...

    async def request_probe(self, request: ProbeRequest) -> None:
        """Ask the consumer to try the pending key, now: its earlier report on it is forgotten.

        Raises:
            ConsumerError: `REFUSED` when `can_probe` is false.
        """
        ...

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Give the report for this request, or None when there is none yet."""
        ...

    async def check(self) -> Sequence[Finding]:
        """Check, without side effect, that the consumer can be reached."""
        ...

    async def close(self) -> None:
        """Release what is held open."""
        ...
