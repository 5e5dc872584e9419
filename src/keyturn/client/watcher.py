"""The thread that watches the store and the mailbox for one attached exchange."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from keyturn.client import peers
from keyturn.client.holder import Holder, Loaded
from keyturn.client.link import Link
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import AckMessage, NoticeMessage, ProbeMessage, ProbeReportMessage
from keyturn.client.objects import Objects
from keyturn.client.own_key import OwnKeyWord
from keyturn.client.peers import Peers
from keyturn.client.trial import PASSING, try_key
from keyturn.domain.errors import KEY_FAULTS, ExchangeFault, KeyturnError, StoreError, StoreFault
from keyturn.domain.evidence import NoticeKind, ProbeFault
from keyturn.domain.material import SecretMaterial
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
# A replica may show the sign of a change before the change: for this long after the last sign, or the last
# reading that failed, the store is read on at the pace of looking.
_EAGER = 10.0
# As long as a notice names another key than was read, the store is read at this pace.
_BEHIND_PAUSE = 30.0


@dataclass(slots=True)
class _Trial:
    """One try of a key that is under way or over."""

    future: Future[ExchangeFault | None] | None = None
    loaded: Loaded | None = None
    #: The pending key that is tried; it seals the report on it.
    pending: SecretMaterial | None = None
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
        self._holder, self._mailbox, self._consumer = holder, mailbox, consumer
        self._verify_with, self._verify_after = verify_with, verify_after
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._signature: object = None
        self._ask_at = self._locate_at = self._eager_until = 0.0
        self._read_at = math.inf
        self._noticed: set[str] = set()
        self._seen = holder.current
        self._probing: dict[str, _Trial] = {}
        self._verifying = _Trial()
        #: The attached object and its copies.
        self.objects = Objects(link, Peers(mailbox, holder.credential) if mailbox is not None else None)
        self._own_key = OwnKeyWord(mailbox, holder.credential, consumer)
        self._interval = interval
        self._answers = True
        #: Whether this is a forked process that has made no call yet.
        self._asleep = False
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin watching."""
        self.objects.keep(self)
        self._holder.on_news = self._wake.set
        self._own_key.take_back()
        _watching.add(self)
        self._thread.start()

    def drop(self, link: Link) -> None:
        """Watch an object no longer, and wait for it no longer; end with the last."""
        self.objects.drop(link)
        if not list(self.objects):
            self._stop.set()
            self._wake.set()

    def after_fork(self) -> None:
        """Begin anew in a forked process: it has no thread of the parent's, but the locks that those held."""
        self._holder.after_fork()
        # Events have locks, too.
        self._wake, self._stop = threading.Event(), threading.Event()
        self._holder.on_news = self._wake.set
        # The parent alone answers: it is the one that a notice is for, and this process knows nothing of it.
        self._answers = False
        # Not before the bot's next call there: most forked processes make none.
        self._asleep = True
        for link in self.objects:
            link.after_fork(self.resume)

    def resume(self) -> None:
        """Watch on in a forked process, at its first call."""
        if self._asleep:
            self._asleep = False
            self._thread = self._new_thread()
            self._thread.start()

    def _new_thread(self) -> threading.Thread:
        # The thread knows the watcher weakly, and the exchange object keeps it: an object that the bot has
        # dropped is watched no longer, and the others of its name do not wait for it.
        return threading.Thread(
            target=_run,
            args=(weakref.ref(self), self._wake, self._stop, self._interval),
            name=f"keyturn-{self._holder.credential}",
            daemon=True,
        )

    def stop(self) -> None:
        """End watching; the thread is gone when this returns."""
        _watching.discard(self)
        self._asleep = False
        self._stop.set()
        self._wake.set()
        for link in self.objects:
            link.resume = None
            self.objects.leave(link)
        if self._thread is not threading.current_thread():
            self._thread.join()
        if self._answers and any(link.is_on_own_key for link in self.objects):
            self._own_key.take_back()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def look(self) -> None:
        """Look once at the mailbox and the store, and do what is to be done."""
        try:
            self._look()
        except BaseException as error:  # noqa: BLE001 - a bot must not lose its key watch to our bug
            self._holder.complain("Watching", error)
        else:
            self._holder.well("Watching")

    def _look(self) -> None:
        notices = self._notices()
        self._follow(notices)
        self._read(notices)
        # The key may also have been exchanged by a call that was refused and read the store itself.
        if self._seen is not self._holder.current:
            self._seen = self._holder.current
            self._verifying = _Trial()
            for each in self.objects:
                each.swap_soon()
        # Of a forked process, too.
        current, refused = self._holder.current, self._holder.refused
        # A key that came in between was refused none of these.
        if self._mailbox is not None and refused and current is self._holder.current:
            for notice in (n for n in notices if n.consumer == self._consumer):
                if notice.is_about(current):
                    self._mailbox.add_refusals(notice, refused, current.material)
        if not self._answers:
            return
        self._own_key.tell(self.objects)
        if (link := self.objects.active()) is None:
            return
        waiting = [n for n in notices if self._wants_ack(n)]
        if waiting and self._holder.proof is None:
            self._verify(link)
        for notice in waiting:
            self._acknowledge(notice)
        if self._mailbox is not None:
            self._probe(link, self._mailbox)

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

    def _read(self, notices: list[NoticeMessage]) -> None:
        """Read the store at a sign of a change, and go on while what was read lags behind the sign."""
        names, first = {n.subject for n in notices}, self._signature is None
        moved, told = self._moved(), bool(names - self._noticed)
        self._noticed = names
        if not (moved or told or self._holder.unread or time.monotonic() >= self._read_at):
            return
        self._holder.refresh()
        now, changed, behind = time.monotonic(), self._seen is not self._holder.current, self._behind(notices)
        if changed:
            self._eager_until = 0.0
        # The first signature is no sign: the key was read just before it.
        if self._holder.unread or (moved and not first and not changed) or (behind and (told or changed)):
            self._eager_until = now + _EAGER
        if now < self._eager_until:
            self._read_at = now + getattr(self._holder.source, "pace", 0.0)
        else:
            self._read_at = now + _BEHIND_PAUSE if behind else math.inf

    def _behind(self, notices: list[NoticeMessage]) -> bool:
        """Tell whether keyturn speaks of a key that was not read yet."""
        taken_back = {n.rotation_id for n in notices if n.kind is NoticeKind.ROLLED_BACK}
        return any(
            n.consumer == self._consumer
            and n.fingerprint != self._holder.current.fingerprint
            and (n.kind is NoticeKind.ROLLED_BACK or n.rotation_id not in taken_back)
            for n in notices
        )

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
        current = self._holder.current
        if notice.consumer != self._consumer or not notice.is_about(current):
            return False
        found = self._mailbox.answer(AckMessage, notice.subject) if self._mailbox else None
        # What somebody else wrote, or copied from elsewhere, is written over. One that came too early keyturn
        # takes away.
        return found is None or not (found.message.answers(notice) and found.is_by(current.material))

    def _acknowledge(self, notice: NoticeMessage) -> None:
        current, proof = self._holder.current, self._holder.proof
        stream = self.objects.ready_for(notice)
        # The version may have moved since `_wants_ack`: what is proved and what is named must be one.
        if proof is None or stream is None or not notice.is_about(current):
            return
        if self._mailbox is not None and proof.loaded is current:
            self._mailbox.put_sealed(
                AckMessage(
                    credential=notice.credential,
                    consumer=self._consumer,
                    rotation_id=notice.rotation_id,
                    fingerprint=current.fingerprint,
                    kind=notice.kind,
                    at=datetime.now(UTC),
                    call=proof.call,
                    private_stream=stream,
                ),
                current.material,
            )

    def _verify(self, link: Link) -> None:
        """Make the signed call that an idle bot does not make."""
        now, current, trial = time.monotonic(), self._holder.current, self._verifying
        if trial.future is not None and trial.future.done():
            fault = _outcome(trial.future)
            trial.future, trial.not_before = None, now + _VERIFY_PAUSE
            if fault is None:
                self._holder.note_success(trial.loaded, f"{self._verify_with} (made by keyturn)")
                return
            self._holder.complain("The signed call with the new key", KeyturnError(fault))
        idle = now - current.since >= self._verify_after
        if self._verify_with and idle and trial.future is None and now >= trial.not_before:
            trial.loaded = current
            trial.future = try_key(link, current.material, self._verify_with)

    def _probe(self, link: Link, mailbox: Mailbox) -> None:
        probes = [p for p in mailbox.probes(self._holder.credential) if p.consumer == self._consumer]
        # Whoever takes the report away asks anew: that trial begins from the start.
        waiting = [p for p in probes if mailbox.report(p.rotation_id, p.attempt) is None]
        self._probing = {p.subject: self._probing.get(p.subject, _Trial()) for p in waiting}
        for probe in waiting:
            self._advance(link, probe, self._probing[probe.subject], mailbox)

    def _advance(self, link: Link, probe: ProbeMessage, trial: _Trial, mailbox: Mailbox) -> None:
        now = time.monotonic()
        if trial.future is None:
            if now >= trial.not_before:
                self._begin(link, probe, trial, mailbox)
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
        trial.refusals += fault in KEY_FAULTS
        if (fault in KEY_FAULTS and trial.refusals < _PROBE_TRIES) or trial.pending is None:
            return
        mailbox.put_sealed(ProbeReportMessage.on(probe, fault, datetime.now(UTC)), trial.pending)

    def _begin(self, link: Link, probe: ProbeMessage, trial: _Trial, mailbox: Mailbox) -> None:
        try:
            stored = self._holder.source.read(Slot.PENDING)
        except StoreError as error:
            if error.fault is not StoreFault.DENIED:
                raise
            # Many bots may read what is current and no more. A person must act: asking again is of no use.
            self._holder.complain("Reading the pending key", error)
            denied = ProbeReportMessage.on(probe, ProbeFault.PENDING_DENIED, datetime.now(UTC))
            mailbox.put_sealed(denied, self._holder.current.material)
            return
        self._holder.well("Reading the pending key")
        meta = stored.info.meta if stored else None
        if stored is None or meta is None:
            return
        # Only the very key that was asked about: a later attempt's key would prove nothing.
        if meta.fingerprint == probe.fingerprint and stored.info.version == probe.version:
            trial.pending = stored.material
            trial.future = try_key(link, stored.material, self._verify_with or "fetch_balance")


_watching: weakref.WeakSet[Watcher] = weakref.WeakSet()


def _after_fork() -> None:
    peers.after_fork()
    for watcher in list(_watching):
        watcher.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _run(
    watched: weakref.ref[Watcher], wake: threading.Event, stop: threading.Event, interval: float
) -> None:
    while not stop.is_set():
        watcher = watched()
        if watcher is None:
            return
        watcher.look()
        del watcher
        wake.wait(interval)
        wake.clear()


def _outcome(future: Future[ExchangeFault | None]) -> ExchangeFault | None:
    # Cancelled: the bot's loop ended under the call. That says nothing about the key.
    with suppress(BaseException):
        return future.result(timeout=0)
    return ExchangeFault.VENUE_DOWN
