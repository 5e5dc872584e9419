"""How bots hold, copy and pickle their exchange objects: each signs with its own key, and follows it."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import sys
import threading
from functools import lru_cache

import ccxt
import ccxt.async_support
import pytest

import keyturn.client
from keyturn.client.settings import StoreSource
from keyturn.domain.errors import InventoryError

from .conftest import CREDENTIAL, PATH, until


class Unpicklable(StoreSource):
    """A source that holds on to something of this process."""

    def __reduce__(self):
        raise TypeError("no")


def by_dictionary(exchange):
    """Copy an object as some libraries do, past its class's own ways."""
    new = type(exchange)()
    new.__dict__.update(exchange.__dict__)
    return new


def by_pickle(exchange):
    """Copy an object through a pickle."""
    return pickle.loads(pickle.dumps(exchange))


WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "dictionary": by_dictionary, "pickle": by_pickle}


async def call(exchange):
    """Make a signed call, sync or async."""
    order = exchange.private_get_v5_account_wallet_balance
    return await (
        asyncio.to_thread(order) if isinstance(exchange, ccxt.Exchange) and exchange.synchronous else order()
    )


async def drop(exchange):
    """End the watch of an object that came out of a pickle, which nobody has an attachment of."""
    if link := exchange.__dict__.get("_keyturn_link"):
        await asyncio.to_thread(link.watcher.stop)
    await until(lambda: len([t for t in threading.enumerate() if t.name == f"keyturn-{CREDENTIAL}"]) <= 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_copy_follows_the_key_and_its_original_too(world, kind, way):
    old = await world.put_first()
    exchange = world.exchange(kind)
    attachment = world.attach(exchange)
    other = WAYS[way](exchange)
    world.opened.append(other)
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new and other.apiKey == world.keys[new].key_ref)
    world.revoke(old)
    await call(other)
    await call(exchange)
    assert (world.calls_by(old).signed, world.calls_by(new).signed) == (0, 2)
    await drop(other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_copy_that_is_given_another_key_signs_with_that_one_alone(world, kind, way, caplog):
    first = await world.put_first()
    exchange = world.exchange(kind)
    attachment = world.attach(exchange)
    theirs, _, key = world.issue()
    other = WAYS[way](exchange)
    world.opened.append(other)
    other.apiKey, other.secret = key.key_ref, key.secret
    await call(other)
    assert (world.calls_by(theirs).signed, world.calls_by(first).signed) == (1, 0)
    await call(exchange)
    assert (world.calls_by(theirs).signed, world.calls_by(first).signed) == (1, 1)
    assert attachment.attached
    assert "attached no longer" in caplog.text
    assert key.secret not in caplog.text
    await drop(other)


async def test_a_copy_on_another_key_holds_no_confirmation_up(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    other = copy.copy(exchange)
    other.apiKey, other.secret = "of-another-account", "x"
    new = await world.rotate()
    world.notice(new)
    await until(lambda: exchange.apiKey == world.keys[new].key_ref)
    await call(exchange)
    await until(lambda: world.box.ack("rotation1-promoted"))


async def test_a_key_is_not_confirmed_while_a_copy_is_on_the_one_before(world):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    other = copy.copy(exchange)
    with other._keyturn_link._lock:
        new = await world.rotate()
        world.notice(new)
        await until(lambda: attachment.fingerprint == new)
        await call(exchange)
        await asyncio.sleep(0.6)
        assert world.box.ack("rotation1-promoted") is None
    await until(lambda: world.box.ack("rotation1-promoted"))


async def test_copies_that_the_bot_has_dropped_are_waited_for_no_more(world):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    for _ in range(50):
        copy.copy(exchange)
    gc.collect()
    copy.copy(exchange)
    assert len(attachment._watcher.objects._known) <= 2
    assert len([t for t in threading.enumerate() if t.name == f"keyturn-{CREDENTIAL}"]) == 1


async def test_a_copy_can_be_attached_on_its_own(world):
    await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    other = copy.deepcopy(exchange)
    own = world.attach(other)
    assert own.attached
    new = await world.rotate()
    await until(lambda: other.apiKey == exchange.apiKey == world.keys[new].key_ref)


async def test_detaching_leaves_copies_on_the_key_that_they_have_as_plain_objects(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    other, late = copy.copy(exchange), by_dictionary(exchange)
    await asyncio.to_thread(attachment.detach)
    assert type(exchange) is type(other) is ccxt.bybit
    await call(other)
    await call(late)
    assert world.calls_by(old).signed == 2
    assert not attachment.attached


async def test_an_object_that_was_detached_pickles_with_its_key_as_ccxt_does(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    await asyncio.to_thread(attachment.detach)
    assert by_pickle(exchange).apiKey == world.keys[old].key_ref


async def test_a_pickle_carries_no_key(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    text = pickle.dumps(exchange)
    key = world.keys[old]
    assert key.secret.encode() not in text
    assert key.key_ref.encode() not in text


_ELSEWHERE = """
import pickle, sys
exchange = pickle.load(open(sys.argv[1], "rb"))
print(exchange.apiKey, flush=True)
sys.stdin.readline()
exchange.private_get_v5_account_wallet_balance()
print(exchange.apiKey, flush=True)
"""


async def test_another_process_follows_the_key_of_the_object_that_it_was_given(world):
    old = await world.put_first()
    exchange = world.exchange("sync")
    world.attach(exchange)
    (world.root / "exchange").write_bytes(pickle.dumps(exchange))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _ELSEWHERE, str(world.root / "exchange")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert (await child.stdout.readline()).decode().strip() == world.keys[old].key_ref
    new = await world.rotate()
    world.revoke(old)
    rest, _ = await child.communicate(b"go on\n")
    assert rest.decode().strip() == world.keys[new].key_ref
    assert child.returncode == 0


async def test_an_object_out_of_a_pickle_confirms_nothing(world):
    await world.put_first()
    exchange = world.exchange("sync")
    attachment = world.attach(exchange)
    other = by_pickle(exchange)
    new = await world.rotate()
    world.notice(new)
    await until(lambda: attachment.fingerprint == new and other.apiKey == world.keys[new].key_ref)
    await call(other)
    await asyncio.sleep(0.6)
    assert world.box.ack("rotation1-promoted") is None
    await drop(other)


async def test_what_cannot_be_pickled_or_opened_says_why_and_what_to_do(world):
    await world.put_first()
    exchange = world.exchange("sync")
    with (
        keyturn.client.attach(exchange, CREDENTIAL, source=Unpicklable(world.store, PATH), verify_with=None),
        pytest.raises(pickle.PicklingError, match=r"Attach it with inventory=.* before it is attached"),
    ):
        pickle.dumps(exchange)
    world.attach(exchange)
    text = pickle.dumps(exchange)
    (world.root / "keyturn.yaml").unlink()
    with pytest.raises(InventoryError, match="cannot be read") as caught:
        pickle.loads(text)
    assert caught.value.todo


class Counted(ccxt.bybit):
    """A bot's own class, which knows its subclasses and signs in its own way."""

    kinds: list[type] = []
    _key = None

    def __init_subclass__(cls, **_):
        Counted.kinds.append(cls)

    @property
    def apiKey(self):  # noqa: N802 - ccxt's name
        return self._key

    @apiKey.setter
    def apiKey(self, value):  # noqa: N802
        self._key = value

    def sign(self, *args, **kwargs):
        request = super().sign(*args, **kwargs)
        return {**request, "headers": {**(request["headers"] or {}), "Referer": "mine"}}


@pytest.mark.parametrize("way", [None, "copy", "deepcopy"])
async def test_a_class_of_the_bots_own_is_kept_whole(world, way):
    old = await world.put_first()
    exchange = Counted({"enableRateLimit": False})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], world.sim.base_url)
    world.attach(exchange)
    other = WAYS[way](exchange) if way else exchange
    new = await world.rotate()
    await until(lambda: other.apiKey == world.keys[new].key_ref)
    world.revoke(old)
    await call(other)
    assert world.calls_by(new).signed == 1
    assert isinstance(other, Counted)
    assert (type(other).__name__, Counted.kinds) == ("Counted", [])
    assert other.sign("v5/x", ["private"], "GET")["headers"]["Referer"] == "mine"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_wrapper_of_the_bots_own_stays_in_place(world, kind, when):
    old = await world.put_first()
    exchange = world.exchange(kind)
    seen = []

    def wrap():
        inner = exchange.fetch2
        exchange.fetch2 = lambda *args, **kwargs: (seen.append(args[0]), inner(*args, **kwargs))[1]

    if when == "before":
        wrap()
    attachment = world.attach(exchange)
    if when == "after":
        wrap()
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    world.revoke(old)
    await call(exchange)
    await asyncio.to_thread(attachment.detach)
    await call(exchange)
    assert len(seen) == 2
    assert world.calls_by(new).signed == 2


async def test_a_cached_object_and_its_methods_bound_before_attach_follow_the_key(world):
    old = await world.put_first()
    get = lru_cache(lambda: world.exchange("sync"))
    bound = get().private_get_v5_account_wallet_balance
    attachment = world.attach(get())
    new = await world.rotate()
    await until(lambda: attachment.fingerprint == new)
    world.revoke(old)
    await asyncio.to_thread(bound)
    assert world.calls_by(new).signed == 1


async def test_a_copy_of_a_streaming_object_logs_in_with_the_key_that_is_current(world):
    old = await world.put_first()
    exchange = world.exchange("pro")
    world.attach(exchange)
    other = copy.copy(exchange)
    new = await world.rotate()
    await until(lambda: other.apiKey == exchange.apiKey == world.keys[new].key_ref)
    world.revoke(old)
    await call(other)
    assert other.watch_orders.__self__ is other
    assert world.calls_by(new).signed == 1
