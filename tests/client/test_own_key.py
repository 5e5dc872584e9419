"""Keys that the bot handles itself: those that it sets, and those that it signs with beside ccxt."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import ccxt
import pytest

import keyturn.client
from keyturn.client.holder import Loaded
from keyturn.client.messages import OwnKeyMessage
from keyturn.domain.errors import InventoryError, RefusedError

from .conftest import BALANCE, CONSUMER, CREDENTIAL, until
from .test_ack_probe import keyturn_of


def as_attributes(exchange, key):
    """Set a key as bots do."""
    exchange.apiKey, exchange.secret = key.key_ref, key.secret


def past_every_hook(exchange, key):
    """Set a key in the object's own dictionary."""
    exchange.__dict__.update(apiKey=key.key_ref, secret=key.secret)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("how", [as_attributes, past_every_hook])
async def test_an_object_whose_key_the_bot_sets_is_attached_no_longer_and_confirms_nothing(
    world, kind, how, caplog
):
    old = await world.put_first()
    exchange = world.exchange(kind)
    attachment = world.attach(exchange, verify_with="fetch_balance", verify_after=0.1)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new and exchange.apiKey == world.keys[new].key_ref)
    how(exchange, world.keys[old])
    call = exchange.private_get_v5_account_wallet_balance
    await (asyncio.to_thread(call) if kind == "sync" else call())
    assert (world.calls_by(old).signed, world.calls_by(new).signed) == (1, 0)
    assert not attachment.attached
    assert attachment.fingerprint == ""
    [said] = [r for r in caplog.records if (r.name, r.levelno) == ("keyturn.client", logging.WARNING)]
    assert "the bot set another key" in said.getMessage()
    assert world.keys[old].key_ref not in said.getMessage()
    world.notice(new)
    await world.rotate()
    await asyncio.sleep(0.8)
    assert world.box.ack("rotation1-promoted") is None
    assert exchange.apiKey == world.keys[old].key_ref


async def found(world) -> str:
    """Give what `doctor`, and a rotation that waits, tell of the bot."""
    bot = keyturn_of(world)
    return "; ".join(each.detail for each in await bot.check() if not each.ok)


