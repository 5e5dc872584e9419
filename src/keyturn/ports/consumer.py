"""The consumer port: tell whoever uses a credential that it changed, and collect the proof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from keyturn.domain.evidence import Confirmation, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.domain.slots import Stored
from keyturn.ports.store import Finding

#: Opens one slot of a consumer's credential, freshly read. Consumers that hand over the key get this, and
#: those that check with it who speaks in their name; the engine never sees what it gives.
ReadKey = Callable[[], Awaitable[Stored | None]]


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
        """Give the proofs that the consumer has produced for this notice so far.

        A mailbox or a webhook gives as `ACK` what was said by who holds the notice's key. What proves less
        has a lesser grade, and its detail says why.

        Raises:
            ConsumerError: `UNAUTHENTICATED` when something was said in its name that does not count; the
                text says what is wrong with it.
        """
        ...

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Give the calls that the exchange has refused to the notice's key for its rights or its address.

        Also after the consumer has confirmed: other calls may have worked. Empty for a kind that cannot tell.

        Raises:
            ConsumerError: `UNAUTHENTICATED` when calls were told in its name, and do not count.
        """
        ...

    async def request_probe(self, request: ProbeRequest) -> None:
        """Ask the consumer to try the pending key, now: its earlier report on it is forgotten.

        Raises:
            ConsumerError: `REFUSED` when `can_probe` is false.
        """
        ...

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Give the report for this request, or None when there is none yet.

        Raises:
            ConsumerError: `UNAUTHENTICATED` when one was given in its name that does not count.
        """
        ...

    async def check(self) -> Sequence[Finding]:
        """Check, without side effect, that the consumer can be reached."""
        ...

    async def close(self) -> None:
        """Release what is held open."""
        ...
