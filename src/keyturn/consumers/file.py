"""A file that holds the current key, and whoever must be told that it changed."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from keyturn.access import who_writes
from keyturn.consumers.command import ask, run
from keyturn.consumers.opened import key_of
from keyturn.consumers.pid_file import send_signal
from keyturn.consumers.place import find_owner, mine
from keyturn.consumers.render import into_freqtrade, render
from keyturn.consumers.target import Target
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import (
    Confirmation,
    Evidence,
    Notice,
    NoticeKind,
    ProbeReport,
    ProbeRequest,
    Refusal,
)
from keyturn.domain.inventory import FileConsumer
from keyturn.domain.slots import Stored
from keyturn.ports.consumer import ReadKey
from keyturn.ports.store import Finding

T = TypeVar("T")

# Disk troubles that may pass without anybody changing a setting.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EAGAIN})


#: The detail of a `confirm` that had the new key before anybody was told of it.
READS_OUR_FILE = (
    "its confirm command printed the new fingerprint before the consumer was told: it reads the file that"
    " keyturn writes, and proves nothing. Let it ask the running process"
)


class _Done(BaseModel):
    """What stands beside the file: how far a notice is carried out (written; then run, signalled)."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    notice_id: str
    fingerprint: str
    #: None: the file is written, and nobody was told yet.
    at: AwareDatetime | None
    #: Whether `confirm` showed this fingerprint by the writing alone.
    reads_our_file: bool = False


