"""The thread that watches the store and the mailbox for one attached exchange."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from keyturn.client.holder import Holder
from keyturn.client.link import Link
from keyturn.client.mailbox import AckMessage, Mailbox, NoticeMessage, ProbeMessage, ProbeReportMessage
from keyturn.client.trial import PASSING, try_key
from keyturn.domain.errors import ExchangeFault, KeyturnError, StoreError, StoreFault
from keyturn.domain.evidence import NoticeKind, ProbeFault
from keyturn.domain.slots import Slot

# A key that the venue does not know is tried again: ten seconds in all, five times the slowest propagation
# that a manifest declares.
_PROBE_TRIES = 6
_PROBE_PAUSE = 2.0
# A probe that met a passing fault is made again for as long as it is asked for, at a pause that doubles
# up to this.
_PROBE_PAUSE_CAP = 60.0
# A key that does not work for an idle bot is tried again at this pace.
_VERIFY_PAUSE = 10.0
# After the notice that the credential moved, the inventory is read at this pace until it says where to.
_LOCATE_PAUSE = 2.0


@dataclass(slots=True)
class _Trial:
    """One try of a key that is under way or over."""

    future: Future[ExchangeFault | None] | None = None
    version: str = ""
    refusals: int = 0
    pause: float = 0.0
    not_before: float = 0.0


class Watcher:
    """Swaps, acknowledges, probes. No failure in here reaches the bot.

    Args:
        link: the attached exchange.
        holder: of its credential.
        mailbox: None for a bot that only follows the store.
        consumer: the name under which the bot answers.
        interval: seconds between two looks.
        verify_with: the exchange's method for a signed call when the bot makes none; None to make none.
        verify_after: seconds that the bot has for making one itself.
    """

    def __init__(
        self,
        link: Link,
        holder: Holder,
        mailbox: Mailbox | None,
        consumer: str,
        *,
        interval: float,
        verify_with: str | None,
        verify_after: float,
    ) -> None:
        self._link, self._holder, self._mailbox, self._consumer = link, holder, mailbox, consumer
        self._interval, self._verify_with, self._verify_after = interval, verify_with, verify_after
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._signature: object = None
        self._ask_at = self._locate_at = 0.0
        self._noticed: set[str] = set()
        self._seen = holder.current.version
        self._probing: dict[str, _Trial] = {}
        self._verifying = _Trial()
        self._thread = threading.Thread(target=self._run, name=f"keyturn-{holder.credential}", daemon=True)

    def start(self) -> None:
        """Begin watching."""
        self._holder.on_proof = self._wake.set
        self._thread.start()

    def stop(self) -> None:
        """End watching; the thread is gone when this returns."""
        self._stop.set()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except (KeyturnError, OSError) as error:
                self._holder.complain("Watching", error)
            except BaseException as error:  # noqa: BLE001 - a bot must not lose its key watch to our bug
                self._holder.complain("Watching", error)
            else:
                self._holder.well("Watching")
            self._wake.wait(self._interval)
            self._wake.clear()

    def _look(self) -> None:
        notices = self._notices()
        self._follow(notices)
        names = {n.subject for n in notices}
        if self._moved() or names - self._noticed or self._holder.unread:
            self._holder.refresh()
        self._noticed = names
        # The version may also have been exchanged by a call that was refused and read the store itself.
        if self._seen != self._holder.current.version:
            self._seen = self._holder.current.version
            self._verifying = _Trial()
            self._link.swap_soon()
        waiting = [n for n in notices if self._wants_ack(n)]
        if waiting and self._holder.proof is None:
            self._verify()
        for notice in waiting:
            self._acknowledge(notice)
        if self._mailbox is not None:
            self._probe(self._mailbox)

    def _notices(self) -> list[NoticeMessage]:
        try:
            found = self._mailbox.notices(self._holder.credential) if self._mailbox else []
        except OSError as error:
            # The swap must not wait for the mailbox.
            self._holder.complain("Reading the mailbox", error)
            return []
        self._holder.well("Reading the mailbox")
        return found

    def _follow(self, notices: list[NoticeMessage]) -> None:
        """Go where the credential has moved to, by what the inventory says now."""
        now = time.monotonic()
        moved = [n for n in notices if n.kind is NoticeKind.MOVED and n.consumer == self._consumer]
        here = getattr(self._holder.source, "place", "")
        if now < self._locate_at or all(n.version.partition(".")[0] == here for n in moved):
            return
        self._locate_at = now + _LOCATE_PAUSE
        self._holder.relocate()

    def _moved(self) -> bool:
        if time.monotonic() < self._ask_at:
            return False
        # A server is not asked at every look; the looks in between are at the mailbox alone.
        self._ask_at = time.monotonic() + getattr(self._holder.source, "pace", 0.0)
        try:
            signature = self._holder.source.signature()
        except (KeyturnError, OSError) as error:
            self._holder.complain("Watching the store", error)
            return False
        self._holder.well("Watching the store")
        moved = signature != self._signature
        self._signature = signature
        return moved

    def _wants_ack(self, notice: NoticeMessage) -> bool:
        if notice.consumer != self._consumer or notice.fingerprint != self._holder.current.fingerprint:
            return False
        if notice.kind is NoticeKind.MOVED and notice.version != self._holder.current.version:
            # The key is the same at both places; what counts is where it was read.
            return False
        ack = self._mailbox.ack(notice.subject) if self._mailbox else None
        return ack is None or ack.fingerprint != notice.fingerprint

    def _acknowledge(self, notice: NoticeMessage) -> None:
        current, proof = self._holder.current, self._holder.proof
        stream = self._link.streams.status() if self._link.streams else "none"
        # The version may have moved since `_wants_ack`: what is proved and what is named must be one.
        if proof is None or stream is None or notice.fingerprint != current.fingerprint:
            return
        if self._mailbox is not None and proof.version == current.version:
            self._mailbox.put(
                AckMessage(
                    credential=notice.credential,
                    consumer=self._consumer,
                    rotation_id=notice.rotation_id,
                    fingerprint=current.fingerprint,
                    kind=notice.kind,
                    at=proof.at,
                    call=proof.call,
                    private_stream=stream,
                )
            )

    def _verify(self) -> None:
        """Make the signed call that an idle bot does not make."""
        now, current, trial = time.monotonic(), self._holder.current, self._verifying
        if trial.future is not None and trial.future.done():
            fault = _outcome(trial.future)
            trial.future, trial.not_before = None, now + _VERIFY_PAUSE
            if fault is None:
                self._holder.note_success(trial.version, f"{self._verify_with} (made by keyturn)")
                return
            self._holder.complain("The signed call with the new key", KeyturnError(fault))
        idle = now - current.since >= self._verify_after
        if self._verify_with and idle and trial.future is None and now >= trial.not_before:
            trial.version = current.version
            trial.future = try_key(self._link, current.material, self._verify_with)

    def _probe(self, mailbox: Mailbox) -> None:
        probes = [p for p in mailbox.probes(self._holder.credential) if p.consumer == self._consumer]
        # Whoever takes the report away asks anew: that trial begins from the start.
        waiting = [p for p in probes if mailbox.report(p.rotation_id, p.attempt) is None]
        self._probing = {p.subject: self._probing.get(p.subject, _Trial()) for p in waiting}
        for probe in waiting:
            self._advance(probe, self._probing[probe.subject], mailbox)

    def _advance(self, probe: ProbeMessage, trial: _Trial, mailbox: Mailbox) -> None:
        now = time.monotonic()
        if trial.future is None:
            if now >= trial.not_before:
                self._begin(probe, trial, mailbox)
            return
        if not trial.future.done():
            return
        fault = _outcome(trial.future)
        trial.future, trial.not_before = None, now + _PROBE_PAUSE
        if fault in PASSING:
            # A report is the last word on a key, and this says nothing about it.
            trial.pause = min(max(2 * trial.pause, _PROBE_PAUSE), _PROBE_PAUSE_CAP)
            trial.not_before = now + trial.pause
            return
        trial.refusals += fault is ExchangeFault.INVALID_KEY
        if fault is ExchangeFault.INVALID_KEY and trial.refusals < _PROBE_TRIES:
            return
        self._report(probe, mailbox, fault)

    def _report(
        self, probe: ProbeMessage, mailbox: Mailbox, fault: ExchangeFault | ProbeFault | None
    ) -> None:
        mailbox.put(
            ProbeReportMessage(
                credential=probe.credential,
                consumer=self._consumer,
                rotation_id=probe.rotation_id,
                fingerprint=probe.fingerprint,
                attempt=probe.attempt,
                at=datetime.now(UTC),
                fault=fault,
            )
        )

    def _begin(self, probe: ProbeMessage, trial: _Trial, mailbox: Mailbox) -> None:
        try:
            stored = self._holder.source.read(Slot.PENDING)
        except StoreError as error:
            if error.fault is not StoreFault.DENIED:
                raise
            # Many bots may read what is current and no more. A person must act: asking again is of no use.
            self._holder.complain("Reading the pending key", error)
            self._report(probe, mailbox, ProbeFault.PENDING_DENIED)
            return
        self._holder.well("Reading the pending key")
        meta = stored.info.meta if stored else None
        if stored is None or meta is None:
            return
        # Only the very key that was asked about: a later attempt's key would prove nothing.
        if meta.fingerprint == probe.fingerprint and stored.info.version == probe.version:
            trial.future = try_key(self._link, stored.material, self._verify_with or "fetch_balance")


def _outcome(future: Future[ExchangeFault | None]) -> ExchangeFault | None:
    # Cancelled: the bot's loop ended under the call. That says nothing about the key.
    with suppress(BaseException):
        return future.result(timeout=0)
    return ExchangeFault.VENUE_DOWN
