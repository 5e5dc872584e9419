"""The swap at the other venues: a passphrase moves with its key, and each way of signing is recognised."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime

import ccxt
import ccxt.async_support
import pytest

import keyturn.client
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import NoticeMessage
from keyturn.domain.evidence import NoticeKind
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo, Stored
from keyturn.simulator import SimDeribit, SimOkx

from .conftest import until


class Shelf:
    """A source in memory."""

    def __init__(self, key):
        self.number = 0
        self.turn(key)

    def turn(self, key):
        self.number += 1
        meta = KeyMeta("x", "main", key.key_ref, f"fp{self.number}", None, datetime.now(UTC))
        info = SlotInfo(Slot.CURRENT, str(self.number), None, meta)
        self.stored = Stored(info, SecretMaterial(key.key_ref, key.secret, key.passphrase or None))

    def signature(self):
        return self.number

    def read(self, slot):
        return self.stored if slot is Slot.CURRENT else None


VENUES = {
    "okx": (SimOkx, ["read_only", "trade"], "private_get_account_balance", {}),
    "deribit": (
        SimDeribit,
        ["account:read", "trade:read_write"],
        "private_get_get_account_summary",
        {"currency": "BTC"},
    ),
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_bot_loses_no_call_at_this_venue_and_confirms(venue, kind, tmp_path):
    simulator, permissions, method, params = VENUES[venue]
    async with simulator() as sim:
        sim.add_account("main")
        keys = [sim.add_key("main", permissions) for _ in range(3)]
        shelf, box = Shelf(keys[0]), Mailbox(tmp_path / "bot")
        exchange = getattr(ccxt if kind == "sync" else ccxt.async_support, venue)({"enableRateLimit": False})
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], sim.base_url)
        call = getattr(exchange, method)
        failed, made, stopped = [], [], False

        async def bot():
            while not stopped:
                try:
                    await (asyncio.to_thread(call, params) if kind == "sync" else call(params))
                except Exception as e:
                    failed.append(e)
                made.append(1)

        attachment = keyturn.client.attach(
            exchange, "c", source=shelf, mailbox=tmp_path, consumer="bot", interval=0.05, verify_with=None
        )
        running = asyncio.create_task(bot())
        try:
            for old, new in itertools.pairwise(keys):
                await until(lambda: len(made) > 5)
                shelf.turn(new)
                sim.kill_key(old.key_ref)
                box.put(
                    NoticeMessage(
                        credential="c",
                        consumer="bot",
                        rotation_id=f"r{shelf.number}",
                        fingerprint=f"fp{shelf.number}",
                        kind=NoticeKind.PROMOTED,
                        version="1",
                        confirm_by=datetime.now(UTC),
                    )
                )
                await until(lambda: box.ack(f"r{shelf.number}-promoted"))
        finally:
            stopped = True
            await running
            await asyncio.to_thread(attachment.detach)
            if kind == "async":
                await exchange.close()
        assert failed == []
        assert sim.calls_by(keys[2].key_ref).ok > 0