class RenderedFile:
    """Renders the key into a file, then runs a command or sends a signal.

    A notice that was carried out is not carried out again unless the file has changed since; one whose
    command failed is. Between the writing and the telling `confirm` is asked once: one that has the new
    fingerprint by then reads keyturn's own file.

    Args:
        name: of the consumer.
        entry: what the inventory says of it.
        base: the folder of the inventory.
        read_current: opens the credential's current slot.
    """

    can_probe = False

    def __init__(self, name: str, entry: FileConsumer, *, base: Path, read_current: ReadKey) -> None:
        self._name = name
        self._entry = entry
        self._base = base
        self._target = Target(name, base / entry.path, int(entry.mode, 8), entry.owner)
        self._read_current = read_current
        self._one_at_a_time = asyncio.Lock()

    async def notify(self, notice: Notice) -> None:
        """Write the file and tell the process; see the port."""
        async with self._one_at_a_time:
            stored = await key_of(
                notice,
                self._read_current,
                now="The file was not touched.",
                otherwise=ConsumerFault.REFUSED,
            )
            content = await self._do(lambda: self._content(stored))
            if await self._do(lambda: self._carried_out(notice, content)):
                return
            mark = await self._written(notice, content)
            facts = {
                "KEYTURN_CREDENTIAL": notice.credential,
                "KEYTURN_FINGERPRINT": notice.fingerprint,
                "KEYTURN_NOTICE": notice.notice_id,
            }
            if self._entry.run:
                await run(self._entry.run, cwd=self._base, facts=facts, timeout=self._timeout)
            if self._entry.signal and self._entry.pid_file:
                pid_file, owner = self._base / self._entry.pid_file, find_owner(self._entry.owner)
                await asyncio.to_thread(send_signal, self._entry.signal, pid_file, owner)
            await self._do(lambda: self._put(mark.model_copy(update={"at": datetime.now(UTC)})))

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Tell that the notice was carried out, or what `confirm` proves; see the port."""
        done = await self._do(self._done)
        if done is None or (done.notice_id, done.fingerprint) != (notice.notice_id, notice.fingerprint):
            return []
        if done.at is None:
            return []
        if done.reads_our_file:
            return [self._proof(notice, Evidence.TIMED, done.at, READS_OUR_FILE)]
        if not self._entry.confirm:
            detail = "the file is written" + (" and its command ended well" if self._entry.run else "")
            return [self._proof(notice, Evidence.TIMED, done.at, detail)]
        if not await self._shows(notice):
            return []
        return [
            self._proof(
                notice, Evidence.ACK, datetime.now(UTC), "its confirm command printed the fingerprint"
            )
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Give none: nobody tells what becomes of the calls; see the port."""
        return []

    async def request_probe(self, request: ProbeRequest) -> None:
        """Refuse: a file cannot make a call; see the port."""
        raise ConsumerError(
            ConsumerFault.REFUSED,
            f"{self._name} is a file; it cannot try {request.credential}'s pending key.",
        )

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Give None; see the port."""
        return None

    async def check(self) -> Sequence[Finding]:
        """Look whether the file can be written and the commands are there; nothing is run."""
        return await asyncio.to_thread(self._findings)

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    async def _written(self, notice: Notice, content: bytes) -> _Done:
        """Write the file, and see whether that alone lets `confirm` show the new key; give the mark of it.

        A notice that comes again keeps the first answer: the consumer may have been told since.
        """
        known = await self._do(self._done)
        if known is not None and known.notice_id == notice.notice_id:
            await self._do(lambda: self._target.write(content))
            return known
        # Who never left the key that comes back shows it rightly, and before the file is written, too.
        stayed = (
            notice.kind is NoticeKind.ROLLED_BACK
            and not await self._do(lambda: self._holds(content))
            and await self._shown_by_now(notice)
        )
        await self._do(lambda: self._target.write(content))
        mark = _Done(
            notice_id=notice.notice_id,
            fingerprint=notice.fingerprint,
            at=None,
            reads_our_file=not stayed and await self._shown_by_now(notice),
        )
        await self._do(lambda: self._put(mark))
        return mark

    async def _shown_by_now(self, notice: Notice) -> bool:
        """Ask `confirm` before anybody is told; one that fails shows nothing."""
        if not self._entry.confirm:
            return False
        try:
            return await self._shows(notice)
        except ConsumerError:
            return False

    async def _shows(self, notice: Notice) -> bool:
        """Run `confirm`, and tell whether it prints the fingerprint of the notice's key."""
        facts = {"KEYTURN_CREDENTIAL": notice.credential}
        printed = await ask(self._entry.confirm, cwd=self._base, facts=facts, timeout=self._timeout)
        return printed.strip() == notice.fingerprint

    def _content(self, stored: Stored) -> bytes:
        if self._entry.format != "freqtrade":
            return render(stored, self._entry.fields, self._entry.format)
        before = self._target.read()
        return into_freqtrade(stored, b"{}" if before is None else before)

    def _carried_out(self, notice: Notice, content: bytes) -> bool:
        done = self._done()
        told = done is not None and done.notice_id == notice.notice_id and done.at is not None
        return told and self._holds(content)

    def _holds(self, content: bytes) -> bool:
        return self._target.read() == content

    def _put(self, mark: _Done) -> None:
        self._target.write_mark(mark.model_dump_json().encode())

    def _done(self) -> _Done | None:
        try:
            mark = self._target.read_mark()
            return _Done.model_validate_json(mark) if mark is not None else None
        except ValidationError:
            return None

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise ConsumerError(
                ConsumerFault.UNREACHABLE if error.errno in _PASSING else ConsumerFault.MISCONFIGURED,
                f"The file of {self._name} ({self._target.path}) cannot be used: {error.strerror}.",
                now="The file is the old one or the new one, whole; nobody was told.",
                todo="Make its folder, let keyturn's user write there, and see that the disk has room.",
            ) from None

    @property
    def _timeout(self) -> float:
        return self._entry.timeout.total_seconds()

    def _proof(self, notice: Notice, grade: Evidence, at: datetime, detail: str) -> Confirmation:
        return Confirmation(self._name, notice.rotation_id, notice.fingerprint, grade, at, detail=detail)

    def _findings(self) -> list[Finding]:
        found = self._file_findings()
        for argv in filter(None, (self._entry.run, self._entry.confirm)):
            program = argv[0] if "/" not in argv[0] else str(self._base / argv[0])
            there = shutil.which(program) is not None
            detail = "can be run" if there else "is not there, or not executable"
            todo = "" if there else "Give the program's full path."
            found.append(
                Finding(f"consumer {self._name}: command {argv[0]}", ok=there, detail=detail, todo=todo)
            )
        return found

    def _file_findings(self) -> list[Finding]:
        subject = f"consumer {self._name}: {self._target.path}"
        try:
            with self._target.opened() as way:
                folder = way.home.path
        except ConsumerError as error:
            return [Finding(subject, ok=False, detail=error.what, todo=error.todo)]
        except OSError as error:
            todo = "Make its folder, name the file itself, or mend the link."
            return [Finding(subject, ok=False, detail=f"cannot be written: {error.strerror}", todo=todo)]
        if not os.access(folder, os.W_OK | os.X_OK):
            todo = f"Make {folder} writable."
            return [Finding(subject, ok=False, detail="cannot be written", todo=todo)]
        owner = find_owner(self._entry.owner)
        if owner and os.geteuid() not in {0, owner.user}:
            detail = f"only root can give a file to {self._entry.owner}"
            todo = f"Run keyturn as root or as {self._entry.owner}, or leave `owner` out."
            return [Finding(subject, ok=False, detail=detail, todo=todo)]
        found = [who_writes(subject, self._target.path, mine=mine(owner), more="; keyturn can write it")]
        if self._entry.pid_file:
            pid_file = self._base / self._entry.pid_file
            found.append(
                who_writes(f"consumer {self._name}: pid file {pid_file}", pid_file, mine=mine(owner))
            )
        return found
