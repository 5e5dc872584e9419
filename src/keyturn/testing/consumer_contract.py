"""The contract of the consumer port, as a pytest suite that every consumer runs, the fake too.

Subclass it and give the fixture `subject`; nothing beyond the port is assumed of the consumer:

    class TestMyConsumer(ConsumerContract):
        @pytest.fixture
        async def subject(self): yield ConsumerSubject(consumer, "name", move, evidence=Evidence.ACK)
"""
# Test methods say by their name what they prove, and assert.
# ruff: noqa: D102

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import pytest

from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeFault
from keyturn.domain.evidence import Evidence, Notice, NoticeKind, ProbeRequest
from keyturn.ports.consumer import Consumer

T = TypeVar("T")

CREDENTIAL = "contract"
FINGERPRINT, OTHER = "fpnew001", "fpold002"
#: Of the key with `FINGERPRINT`, and of the one with `OTHER`.
SECRET, OLD_SECRET = "not-a-real-secret-1", "not-a-real-secret-0"
#: The call that `ConsumerSubject.refuse` is about, refused for want of a right.
REFUSED = "POST v5/order/create"


class Forgery(StrEnum):
    """What a stranger, or an old message, can leave in the place of a consumer's answer to a notice."""

    UNSEALED = "not sealed with the key"
    BY_OLD_KEY = "sealed with the key before"
    OLDER = "older than the notice"
    FUTURE = "from the future"
    OTHER_CREDENTIAL = "of another credential"
    OTHER_CONSUMER = "of another consumer"
    OTHER_NOTICE = "of another notice"
    OTHER_KEY = "of another key"
    READS_OUR_FILE = "from keyturn's own file"


