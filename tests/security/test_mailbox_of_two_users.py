"""Keyturn and a bot as two users of one group: the mailbox works for both, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import OwnKeyMessage, RefusalsMessage
from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.errors import ConsumerError
from keyturn.domain.evidence import Notice, NoticeKind
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from tests import other_user
from tests.other_user import common

__all__ = ["common"]

NOTICE = Notice(
    "mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1)
)
KEY = SecretMaterial("key-1", "not-a-real-secret-1")
KEYTURN, BOT, STRANGER, GROUP = 54323, 54322, 54324, 54321
as_root = pytest.mark.skipif(not other_user.AS_ROOT, reason="needs root, to be two users at once")


def consumer_of(mailbox: Path, group: str | None = None) -> MailboxConsumer:
    return MailboxConsumer("bot", "mm-bybit", mailbox, group, read_current=the_key, read_pending=the_key)


async def the_key() -> Stored:
    meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "7", None, meta), KEY)


def tell(mailbox: Path, group: str | None) -> None:
    asyncio.run(consumer_of(mailbox, group).notify(NOTICE))


def hear(mailbox: Path, group: str | None) -> list[str]:
    return [finding.detail for finding in asyncio.run(consumer_of(mailbox, group).check()) if not finding.ok]


def tell_own_key(mailbox: Path) -> None:
    Mailbox(mailbox / "bot").tell_own_key(
        OwnKeyMessage(credential="mm-bybit", consumer="bot", at=datetime.now(UTC))
    )


def answer(mailbox: Path) -> str:
    box = Mailbox(mailbox / "bot")
    (notice,) = box.notices("mm-bybit")
    box.put_sealed(RefusalsMessage.about(notice, ()), KEY)
    return notice.fingerprint


@pytest.fixture
def shared(common: Path) -> Path:
    folder = common / "mailbox"
    folder.mkdir(mode=0o700)
    return folder


@as_root
@pytest.mark.parametrize("by", ["the inventory's group", "the folder's group"])
def test_two_users_of_one_group_write_into_one_mailbox_and_no_third_does(shared: Path, by: str) -> None:
    group = str(GROUP) if by == "the inventory's group" else ""
    os.chown(shared, KEYTURN, -1 if group else GROUP)
    if not group:
        shared.chmod(0o2770)
    assert other_user.as_user(KEYTURN, [GROUP], lambda: tell(shared, group or None)) == "None"
    assert other_user.as_user(BOT, [GROUP], lambda: answer(shared)) == "fp1"
    box = shared / "bot"
    assert (stat.S_IMODE(box.stat().st_mode), box.stat().st_gid) == (0o2770, GROUP)
    assert {p.stat().st_uid for p in box.iterdir()} == {KEYTURN, BOT}
    assert {(stat.S_IMODE(p.stat().st_mode), p.stat().st_gid) for p in box.iterdir()} == {(0o660, GROUP)}
    # Keyturn clears away what the bot wrote.
    refusals = box / "refusals-r1-promoted.json"
    assert other_user.as_user(KEYTURN, [GROUP], refusals.unlink) == "None"
    notice = box / "notice-r1-promoted.json"
    for attempt in (lambda: list(box.iterdir()), notice.read_bytes, lambda: (box / "ack").touch()):
        assert "PermissionError" in other_user.as_user(STRANGER, [], attempt)


@as_root
def test_the_bot_may_be_the_first_to_make_the_mailbox_and_a_stranger_may_not(shared: Path) -> None:
    os.chown(shared, KEYTURN, GROUP)
    shared.chmod(0o2770)
    assert other_user.as_user(BOT, [GROUP], lambda: tell_own_key(shared)) == "None"
    assert (shared / "bot").stat().st_uid == BOT
    for group in (None, str(GROUP)):
        assert other_user.as_user(KEYTURN, [GROUP], lambda group=group: tell(shared, group)) == "None"
        told = other_user.as_user(KEYTURN, [GROUP], lambda group=group: hear(shared, group))
        assert told == "['bot bot signs with a key that it set itself, and confirms none']"
    # No group shares it now: then it is a stranger's.
    (shared / "bot").chmod(0o700)
    os.chown(shared / "bot", STRANGER, STRANGER)
    (shared / "bot").chmod(0o775)
    for group in (None, str(GROUP)):
        told = other_user.as_user(KEYTURN, [GROUP, STRANGER], lambda group=group: tell(shared, group))
        assert "owns" in told, told


async def test_without_a_group_the_mailbox_is_one_users_whatever_the_umask(shared: Path) -> None:
    before = os.umask(0)
    try:
        await consumer_of(shared / "deep" / "down").notify(NOTICE)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in shared.rglob("*")} == {0o700, 0o600}


async def test_a_group_that_the_machine_lacks_is_told_before_a_bot_waits_in_vain(shared: Path) -> None:
    consumer = consumer_of(shared, "no-such-group")
    (finding,) = await consumer.check()
    assert (finding.ok, "no group no-such-group" in finding.detail) == (False, True)
    with pytest.raises(ConsumerError, match="no group no-such-group"):
        await consumer.notify(NOTICE)


@as_root
async def test_doctor_tells_where_the_group_cannot_pass(shared: Path) -> None:
    consumer = consumer_of(shared / "closed" / "box", str(GROUP))
    (shared / "closed").mkdir(mode=0o700)
    shared.chmod(0o711)
    (finding,) = await consumer.check()
    assert not finding.ok
    assert finding.todo == f"chmod o+x {shared / 'closed'}"
    (shared / "closed").chmod(0o711)
    (finding,) = await consumer.check()
    assert finding.ok, finding


@as_root
async def test_a_mailbox_that_others_may_write_is_told(shared: Path) -> None:
    consumer = consumer_of(shared)
    (shared / "bot").mkdir()
    os.chown(shared / "bot", -1, GROUP)
    for mode, ok in ((0o700, True), (0o720, False), (0o702, False), (0o2770, True), (0o2777, False)):
        (shared / "bot").chmod(mode)
        (finding,) = await consumer.check()
        assert finding.ok is ok, oct(mode)
