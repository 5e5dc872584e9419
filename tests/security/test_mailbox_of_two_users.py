"""Keyturn and a bot as two users of one group or access list: the mailbox works for both, and nobody else."""

from __future__ import annotations

import asyncio
import os
import shlex
import stat
import struct
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


# -- by an access list -------------------------------------------------------------------------

_OWNER, _USER, _OWN_GROUP, _MASK, _OTHERS, _ANY = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF


def setfacl(folder: Path, *users: int, own_group: int = 0, default: bool = False) -> None:
    """Let users write, as `setfacl -m u:USER:rwx` does, or with `-d`; a machine need not have that tool."""
    named = ((_USER, 7, user) for user in sorted(users))
    ends = [(_OWN_GROUP, own_group, _ANY), (_MASK, 7, _ANY), (_OTHERS, 0, _ANY)]
    entries = [(_OWNER, 7, _ANY), *named, *ends]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(folder, f"system.posix_acl_{'default' if default else 'access'}", data)
    except OSError:
        pytest.skip("this file system has no access lists (POSIX ACL)")


def both(folder: Path, *users: int) -> None:
    setfacl(folder, *users)
    setfacl(folder, *users, default=True)


def findings(mailbox: Path) -> str:
    (found,) = asyncio.run(consumer_of(mailbox).check())
    return f"{found.ok}: {found.detail} -> {found.todo}"


with_lists = pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no access lists of that kind here")


@as_root
@with_lists
@pytest.mark.parametrize("who", ["keyturn", "the operator"])
def test_two_users_of_one_access_list_write_into_one_mailbox_and_no_third_does(
    shared: Path, who: str
) -> None:
    os.chown(shared, KEYTURN, KEYTURN)
    box = shared / "bot"
    if who == "the operator":
        # The list is on the bot's own mailbox, and the folder of the mailboxes lets pass and no more.
        shared.chmod(0o711)
        box.mkdir(mode=0o700)
        os.chown(box, KEYTURN, KEYTURN)
        both(box, BOT, KEYTURN)
    else:
        both(shared, BOT, KEYTURN)
    assert other_user.as_user(KEYTURN, [], lambda: tell(shared, None)) == "None"
    assert other_user.as_user(BOT, [], lambda: answer(shared)) == "fp1"
    assert other_user.as_user(KEYTURN, [], lambda: heard(shared)) == "fp1"
    assert {p.stat().st_uid for p in box.iterdir()} == {KEYTURN, BOT}
    told = other_user.as_user(KEYTURN, [], lambda: findings(shared))
    assert told.startswith("True: "), told
    assert f"user {BOT} may write to {box} (mode 0770, access list)" in told
    notice = box / "notice-r1-promoted.json"
    for groups in ([], [KEYTURN], [BOT]):  # the groups of both users have nothing
        for attempt in (lambda: list(box.iterdir()), notice.read_bytes, lambda: (box / "ack").touch()):
            assert "PermissionError" in other_user.as_user(STRANGER, groups, attempt)
    refusals = box / "refusals-r1-promoted.json"
    assert other_user.as_user(KEYTURN, [], refusals.unlink) == "None"


def heard(mailbox: Path) -> str:
    found = Mailbox(mailbox / "bot", owners={0, KEYTURN}).refusals(NOTICE.notice_id)
    return found.fingerprint if found else ""


@as_root
@with_lists
def test_a_bot_of_the_list_may_be_the_first_to_make_the_mailbox_and_a_stranger_may_not(shared: Path) -> None:
    os.chown(shared, KEYTURN, KEYTURN)
    both(shared, BOT, KEYTURN)
    assert other_user.as_user(BOT, [], lambda: tell_own_key(shared)) == "None"
    assert (shared / "bot").stat().st_uid == BOT
    assert other_user.as_user(KEYTURN, [], lambda: tell(shared, None)) == "None"
    told = other_user.as_user(KEYTURN, [], lambda: hear(shared, None))
    assert told == "['bot bot signs with a key that it set itself, and confirms none']"
    # A list of the stranger's own making says nothing: that of the folder of the mailboxes does.
    os.chown(shared / "bot", STRANGER, STRANGER)
    both(shared / "bot", STRANGER, KEYTURN)
    assert "owns" in other_user.as_user(KEYTURN, [], lambda: tell(shared, None))


@as_root
@with_lists
def test_a_list_that_new_files_do_not_get_is_told_with_the_command_that_mends_it(shared: Path) -> None:
    os.chown(shared, KEYTURN, KEYTURN)
    setfacl(shared, BOT)
    told = other_user.as_user(KEYTURN, [], lambda: findings(shared))
    mend = f"setfacl -d -m u:{BOT}:rwx,u:{KEYTURN}:rwx {shlex.quote(str(shared))}"
    assert told == (
        f"False: {shared} is shared by an access list, and what is made in it is closed to"
        f" u:{BOT}, u:{KEYTURN} -> {mend}"
    )
    setfacl(shared, BOT, default=True)
    told = other_user.as_user(KEYTURN, [], lambda: findings(shared))
    assert f"is closed to u:{KEYTURN} ->" in told, "what the bot makes would be the bot's alone"
    both(shared, BOT, KEYTURN)
    assert other_user.as_user(KEYTURN, [], lambda: findings(shared)).startswith("True: ")


@as_root
@with_lists
async def test_the_mask_of_a_list_is_not_taken_for_the_group_and_every_user_is_told(shared: Path) -> None:
    box = shared / "bot"
    box.mkdir(mode=0o700)
    os.chown(box, -1, GROUP)
    both(box, BOT)
    assert stat.S_IMODE(box.stat().st_mode) == 0o770, "the mask shows as the rights of the group"
    (finding,) = await consumer_of(shared).check()
    assert finding.ok
    assert f"user {BOT} may write" in finding.detail
    assert "group" not in finding.detail
    setfacl(box, BOT, own_group=7)
    (finding,) = await consumer_of(shared).check()
    assert f"group {GROUP} may write" in finding.detail
    assert (finding.ok, finding.todo) == (False, f"setfacl -m g::rx {box}"), "chmod would cut off the bot"
    both(box, BOT)
    box.chmod(0o772)
    (finding,) = await consumer_of(shared).check()
    assert (finding.ok, finding.todo) == (False, f"chmod o-w {box}")
    with pytest.raises(ConsumerError, match="every user may write"):
        await consumer_of(shared).notify(NOTICE)
