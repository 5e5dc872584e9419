"""A bot that runs `keyturn.client`, reached through its mailbox."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from keyturn.access import OpenToOthersError, trusted, who_writes
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import (
    AckMessage,
    Message,
    MessageT,
    NoticeMessage,
    ProbeMessage,
    ProbeReportMessage,
    RefusalsMessage,
)
from keyturn.client.sealed import Answer
from keyturn.consumers import doubts
from keyturn.consumers.opened import key_of, opened
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import (
    Confirmation,
    Evidence,
    Notice,
    ProbeFault,
    ProbeReport,
    ProbeRequest,
    Refusal,
)
from keyturn.groups import closed_to, not_handed_on, number_of
from keyturn.ports.consumer import ReadKey
from keyturn.ports.store import Finding

T = TypeVar("T")

_USABLE = "Let the user that runs keyturn own the folder, and see that the disk has room."

_STREAMS = {
    "none": "",
    "logged_in": "; its private stream logged in again",
    "not_reopened": "; its private stream was not opened again",
}


_UNCHECKED = "What the bot says could not be checked; it is looked at again."
_TODO = (
    "Upgrade keyturn where the bot runs, if it is older than this one, and start the bot anew;"
    " then see who else can write to the mailbox: keyturn doctor"
)
_NAMES: dict[type[Message], str] = {
    AckMessage: "acknowledgement",
    RefusalsMessage: "report of refused calls",
    ProbeReportMessage: "report on the pending key",
}


class MailboxConsumer:
    """Writes notices and probe requests, reads acknowledgements and reports.

    What is said in the bot's name counts if it is sealed with the key that it is about. The bot writes over
    what others wrote; what it cannot know to be wrong is taken out of the mailbox, so that it is said anew.

    Args:
        name: of the consumer.
        credential: that it uses.
        mailbox: the folder that holds one folder a consumer.
        group: of keyturn's user and the bot's, where they are two.
        read_current: opens the credential's current slot.
        read_pending: opens its pending slot.
        now: tells the time.
    """

    can_probe = True

    def __init__(
        self,
        name: str,
        credential: str,
        mailbox: Path,
        group: str | None = None,
        *,
        read_current: ReadKey,
        read_pending: ReadKey,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name = name
        self._credential = credential
        self._box, self._group = Mailbox(mailbox / name, group, owners=trusted()), group
        self._read_current = read_current
        self._read_pending = read_pending
        self._now = now

    async def notify(self, notice: Notice) -> None:
        """Leave the notice in the mailbox; see the port."""
        await self._put(NoticeMessage.of(notice))

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Read the acknowledgement of this very notice; see the port."""
        ack = await self._said(AckMessage, notice)
        if ack is None:
            return []
        if why := doubts.of_another_time(notice, ack.at, self._now()):
            await asyncio.to_thread(self._box.forget_answer, AckMessage, notice.notice_id)
            raise self._discounted(AckMessage, why)
        detail = f"{ack.call} worked{_STREAMS[ack.private_stream]}"
        return [
            Confirmation(self._name, ack.rotation_id, ack.fingerprint, Evidence.ACK, ack.at, detail=detail)
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Read what the exchange refuses to the notice's key; see the port."""
        told = await self._said(RefusalsMessage, notice)
        return [call.about(notice) for call in told.calls] if told else []

    async def request_probe(self, request: ProbeRequest) -> None:
        """Take an earlier report out of the mailbox and leave the request; see the port."""
        await self._do(lambda: self._box.forget_report(request.rotation_id, request.attempt))
        await self._put(ProbeMessage.of(request))

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Read the report on this very key; see the port.

        The facts are left to the manager's list: the bot proves that the key works where it stands.
        """
        subject = f"{request.rotation_id}-{request.attempt}"
        found = await self._do(lambda: self._box.answer(ProbeReportMessage, subject))
        if found is None:
            return None
        report = found.message
        asked = (self._credential, self._name, request.rotation_id, request.attempt, request.fingerprint)
        given = (report.credential, report.consumer, report.rotation_id, report.attempt, report.fingerprint)
        if given != asked:
            return None
        # A bot that may not open the pending key seals with the one that it runs on.
        denied = report.fault is ProbeFault.PENDING_DENIED
        read = self._read_current if denied else self._read_pending
        stored = await opened(read, self._name, now=_UNCHECKED)
        if stored is None or not found.is_by(stored.material):
            await asyncio.to_thread(self._box.forget_answer, ProbeReportMessage, subject)
            raise self._discounted(ProbeReportMessage, _doubt(found))
        return ProbeReport(self._name, report.fingerprint, report.at, None, fault=report.fault or "")

    async def check(self) -> Sequence[Finding]:
        """Look whether the mailbox can be written, by whom else, and if the bot is on a key of its own."""
        found = await asyncio.to_thread(self._findings)
        if found[0].ok and await self._do(lambda: self._box.own_key(self._credential)) is not None:
            found.append(
                Finding(
                    f"consumer {self._name}: {self._credential}",
                    ok=False,
                    detail=f"bot {self._name} signs with a key that it set itself, and confirms none",
                    todo="See in the bot's code who sets a key on the attached object, and start it again;"
                    " if that is meant, let it call detach(), and take it out of `consumers`.",
                )
            )
        return found

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    async def _said(self, model: type[MessageT], notice: Notice) -> MessageT | None:
        """Give what the bot says of the notice's key; None while it says nothing.

        Raises:
            ConsumerError: `UNAUTHENTICATED` when it is not the bot that speaks, or not of this notice.
        """
        found = await self._do(lambda: self._box.answer(model, notice.notice_id))
        if found is None:
            return None
        said = found.message
        why = doubts.of_another(notice, said.credential, said.consumer, said.subject, said.fingerprint)
        if not why:
            key = await key_of(
                notice, self._read_current, now=_UNCHECKED, otherwise=ConsumerFault.UNREACHABLE
            )
            why = "" if found.is_by(key.material) else _doubt(found)
        if why:
            raise self._discounted(model, why)
        return said

    def _discounted(self, model: type[Message], why: str) -> ConsumerError:
        return doubts.discounted(
            _NAMES[model], self._name, why, now="Nothing was confirmed by it.", todo=_TODO
        )

    async def _put(self, message: Message) -> None:
        def write() -> None:
            self._box.forget_others(message.credential, message.rotation_id)
            self._box.put(message)

        await self._do(write)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise ConsumerError(
                ConsumerFault.UNREACHABLE,
                f"The mailbox of {self._name} ({self._box.folder}) cannot be used: {error.strerror}.",
                now="The bot was not told.",
                todo=error.todo if isinstance(error, OpenToOthersError) else _USABLE,
            ) from None

    def _findings(self) -> list[Finding]:
        folder = self._box.folder
        subject = f"consumer {self._name}: mailbox {folder}"
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
            return [Finding(subject, ok=False, detail="cannot be written", todo=f"Make {nearest} writable.")]
        if self._group is not None and (closed := self._closed(subject, self._group)):
            return [closed]
        if lacking := not_handed_on(nearest):
            return [_not_handed_on(subject, nearest, lacking)]
        mine = self._box.users()
        return [who_writes(subject, folder, mine=mine, shared=True, more="; keyturn can write to it")]

    def _closed(self, subject: str, group: str) -> Finding | None:
        """Tell why the group that the inventory names cannot use the mailbox; None if it can."""
        folder = self._box.folder
        try:
            gid = number_of(group)
            closed = closed_to(gid, folder.parent)
        except OSError as error:
            todo = f"groupadd {group}, or correct `group` of the consumer."
            return Finding(subject, ok=False, detail=f"{error.strerror}", todo=todo)
        if closed is not None:
            detail, todo = f"the group {group} cannot pass through {closed}", f"chmod o+x {closed}"
            return Finding(subject, ok=False, detail=detail, todo=todo)
        if os.getuid() == 0 or gid in {os.getegid(), *os.getgroups()}:
            return None
        detail = f"the user that runs keyturn is not in the group {group}"
        return Finding(subject, ok=False, detail=detail, todo=f"usermod -aG {group} USER, and log in anew.")


def _not_handed_on(subject: str, folder: Path, lacking: list[str]) -> Finding:
    names = ", ".join(lacking)
    entries = ",".join(f"{name}:rwx" for name in lacking)
    return Finding(
        subject,
        ok=False,
        detail=f"{folder} is shared by an access list, and what is made in it is closed to {names}",
        todo=f"setfacl -d -m {entries} {shlex.quote(str(folder))}",
    )


def _doubt(found: Answer[MessageT]) -> str:
    """Say why whoever wrote this is not known as the bot."""
    if found.sealed is None:
        return (
            "it is not sealed with the key that it is about: the bot's keyturn.client is too old for that,"
            " or somebody else wrote it"
        )
    return doubts.NOT_BY_THE_KEY