async def test_keyturn_is_told_that_a_bot_signs_with_its_own_key_until_it_is_attached_anew(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    assert await found(world) == ""
    other = world.sim.add_key("bot", ["Spot.SpotTrade"])
    as_attributes(exchange, other)
    await until(lambda: world.box.own_key(CREDENTIAL))
    assert f"bot {CONSUMER} signs with a key that it set itself" in await found(world)
    content = (world.box.folder / f"own-key-{CREDENTIAL}.json").read_text()
    assert other.key_ref not in content
    assert other.secret not in content
    # Another object under the name does not take the word of the first one back.
    second = world.attach(world.exchange("sync"))
    await until(lambda: world.box.own_key(CREDENTIAL))
    second.detach()
    assert world.box.own_key(CREDENTIAL) is not None
    attachment.detach()
    assert await found(world) == "", "a bot that detaches itself uses keyturn no longer"
    assert old


async def test_the_word_of_a_process_that_is_gone_is_taken_back_by_the_next_one(world):
    await world.put_first()
    told = OwnKeyMessage(credential=CREDENTIAL, consumer=CONSUMER, at=datetime.now(UTC))
    world.box.tell_own_key(told)
    world.attach(world.exchange("sync"))
    assert world.box.own_key(CREDENTIAL) is None


@pytest.mark.parametrize("content", ['{"says": "all is well"}', "x" * 20_000, "", '{"format": 1}'])
async def test_what_is_no_such_word_is_not_taken_for_one(world, content):
    await world.put_first()
    world.box.folder.mkdir(parents=True, exist_ok=True)
    (world.box.folder / f"own-key-{CREDENTIAL}.json").write_text(content)
    assert world.box.own_key(CREDENTIAL) is None


async def test_an_object_on_the_bots_key_keeps_others_of_its_name_from_confirming_until_it_is_detached(world):
    await world.put_first()
    one, two = world.exchange("sync"), world.exchange("sync")
    first, second = world.attach(one), world.attach(two)
    two.apiKey = "mine"
    new = await world.rotate()
    world.notice(new)
    await until(lambda: first.fingerprint == new)
    await asyncio.to_thread(one.private_get_v5_account_wallet_balance)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    await asyncio.to_thread(second.detach)
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert two.apiKey == "mine"


async def test_an_object_on_the_bots_key_can_be_attached_again(world):
    first = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    exchange.apiKey = exchange.secret = "mine"
    await asyncio.to_thread(attachment.detach)
    assert world.attach(exchange).attached
    await asyncio.to_thread(exchange.private_get_v5_account_wallet_balance)
    assert world.calls_by(first).signed == 1


async def test_setting_the_key_that_is_current_changes_nothing(world, caplog):
    first = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    as_attributes(exchange, world.keys[first])
    assert attachment.attached
    assert caplog.records == []


async def test_key_secret_and_passphrase_of_one_moment_are_of_one_version(world):
    await world.put_first()
    attachment = world.attach(world.exchange("sync"), interval=0.01)
    mixed, read, stop = [], set(), threading.Event()

    def sign():
        while not stop.is_set():
            key, secret, passphrase = attachment.credential()
            [owner] = [k for k in list(world.keys.values()) if k.key_ref == key]
            read.add(key)
            if (secret, passphrase) != (owner.secret, None):
                mixed.append(key)

    signing = asyncio.create_task(asyncio.to_thread(sign))
    for _ in range(10):
        new = await world.rotate()
        await until(lambda new=new: attachment.credential().fingerprint == new)
    stop.set()
    await signing
    assert mixed == []
    assert len(read) > 5


async def test_fields_that_are_read_one_after_the_other_are_of_one_version(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    for fields in [("apiKey", "secret"), ("secret", "apiKey")]:
        read = {fields[0]: getattr(exchange, fields[0])}
        new = await world.rotate()
        await until(lambda new=new: exchange._keyturn_link._loaded.fingerprint == new)
        read[fields[1]] = getattr(exchange, fields[1])
        assert (read["apiKey"], read["secret"]) == (world.keys[old].key_ref, world.keys[old].secret)
        # And the next pair is of the version that is current.
        assert (exchange.apiKey, exchange.secret) == (world.keys[new].key_ref, world.keys[new].secret)
        old = new


async def test_a_secret_that_was_read_with_no_key_is_not_kept_for_later(world, monkeypatch):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    assert exchange.apiKey
    new = await world.rotate()
    await until(lambda: exchange._keyturn_link._loaded.fingerprint == new)
    later = time.monotonic() + 5
    monkeypatch.setattr("keyturn.client.readings.time.monotonic", lambda: later)
    assert exchange.secret == world.keys[new].secret


async def test_a_credential_shows_and_pickles_nothing_and_ends_with_its_attachment(world):
    print_ = await world.put_first()
    attachment = world.attach(world.exchange("sync"))
    credential = attachment.credential()
    assert (credential.key, credential.secret) == (world.keys[print_].key_ref, world.keys[print_].secret)
    assert credential.secret not in f"{credential} {credential!r}"
    with pytest.raises(TypeError, match="credential"):
        pickle.dumps(credential)
    await asyncio.to_thread(attachment.detach)
    with pytest.raises(RefusedError, match="detached") as caught:
        attachment.credential()
    assert "current()" in caught.value.todo


async def test_code_that_signs_by_itself_confirms_with_what_it_signed_with(world):
    await world.put_first()
    attachment = world.attach(world.exchange("sync"))
    before = attachment.credential()
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new)
    attachment.confirm(before, "GET /v5/order/realtime")
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    attachment.confirm(attachment.credential(), "GET /v5/order/realtime")
    await until(lambda: world.box.ack("rotation1-promoted"))
    assert world.box.ack("rotation1-promoted").call == "GET /v5/order/realtime"


@pytest.mark.parametrize("put", ["by keyturn", "by hand"])
async def test_an_object_of_another_venue_is_refused_and_is_given_no_key(world, put, monkeypatch):
    await world.put_first()
    if put == "by hand":
        # As for a key that stands in the store without a word of keyturn's about it.
        whole = Loaded.of
        monkeypatch.setattr(Loaded, "of", lambda *given: replace(whole(*given), exchange=""))
    exchange = ccxt.okx()
    with pytest.raises(RefusedError, match=r"is of okx, and mm-bybit is a key of bybit") as caught:
        world.attach(exchange)
    assert "ccxt.bybit()" in caught.value.todo
    assert not exchange.apiKey
    assert type(exchange) is ccxt.okx


async def test_a_class_in_the_place_of_an_object_is_told_as_one(world):
    await world.put_first()
    with pytest.raises(RefusedError, match="bybit is the class") as caught:
        world.attach(ccxt.bybit)
    assert "bybit()" in caught.value.todo


async def test_a_name_that_is_not_declared_is_answered_with_the_nearest(world):
    await world.put_first()
    exchange, options = world.exchange("sync"), {"inventory": world.root / "keyturn.yaml"}
    with pytest.raises(InventoryError) as caught:
        keyturn.client.attach(exchange, "mm-bibit", **options)
    assert f"write {CREDENTIAL}" in caught.value.todo
    with pytest.raises(InventoryError) as caught:
        keyturn.client.attach(exchange, CREDENTIAL, consumer="mm-bto", **options)
    assert f"write {CONSUMER}" in caught.value.todo
    assert not exchange.apiKey


async def test_a_call_name_of_any_length_is_cut_to_what_an_acknowledgement_holds(world):
    print_ = await world.put_first()
    attachment = world.attach(world.exchange("sync"))
    attachment.confirm(attachment.credential(), f"GET {BALANCE}" * 100)
    world.notice(print_, "rotation1")
    await until(lambda: world.box.ack("rotation1-promoted"))


async def test_a_key_that_the_bot_sets_during_a_swap_stays_whole(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange, interval=0.005)
    mine, over = ("my-key", "my-secret"), asyncio.Event()

    def switch():
        other = copy.copy(exchange)
        other.apiKey, other.secret = mine
        return other.apiKey, other.secret

    async def switching():
        while not over.is_set():
            assert await asyncio.to_thread(switch) == mine

    task = asyncio.create_task(switching())
    for _ in range(8):
        await world.rotate()
    over.set()
    await task
