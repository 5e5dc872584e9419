"""The consumer fake: does what a test tells it to, and remembers what it was told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeFault
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.domain.keys import KeyFacts
from keyturn.ports.store import Finding


class MemoryConsumer:
    """A `Consumer` without a bot behind it.

    Args:
        name: of the consumer.
        polls: how often `confirmations` is asked in vain before it confirms; None for never.
        evidence: the grade of its proof.
        can_probe: whether it takes probe requests.
    """

    def __init__(
        self,
        name: str,
        *,
        polls: int | None = 0,
        evidence: Evidence = Evidence.ACK,
        can_probe: bool = False,
    ) -> None:
        self.name = name
        self.polls = polls
        self.evidence = evidence
        self.can_probe = can_probe
        #: Raised by every call from now on; None to be well again.
        self.fault: ConsumerFault | None = None
        #: The notices that were taken, by id, in the order of their first coming.
        self.notices: dict[str, Notice] = {}
        #: How often a notice came, repetitions counted.
        self.told = 0
        self.probes: list[ProbeRequest] = []
        #: What a probe finds: facts when the key works, and else a fault; None for no report yet, and
        #: when the same probe is asked for again.
        self.probe_result: KeyFacts | str | None = ""
        #: The calls that it tells as refused, of whatever key it is asked about.
        self.refused: list[str] = []
        #: What was said in its name and does not count; None: nothing was.
        self.forged: str | None = None
        self._asked: dict[str, int] = {}

    async def notify(self, notice: Notice) -> None:
        """Take the notice; see the port."""
        self._fail()
        self.told += 1
        self.notices.setdefault(notice.notice_id, notice)

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Confirm when `polls` are over; see the port."""
        self._fail()
        known = self.notices.get(notice.notice_id)
        if self.forged is not None:
            raise ConsumerError(
                ConsumerFault.UNAUTHENTICATED, f"Of {self.name} does not count: {self.forged}."
            )
        if known is None or known.fingerprint != notice.fingerprint or self.polls is None:
            return []
        asked = self._asked[notice.notice_id] = self._asked.get(notice.notice_id, 0) + 1
        if asked <= self.polls:
            return []
        return [
            Confirmation(self.name, notice.rotation_id, notice.fingerprint, self.evidence, datetime.now(UTC))
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Tell `refused`; see the port."""
        self._fail()
        if self.forged is not None:
            raise ConsumerError(
                ConsumerFault.UNAUTHENTICATED, f"Of {self.name} does not count: {self.forged}."
            )
        known = self.notices.get(notice.notice_id)
        if known is None or known.fingerprint != notice.fingerprint:
            return []
        return [
            Refusal(
                self.name,
                notice.rotation_id,
                notice.fingerprint,
                call,
                ExchangeFault.MISSING_PERMISSION,
                datetime.now(UTC),
            )
            for call in self.refused
        ]

    async def request_probe(self, request: ProbeRequest) -> None:
        """Take the request; see the port."""
        self._fail()
        if not self.can_probe:
            raise ConsumerError(ConsumerFault.REFUSED, f"{self.name} cannot try a key.")
        if request in self.probes:
            self.probe_result = None
        else:
            self.probes.append(request)

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Give `probe_result` as a report; see the port."""
        self._fail()
        if request not in self.probes or self.probe_result is None:
            return None
        facts = self.probe_result if isinstance(self.probe_result, KeyFacts) else None
        fault = self.probe_result if isinstance(self.probe_result, str) else ""
        return ProbeReport(self.name, request.fingerprint, datetime.now(UTC), facts, fault=fault)

    async def check(self) -> Sequence[Finding]:
        """Say that all is well, unless it is told to fail."""
        return [Finding(f"consumer {self.name}", ok=self.fault is None, detail="in memory")]

    async def close(self) -> None:
        """Do nothing."""

    def _fail(self) -> None:
        if self.fault is not None:
            raise ConsumerError(self.fault, f"{self.name} was told to fail: {self.fault}.")
