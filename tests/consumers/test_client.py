from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import AckMessage
from keyturn.client.sealed import Sealed
from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.evidence import Notice, NoticeKind, ProbeRequest
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored

NOTICE = Notice(
    "mm-bybit", "bot", "r1", NoticeKind.PROMOTED, "fp1", "7", datetime.now(UTC) + timedelta(hours=1)
)
ACK = AckMessage(
    credential="mm-bybit", consumer="bot", rotation_id="r1", fingerprint="fp1", kind=NoticeKind.PROMOTED,
    at=datetime.now(UTC), call="GET balance", private_stream="logged_in",
)  # fmt: skip


KEY = SecretMaterial("key-1", "not-a-real-secret-1")


async def the_key():
    meta = KeyMeta("bybit", "main", "key-1", "fp1", None, datetime.now(UTC))
    return Stored(SlotInfo(Slot.CURRENT, "7", None, meta), KEY)


def consumer(root, credential="mm-bybit"):
    return MailboxConsumer("bot", credential, root / "mail", read_current=the_key, read_pending=the_key)


async def proofs(bot):
    try:
        return await bot.confirmations(NOTICE)
    except ConsumerError as error:
        assert error.fault is ConsumerFault.UNAUTHENTICATED  # noqa: PT017
        return []


def sealed(text):
    return Sealed.with_key(KEY, "ack", text).model_dump_json()


@pytest.fixture
def box(tmp_path):
    return Mailbox(tmp_path / "mail" / "bot")


@pytest.fixture
def bot(tmp_path):
    return consumer(tmp_path)


async def test_an_acknowledgement_says_which_call_worked_and_that_the_stream_moved(bot, box):
    await bot.notify(NOTICE)
    box.put_sealed(ACK, KEY)
    (proof,) = await bot.confirmations(NOTICE)
    assert proof.detail == "GET balance worked; its private stream logged in again"
    assert box.folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in box.folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "changes",
    [
        {"credential": "other"}, {"consumer": "other"}, {"fingerprint": "fp0"}, {"rotation_id": "r2"},
        {"kind": "rolled_back"}, {"format": 2}, {"extra": 1}, {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"}, {"fingerprint": 1}, {"call": None},
    ],
)  # fmt: skip
async def test_an_acknowledgement_that_is_not_exactly_for_the_notice_does_not_count(bot, box, changes):
    await bot.notify(NOTICE)
    text = json.dumps({**json.loads(ACK.model_dump_json()), **changes})
    (box.folder / "ack-r1-promoted.json").write_text(sealed(text))
    assert await proofs(bot) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b" " * 100_000])
async def test_garbage_is_no_acknowledgement(bot, box, content):
    await bot.notify(NOTICE)
    (box.folder / "ack-r1-promoted.json").write_bytes(content)
    assert await bot.confirmations(NOTICE) == []


async def test_a_new_rotation_clears_what_the_one_before_left_and_nothing_else(bot, box):
    await bot.notify(NOTICE)
    box.put_sealed(ACK, KEY)
    await bot.request_probe(ProbeRequest("mm-bybit", "bot", "r1", 1, "fp1", "6"))
    other = consumer(box.folder.parent.parent, "other")
    await other.notify(replace(NOTICE, credential="other", rotation_id="r5"))
    (box.folder / "notes.txt").touch()
    await bot.notify(replace(NOTICE, rotation_id="r2"))
    assert sorted(p.name for p in box.folder.iterdir()) == [
        "notes.txt",
        "notice-r2-promoted.json",
        "notice-r5-promoted.json",
    ]


async def test_a_mailbox_that_cannot_be_written_is_unreachable(tmp_path):
    (tmp_path / "mail").write_text("a file")
    bot = consumer(tmp_path)
    with pytest.raises(ConsumerError) as caught:
        await bot.notify(NOTICE)
    assert caught.value.fault is ConsumerFault.UNREACHABLE
    (finding,) = await bot.check()
    assert not finding.ok


async def test_a_mailbox_that_others_can_write_to_is_found(bot, box):
    await bot.notify(NOTICE)
    box.folder.chmod(0o777)
    (finding,) = await bot.check()
    assert not finding.ok
    assert finding.todo.split("; ")[0] == f"chmod o-w {box.folder}"


def refusals(**changes):
    call = {"call": "POST v5/order/create", "fault": "missing_permission", "at": "2026-11-28T00:00:00Z"}
    about = {"credential": "mm-bybit", "consumer": "bot", "rotation_id": "r1", "fingerprint": "fp1"}
    times = changes.pop("times", 1)
    calls = [call | changes] * times
    text = json.dumps({"format": 1, **about, "kind": "promoted", "calls": calls})
    return Sealed.with_key(KEY, "refusals", text).model_dump_json()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (refusals(), 1),
        (refusals(call="POST v5/order/create?symbol=BTC; and more"), 0),
        (refusals(call="POST \x1b[2J"), 0),
        (refusals(call="x" * 201), 0),
        (refusals(fault="unknown_key"), 0),
        (refusals(body="secret"), 0),
        (refusals(times=32), 32),
        (refusals(times=33), 0),
        (refusals() + " " * 40_000, 0),
    ],
)
async def test_refused_calls_are_bounded_and_name_a_call_and_no_more(bot, box, content, told):
    await bot.notify(NOTICE)
    (box.folder / "refusals-r1-promoted.json").write_text(content)
    assert len(await bot.refusals(NOTICE)) == told


async def test_refused_calls_of_an_earlier_rotation_are_taken_away_with_the_next_notice(bot, box):
    await bot.notify(NOTICE)
    (box.folder / "refusals-r1-promoted.json").write_text(refusals())
    await bot.notify(replace(NOTICE, rotation_id="r2"))
    assert {p.name for p in box.folder.iterdir()} == {"notice-r2-promoted.json"}
