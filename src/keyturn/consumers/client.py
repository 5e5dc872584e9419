"""A bot that runs `keyturn.client`, reached through its mailbox."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from keyturn.client.mailbox import AckMessage, Mailbox, Message, NoticeMessage, ProbeMessage, RefusalsMessage
from keyturn.client.shared_folder import is_shared
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.groups import closed_to, number_of
from keyturn.ports.store import Finding

T = TypeVar("T")

_STREAMS = {
    "none": "",
    "logged_in": "; its private stream logged in again",
    "not_reopened": "; its private stream was not opened again",
}


class MailboxConsumer:
    """Writes notices and probe requests, reads acknowledgements and reports.

    Args:
        name: of the consumer.
        credential: that it uses.
        mailbox: the folder that holds one folder a consumer.
        group: of keyturn's user and the bot's, where they are two.
    """

    can_probe = True

    def __init__(self, name: str, credential: str, mailbox: Path, group: str | None = None) -> None:
        self._name = name
        self._credential = credential
        self._box, self._group = Mailbox(mailbox / name, group), group

    async def notify(self, notice: Notice) -> None:
        """Leave the notice in the mailbox; see the port."""
        await self._put(NoticeMessage.of(notice))

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Read the acknowledgement of this very notice; see the port."""
        ack = await self._do(lambda: self._box.ack(notice.notice_id))
        if ack is None or not self._answers(ack, notice):
            return []
        detail = f"{ack.call} worked{_STREAMS[ack.private_stream]}"
        return [
            Confirmation(self._name, ack.rotation_id, ack.fingerprint, Evidence.ACK, ack.at, detail=detail)
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Read what the exchange refuses to the notice's key; see the port."""
        told = await self._do(lambda: self._box.refusals(notice.notice_id))
        return [c.about(notice) for c in told.calls] if told and self._answers(told, notice) else []

    async def request_probe(self, request: ProbeRequest) -> None:
        """Take an earlier report out of the mailbox and leave the request; see the port."""
        await self._do(lambda: self._box.forget_report(request.rotation_id, request.attempt))
        await self._put(ProbeMessage.of(request))

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Read the report on this very key; see the port.

        The facts are left to the manager's list: the bot proves that the key works where it stands.
        """
        report = await self._do(lambda: self._box.report(request.rotation_id, request.attempt))
        if (
            report is None
            or (report.credential, report.consumer) != (self._credential, self._name)
            or (report.fingerprint, report.attempt) != (request.fingerprint, request.attempt)
        ):
            return None
        return ProbeReport(self._name, report.fingerprint, report.at, None, fault=report.fault or "")

    async def check(self) -> Sequence[Finding]:
        """Look whether the mailbox can be written, and whether the bot is on a key of its own."""
        found = [await asyncio.to_thread(self._finding)]
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

    def _answers(self, ack: AckMessage | RefusalsMessage, notice: Notice) -> bool:
        given = (ack.credential, ack.consumer, ack.rotation_id, ack.kind, ack.fingerprint)
        asked = (self._credential, self._name, notice.rotation_id, notice.kind, notice.fingerprint)
        return given == asked

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
                todo="Let the user that runs keyturn own the folder, and see that the disk has room.",
            ) from None

    def _finding(self) -> Finding:
        folder = self._box.folder
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        subject = f"consumer {self._name}: mailbox {folder}"
        if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
            return Finding(subject, ok=False, detail="cannot be written", todo=f"Make {nearest} writable.")
        strangers = folder.is_dir() and bool(folder.stat().st_mode & 0o022)
        if self._group is not None:
            return self._group_finding(subject, self._group)
        if strangers and (folder.stat().st_mode & 0o002 or not is_shared(folder)):
            return Finding(
                subject, ok=False, detail="other users can write to it", todo=f"chmod 700 {folder}"
            )
        also = ", by its group too" if strangers else ""
        return Finding(subject, ok=True, detail=f"can be written{also}")

    def _group_finding(self, subject: str, group: str) -> Finding:
        """Look whether the group that the inventory names can use the mailbox, and nobody else."""
        folder = self._box.folder
        try:
            gid = number_of(group)
            closed = closed_to(gid, folder.parent)
        except OSError as error:
            todo = f"groupadd {group}, or correct `group` of the consumer."
            return Finding(subject, ok=False, detail=f"{error.strerror}", todo=todo)
        if folder.is_dir() and folder.stat().st_mode & 0o002:
            return Finding(subject, ok=False, detail="everybody can write to it", todo=f"chmod 2770 {folder}")
        if closed is not None:
            detail, todo = f"the group {group} cannot pass through {closed}", f"chmod o+x {closed}"
            return Finding(subject, ok=False, detail=detail, todo=todo)
        member = os.getuid() == 0 or gid in {os.getegid(), *os.getgroups()}
        if not member:
            detail = f"the user that runs keyturn is not in the group {group}"
            return Finding(
                subject, ok=False, detail=detail, todo=f"usermod -aG {group} USER, and log in anew."
            )
        return Finding(subject, ok=True, detail=f"can be written, by the group {group} too")
