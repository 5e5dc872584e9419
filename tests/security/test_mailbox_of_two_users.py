"""Keyturn and a bot as two users of one group: the mailbox works for both, and for nobody else."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.errors import ConsumerError
from keyturn.domain.evidence import Notice, NoticeKind

NOTICE = Notice(
    "mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1)
)
KEYTURN, BOT, STRANGER, GROUP = 54323, 54322, 54324, 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users at once")

_TELL = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.evidence import Notice, NoticeKind
notice = Notice("mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(1))
asyncio.run(MailboxConsumer("bot", "mm-bybit", Path(sys.argv[1]), sys.argv[2] or None).notify(notice))
"""
_READ = """
import sys
from pathlib import Path
from keyturn.client.mailbox import Mailbox, RefusalsMessage
box = Mailbox(Path(sys.argv[1]) / "bot")
(notice,) = box.notices("mm-bybit")
box.put(RefusalsMessage.about(notice, ()))
print(notice.fingerprint)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "mailbox"
    folder.mkdir(mode=0o700)
    for each in (tmp_path, *tmp_path.parents):
        if each != Path(each.anchor) and each.stat().st_uid == os.getuid():
            each.chmod(each.stat().st_mode | 0o011)
    return folder


def run_as(uid: int, code: str, *arguments: str, member: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        user=uid, group=uid, extra_groups=[GROUP] if member else [], umask=0, cwd="/", timeout=60,
        env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@as_root
@pytest.mark.parametrize("by", ["the inventory's group", "the folder's group"])
def test_two_users_of_one_group_write_into_one_mailbox_and_no_third_does(shared: Path, by: str) -> None:
    group = str(GROUP) if by == "the inventory's group" else ""
    os.chown(shared, KEYTURN, -1 if group else GROUP)
    if not group:
        shared.chmod(0o2770)
    told = run_as(KEYTURN, _TELL, str(shared), group)
    assert told.returncode == 0, told.stderr
    answered = run_as(BOT, _READ, str(shared))
    assert answered.stdout == "fp1\n", answered.stderr
    # Keyturn clears away what the bot wrote.
    box = shared / "bot"
    removed = run_as(KEYTURN, f"import os; os.remove({str(box / 'refusals-r1-promoted.json')!r})")
    assert removed.returncode == 0, removed.stderr
    assert (stat.S_IMODE(box.stat().st_mode), box.stat().st_gid) == (0o2770, GROUP)
    assert {stat.S_IMODE(p.stat().st_mode) for p in box.iterdir()} == {0o660}
    outside = run_as(STRANGER, f"import os; os.listdir({str(box)!r})", member=False)
    assert "PermissionError" in outside.stderr
    outside = run_as(STRANGER, f"open({str(box / 'notice-r1-promoted.json')!r})", member=False)
    assert "PermissionError" in outside.stderr


async def test_without_a_group_the_mailbox_is_one_users_whatever_the_umask(shared: Path) -> None:
    before = os.umask(0)
    try:
        await MailboxConsumer("bot", "mm-bybit", shared / "deep" / "down").notify(NOTICE)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in shared.rglob("*")} == {0o700, 0o600}


async def test_a_group_that_the_machine_lacks_is_told_before_a_bot_waits_in_vain(shared: Path) -> None:
    consumer = MailboxConsumer("bot", "mm-bybit", shared, "no-such-group")
    (finding,) = await consumer.check()
    assert (finding.ok, "no group no-such-group" in finding.detail) == (False, True)
    with pytest.raises(ConsumerError, match="no group no-such-group"):
        await consumer.notify(NOTICE)


@as_root
async def test_doctor_tells_where_the_group_cannot_pass(shared: Path) -> None:
    consumer = MailboxConsumer("bot", "mm-bybit", shared / "closed" / "box", str(GROUP))
    (shared / "closed").mkdir(mode=0o700)
    shared.chmod(0o711)
    (finding,) = await consumer.check()
    assert not finding.ok
    assert finding.todo == f"chmod o+x {shared / 'closed'}"
    (shared / "closed").chmod(0o711)
    (finding,) = await consumer.check()
    assert finding.ok, finding


async def test_a_mailbox_that_others_may_write_is_told(shared: Path) -> None:
    consumer = MailboxConsumer("bot", "mm-bybit", shared)
    (shared / "bot").mkdir()
    for mode, ok in ((0o700, True), (0o720, False), (0o702, False), (0o2770, True), (0o2777, False)):
        (shared / "bot").chmod(mode)
        (finding,) = await consumer.check()
        assert finding.ok is ok, oct(mode)
