from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import ccxt
import pytest

import keyturn.client
from keyturn.client import watcher as watcher_module
from keyturn.client.messages import AckMessage
from keyturn.client.settings import StoreSource
from keyturn.consumers.client import MailboxConsumer
from keyturn.domain.errors import KEY_FAULTS, ExchangeFault, StoreError, StoreFault
from keyturn.domain.evidence import NoticeKind, ProbeFault, ProbeRequest
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.simulator import Fault, FaultKind

from .conftest import BALANCE, CONSUMER, CREDENTIAL, PATH, until


async def quiet(world, seconds=0.8):
    """Give the watcher time for several looks."""
    await asyncio.sleep(seconds)


def material_of(key):
    return SecretMaterial(key.key_ref, key.secret)


def keyturn_of(world):
    """Give the consumer that keyturn asks."""
    return MailboxConsumer(
        CONSUMER,
        CREDENTIAL,
        world.root / "mailbox",
        read_current=lambda: world.store.read(PATH, Slot.CURRENT),
        read_pending=lambda: world.store.read(PATH, Slot.PENDING),
    )


async def test_loading_a_key_is_no_acknowledgement_and_a_public_call_is_none_either(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await exchange.public_get_v5_market_time()
    await quiet(world)
    assert world.box.ack("rotation1-promoted") is None
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-promoted"))


async def test_a_signed_call_that_failed_is_no_acknowledgement(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    world.revoke(new)
    with pytest.raises(ccxt.AuthenticationError):
        await exchange.private_get_v5_account_wallet_balance()
    await quiet(world)
    assert world.box.ack("rotation1-promoted") is None


async def test_a_call_with_the_old_key_that_ends_after_the_swap_does_not_confirm_the_new_one(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    world.sim.faults.add(Fault(kind=FaultKind.LATENCY, match=BALANCE, seconds=1.0, times=1))
    flying = asyncio.create_task(exchange.private_get_v5_account_wallet_balance())
    await asyncio.sleep(0.2)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    await flying
    await quiet(world)
    assert world.box.ack("rotation1-promoted") is None


async def test_a_notice_that_comes_after_the_proof_is_acknowledged_without_another_call(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    calls = world.calls_by(new).signed
    world.notice(new)
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.calls_by(new).signed == calls


async def test_a_notice_about_a_key_that_is_not_current_is_not_acknowledged(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    world.notice(old, "rotation8")
    await quiet(world)
    assert world.box.ack("rotation8-promoted") is None


async def test_going_back_is_acknowledged_by_a_call_made_after_it(world):
    old = await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    await exchange.private_get_v5_account_wallet_balance()
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    current = await world.store.peek(PATH, Slot.CURRENT)
    await world.store.restore_previous(PATH, expect_current=current.version)
    world.notice(old, kind=NoticeKind.ROLLED_BACK)
    await until(lambda: attachment.fingerprint == old)
    await quiet(world)
    assert world.box.ack("rotation1-rolled_back") is None
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-rolled_back"))


class Versions:
    """A source whose version comes back with the key, as those of Vault's and AWS's stages do."""

    def __init__(self, stored):
        self.stored = stored

    def signature(self):
        return self.stored.info.version

    def read(self, slot):
        return self.stored if slot is Slot.CURRENT else None


async def test_a_call_from_before_a_key_was_replaced_does_not_confirm_that_it_is_back(world):
    old = await world.put_first()
    source = Versions(world.store.read_sync(PATH, Slot.CURRENT))
    before = source.stored
    exchange = world.exchange("async")
    attachment = keyturn.client.attach(
        exchange,
        CREDENTIAL,
        source=source,
        mailbox=world.root / "mailbox",
        consumer=CONSUMER,
        verify_with=None,
    )
    world.attached.append(attachment)
    await exchange.private_get_v5_account_wallet_balance()
    world.sim.faults.add(Fault(kind=FaultKind.LATENCY, match=BALANCE, seconds=1.2, times=1))
    flying = asyncio.create_task(exchange.private_get_v5_account_wallet_balance())
    await asyncio.sleep(0.1)
    new = await world.rotate()
    source.stored = world.store.read_sync(PATH, Slot.CURRENT)
    await until(lambda: attachment.fingerprint == new)
    source.stored = before
    await until(lambda: attachment.fingerprint == old)
    world.notice(old, kind=NoticeKind.ROLLED_BACK)
    await flying
    await quiet(world)
    assert world.box.ack("rotation1-rolled_back") is None
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-rolled_back"))


async def test_a_notice_makes_the_bot_look_at_once(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: exchange.apiKey == world.keys[new].key_ref, 1)
    assert attachment.fingerprint == new


@pytest.mark.parametrize("kind", ["sync", "async", "pro"])
async def test_an_idle_bot_is_confirmed_by_one_call_that_keyturn_makes(world, kind):
    await world.put_first()
    exchange = world.exchange(kind)
    if kind != "sync":
        await exchange.public_get_v5_market_time()
    world.attach(exchange, verify_with="fetch_balance", verify_after=0.3)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: world.box.ack("rotation1-promoted"))
    ack = world.box.ack("rotation1-promoted")
    assert ack.fingerprint == new
    assert ack.call == "fetch_balance (made by keyturn)"
    assert exchange.apiKey == world.keys[new].key_ref


async def test_without_a_notice_no_call_is_made_for_the_bot(world):
    await world.put_first()
    world.attach(world.exchange("sync"), verify_with="fetch_balance", verify_after=0.0)
    new = await world.rotate()
    await quiet(world)
    assert world.calls_by(new).signed == 0


async def test_the_acknowledgement_carries_no_secret_and_no_key_ref(world):
    await world.put_first()
    exchange = world.exchange("async")
    world.attach(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-promoted"))
    text = (world.box.folder / "ack-rotation1-promoted.json").read_text()
    assert world.box.answer(AckMessage, "rotation1-promoted").is_by(material_of(world.keys[new]))
    assert world.box.ack("rotation1-promoted").fingerprint == new
    assert world.keys[new].secret not in text
    assert world.keys[new].key_ref not in text
    assert (world.box.folder.stat().st_mode & 0o777, len(list(world.box.folder.iterdir()))) == (0o700, 2)


async def test_garbage_in_the_mailbox_stops_nothing(world):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    world.box.folder.mkdir(parents=True)
    (world.box.folder / "notice-x.json").write_bytes(b"\xff\xfe{")
    (world.box.folder / "notice-big.json").write_bytes(b" " * 100_000)
    (world.box.folder / "notice-dir.json").mkdir()
    (world.box.folder / "probe-x.json").write_text(json.dumps({"format": 2}))
    new = await world.rotate()
    copied = world.notice(new).model_dump_json()
    (world.box.folder / "notice-other-promoted.json").write_text(copied)
    await until(lambda: attachment.fingerprint == new)
    await exchange.private_get_v5_account_wallet_balance()
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("other-promoted") is None


async def test_a_mailbox_that_cannot_be_read_does_not_hold_up_the_swap(world, caplog):
    await world.put_first()
    exchange = world.exchange("async")
    attachment = world.attach(exchange)
    world.box.folder.parent.mkdir(exist_ok=True)
    world.box.folder.symlink_to(world.box.folder)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    assert "Reading the mailbox" in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_pending_key_is_tried_from_where_the_bot_stands(world, kind):
    old = await world.put_first()
    exchange = world.exchange(kind)
    if kind == "async":
        await exchange.public_get_v5_market_time()
    attachment = world.attach(exchange)
    pending, attempt, info = await world.stage()
    world.ask_probe(pending, attempt, info)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    report = world.box.report(attempt.rotation_id, attempt.number)
    assert (report.fingerprint, report.fault) == (pending, None)
    assert world.calls_by(pending).ok > 0
    assert (attachment.fingerprint, exchange.apiKey) == (old, world.keys[old].key_ref)


async def test_a_pending_key_bound_elsewhere_is_reported_as_wrong_address(world):
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage(ips=("203.0.113.7",))
    world.ask_probe(pending, attempt, info)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert world.box.report(attempt.rotation_id, attempt.number).fault is ExchangeFault.WRONG_IP


async def test_a_probe_that_the_network_spoiled_is_made_again(world, monkeypatch):
    monkeypatch.setattr(watcher_module, "_PROBE_PAUSE", 0.05)
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage()
    key_ref = world.keys[pending].key_ref
    world.sim.faults.add(Fault(kind=FaultKind.CUT_BEFORE, key_ref=key_ref, times=2))
    world.ask_probe(pending, attempt, info)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert world.box.report(attempt.rotation_id, attempt.number).fault is None


async def test_a_passing_fault_is_never_the_last_word_on_a_pending_key(world, monkeypatch):
    monkeypatch.setattr(watcher_module, "_PROBE_PAUSE", 0.01)
    monkeypatch.setattr(watcher_module, "_PROBE_PAUSE_CAP", 0.1)
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage()
    key_ref = world.keys[pending].key_ref
    # Longer away than a key that is not known would be tried.
    world.sim.faults.add(
        Fault(kind=FaultKind.CUT_BEFORE, key_ref=key_ref, times=watcher_module._PROBE_TRIES + 2)
    )
    world.ask_probe(pending, attempt, info)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number), 20)
    assert world.box.report(attempt.rotation_id, attempt.number).fault is None


async def test_a_pending_key_is_tried_again_when_keyturn_asks_anew(world):
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage(ips=("203.0.113.7",))
    request = ProbeRequest(CREDENTIAL, CONSUMER, attempt.rotation_id, attempt.number, pending, info.version)
    keyturn = keyturn_of(world)
    await keyturn.request_probe(request)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert (await keyturn.probe_report(request)).fault == ExchangeFault.WRONG_IP
    key_ref = world.keys[pending].key_ref
    world.sim.change_key(key_ref, replace(world.sim.rules_of(key_ref), ips=()))
    await keyturn.request_probe(request)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert (await keyturn.probe_report(request)).fault == ""


async def test_a_dead_pending_key_is_reported_after_its_tries(world, monkeypatch):
    monkeypatch.setattr(watcher_module, "_PROBE_PAUSE", 0.05)
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage()
    world.revoke(pending)
    world.ask_probe(pending, attempt, info)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert world.box.report(attempt.rotation_id, attempt.number).fault in KEY_FAULTS


async def test_only_the_very_key_that_was_asked_about_is_tried(world):
    await world.put_first()
    world.attach(world.exchange("sync"))
    pending, attempt, info = await world.stage()
    world.ask_probe("otherkey", attempt, info)
    await quiet(world)
    assert world.calls_by(pending).signed == 0
    assert world.box.report(attempt.rotation_id, attempt.number) is None


async def test_a_bot_that_may_not_read_the_pending_key_says_so_once_for_each_request(
    world, caplog, monkeypatch
):
    await world.put_first()
    world.attach(world.exchange("sync"))
    read, asked = StoreSource.read, []

    def current_only(source, slot):
        if slot is Slot.CURRENT:
            return read(source, slot)
        asked.append(slot)
        raise StoreError(StoreFault.DENIED, "The store denies reading the pending path.")

    monkeypatch.setattr(StoreSource, "read", current_only)
    pending, attempt, info = await world.stage()
    keyturn = keyturn_of(world)
    request = ProbeRequest(CREDENTIAL, CONSUMER, attempt.rotation_id, attempt.number, pending, info.version)
    await keyturn.request_probe(request)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert (await keyturn.probe_report(request)).fault == ProbeFault.PENDING_DENIED
    await quiet(world)
    assert len(asked) == 1
    assert caplog.text.count("Reading the pending key") == 1
    monkeypatch.setattr(StoreSource, "read", read)
    await keyturn.request_probe(request)
    await until(lambda: world.box.report(attempt.rotation_id, attempt.number))
    assert (await keyturn.probe_report(request)).fault == ""