@dataclass(frozen=True, slots=True)
class ConsumerSubject:
    """A consumer under test, and the hand that plays the bot behind it."""

    consumer: Consumer
    name: str
    #: Makes the bot behind it move to the key of this notice, which the store holds by then.
    move: Callable[[Notice], Awaitable[None]]
    evidence: Evidence = Evidence.ACK
    #: Makes the bot report on a probe; None where `can_probe` is false.
    report: Callable[[ProbeRequest], Awaitable[None]] | None = None
    #: Has the bot behind it, which has moved, meet the refusal of a call by the name of `REFUSED` with the
    #: notice's key; None for a kind that cannot tell.
    refuse: Callable[[Notice], Awaitable[None]] | None = None
    #: Leaves, in the place of the answer to a notice that was sent, one that proves nothing.
    forge: Callable[[Notice, Forgery], Awaitable[None]] | None = None
    #: Leaves a report of a refused call that somebody else wrote; None where there is no way to.
    forge_refusal: Callable[[Notice], Awaitable[None]] | None = None
    #: The forgeries that can be left with this kind.
    forgeries: frozenset[Forgery] = frozenset()

    def notice(self, **changes: object) -> Notice:
        """Make a notice to this consumer; the keyword arguments change its fields."""
        plain = Notice(
            credential=CREDENTIAL,
            consumer=self.name,
            rotation_id="r0000000001",
            kind=NoticeKind.PROMOTED,
            fingerprint=FINGERPRINT,
            version="1",
            confirm_by=datetime.now(UTC) + timedelta(hours=1),
            issued_at=datetime.now(UTC),
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    def probe(self) -> ProbeRequest:
        """Make a probe request to this consumer."""
        return ProbeRequest(CREDENTIAL, self.name, "r0000000001", 1, FINGERPRINT, "1")


async def answered(
    ask: Callable[[Notice], Awaitable[Sequence[T]]], notice: Notice
) -> tuple[list[T], ConsumerError | None]:
    """Ask about a notice: give what counts, and the error if something does not.

    Raises:
        ConsumerError: with another fault than `UNAUTHENTICATED`.
    """
    try:
        return list(await ask(notice)), None
    except ConsumerError as error:
        if error.fault is not ConsumerFault.UNAUTHENTICATED:
            raise
        return [], error


class ConsumerContract:
    """What every consumer does. Give the fixture `subject`."""

    __test__ = False

    def __init_subclass__(cls) -> None:
        """Let pytest collect the subclasses only."""
        cls.__test__ = True

    async def test_nothing_is_confirmed_before_the_consumer_moved(self, subject: ConsumerSubject) -> None:
        assert list(await subject.consumer.confirmations(subject.notice())) == []
        await subject.consumer.notify(subject.notice())
        if subject.evidence is Evidence.ACK:
            assert list(await subject.consumer.confirmations(subject.notice())) == []

    async def test_a_consumer_that_moved_confirms_with_name_rotation_fingerprint_and_grade(
        self, subject: ConsumerSubject
    ) -> None:
        notice, before = subject.notice(), datetime.now(UTC)
        await subject.consumer.notify(notice)
        await subject.move(notice)
        (proof,) = await subject.consumer.confirmations(notice)
        assert (proof.consumer, proof.rotation_id, proof.fingerprint, proof.evidence) == (
            subject.name,
            notice.rotation_id,
            notice.fingerprint,
            subject.evidence,
        )
        assert before - timedelta(seconds=1) <= proof.at <= datetime.now(UTC) + timedelta(seconds=1)

    async def test_asking_again_gives_the_same_answer(self, subject: ConsumerSubject) -> None:
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.move(notice)
        first, second = [await subject.consumer.confirmations(notice) for _ in range(2)]
        assert [(p.fingerprint, p.evidence) for p in first] == [(p.fingerprint, p.evidence) for p in second]

    async def test_a_notice_that_comes_again_takes_nothing_back(self, subject: ConsumerSubject) -> None:
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.move(notice)
        await asyncio.gather(*(subject.consumer.notify(notice) for _ in range(3)))
        assert len(await subject.consumer.confirmations(notice)) == 1

    @pytest.mark.parametrize(
        "other",
        [{"rotation_id": "r0000000002"}, {"kind": NoticeKind.ROLLED_BACK}, {"fingerprint": OTHER}],
        ids=["another rotation", "a roll-back", "another key"],
    )
    async def test_a_proof_is_for_its_own_notice_only(
        self, subject: ConsumerSubject, other: dict[str, object]
    ) -> None:
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.move(notice)
        given, _ = await answered(subject.consumer.confirmations, replace(notice, **other))  # type: ignore[arg-type]
        assert given == []

    @pytest.mark.parametrize("forgery", Forgery)
    async def test_an_answer_that_the_holder_of_the_key_did_not_give_counts_for_nothing_and_is_told(
        self, subject: ConsumerSubject, forgery: Forgery
    ) -> None:
        if subject.forge is None or forgery not in subject.forgeries:
            return
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.forge(notice, forgery)
        given, error = await answered(subject.consumer.confirmations, notice)
        if error is None:
            assert [proof.evidence for proof in given] == [Evidence.TIMED]
            assert given[0].detail
        else:
            assert subject.name in error.what
            assert SECRET not in error.diagnostics()

    async def test_a_refused_call_that_the_holder_of_the_key_did_not_tell_counts_for_nothing_and_is_told(
        self, subject: ConsumerSubject
    ) -> None:
        if subject.forge is None or subject.forge_refusal is None:
            return
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.forge_refusal(notice)
        with pytest.raises(ConsumerError) as caught:
            await subject.consumer.refusals(notice)
        assert caught.value.fault is ConsumerFault.UNAUTHENTICATED

    async def test_a_call_that_is_refused_to_the_new_key_is_told_by_its_name_also_after_the_proof(
        self, subject: ConsumerSubject
    ) -> None:
        notice = subject.notice()
        await subject.consumer.notify(notice)
        assert list(await subject.consumer.refusals(notice)) == []
        await subject.move(notice)
        assert list(await subject.consumer.refusals(notice)) == []
        if subject.refuse is None:
            return
        await subject.refuse(notice)
        for _ in range(2):
            (told,) = await subject.consumer.refusals(notice)
            given = (told.consumer, told.rotation_id, told.fingerprint, told.call, told.fault)
            right = ExchangeFault.MISSING_PERMISSION
            assert given == (subject.name, notice.rotation_id, FINGERPRINT, REFUSED, right)
        assert len(await subject.consumer.confirmations(notice)) == 1

    @pytest.mark.parametrize(
        "other",
        [{"rotation_id": "r0000000002"}, {"kind": NoticeKind.ROLLED_BACK}, {"fingerprint": OTHER}],
        ids=["another rotation", "a roll-back", "another key"],
    )
    async def test_a_refused_call_is_told_for_its_own_notice_only(
        self, subject: ConsumerSubject, other: dict[str, object]
    ) -> None:
        if subject.refuse is None:
            return
        notice = subject.notice()
        await subject.consumer.notify(notice)
        await subject.move(notice)
        await subject.refuse(notice)
        told, _ = await answered(subject.consumer.refusals, replace(notice, **other))  # type: ignore[arg-type]
        assert told == []

    async def test_a_probe_is_reported_or_refused(self, subject: ConsumerSubject) -> None:
        request = subject.probe()
        if not subject.consumer.can_probe:
            with pytest.raises(ConsumerError) as caught:
                await subject.consumer.request_probe(request)
            assert caught.value.fault is ConsumerFault.REFUSED
            assert await subject.consumer.probe_report(request) is None
            return
        assert await subject.consumer.probe_report(request) is None
        await subject.consumer.request_probe(request)
        await subject.consumer.request_probe(request)
        assert subject.report is not None
        await subject.report(request)
        report = await subject.consumer.probe_report(request)
        assert report is not None
        assert (report.consumer, report.fingerprint, report.fault) == (subject.name, FINGERPRINT, "")
        for other in (replace(request, attempt=2), replace(request, fingerprint=OTHER)):
            assert await subject.consumer.probe_report(other) is None

    async def test_a_probe_that_is_asked_for_anew_forgets_the_report_so_far(
        self, subject: ConsumerSubject
    ) -> None:
        if not subject.consumer.can_probe:
            return
        assert subject.report is not None
        request = subject.probe()
        await subject.consumer.request_probe(request)
        await subject.report(request)
        await subject.consumer.request_probe(request)
        assert await subject.consumer.probe_report(request) is None
        await subject.report(request)
        assert await subject.consumer.probe_report(request) is not None

    async def test_checking_finds_it_well_and_tells_it_nothing(self, subject: ConsumerSubject) -> None:
        findings = await subject.consumer.check()
        assert findings
        assert all(finding.ok for finding in findings), findings
        assert list(await subject.consumer.confirmations(subject.notice())) == []

    async def test_closing_twice_is_harmless(self, subject: ConsumerSubject) -> None:
        await subject.consumer.close()
        await subject.consumer.close()
