"""A bot's world: a simulated Bybit, an age store, a mailbox, and rotations made by hand."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ccxt
import ccxt.async_support
import ccxt.pro
import pytest

import keyturn.client
from keyturn.client.mailbox import Mailbox
from keyturn.client.messages import NoticeMessage, ProbeMessage
from keyturn.client.settings import StoreSource
from keyturn.domain.evidence import NoticeKind
from keyturn.domain.labels import Attempt, fingerprint
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo
from keyturn.simulator import IssuedKey, SimBybit
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.keys import generate_identity

PATH = "bots/mm-bybit"
CREDENTIAL = "mm-bybit"
CONSUMER = "mm-bot"
BALANCE = "v5/account/wallet-balance"


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        await asyncio.sleep(0.01)


@dataclass
class World:
    sim: SimBybit
    root: Path
    store: AgeFilesStore
    box: Mailbox
    keys: dict[str, IssuedKey] = field(default_factory=dict)
    attached: list[Any] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    rotations: int = 0

    def attach(self, exchange: Any, **options: Any) -> keyturn.client.Attachment:
        options.setdefault("verify_with", None)
        attachment = keyturn.client.attach(
            exchange, CREDENTIAL, inventory=self.root / "keyturn.yaml", consumer=CONSUMER, **options
        )
        self.attached.append(attachment)
        return attachment

    def exchange(self, kind: str, **config: Any) -> Any:
        module = {"sync": ccxt, "async": ccxt.async_support, "pro": ccxt.pro}[kind]
        exchange = module.bybit({"enableRateLimit": False, **config})
        exchange.urls["api"] = {
            name: self.sim.base_url if isinstance(url, str) else url
            for name, url in exchange.urls["api"].items()
        }
        self.opened.append(exchange)
        return exchange

    def issue(self, *, ips: tuple[str, ...] = ()) -> tuple[str, SecretMaterial, IssuedKey]:
        key = self.sim.add_key("bot", ["Spot.SpotTrade"], ips=ips)
        print_ = fingerprint(b"salt", "bybit", key.key_ref)
        self.keys[print_] = key
        return print_, SecretMaterial(key.key_ref, key.secret), key

    def meta(self, print_: str, key: IssuedKey, attempt: Attempt | None) -> KeyMeta:
        return KeyMeta("bybit", "main", key.key_ref, print_, attempt, datetime.now(UTC))

    async def put_first(self) -> str:
        print_, material, key = self.issue()
        await self.store.put(PATH, material, self.meta(print_, key, None), expect_current=None)
        return print_

    async def stage(self, **rules: Any) -> tuple[str, Attempt, SlotInfo]:
        self.rotations += 1
        attempt = Attempt(f"rotation{self.rotations}", 1)
        print_, material, key = self.issue(**rules)
        claim = await self.store.claim(PATH, attempt)
        info = await self.store.stage(PATH, material, self.meta(print_, key, attempt), claim)
        return print_, attempt, info

    async def rotate(self) -> str:
        """Mint, stage, promote; the old key lives on."""
        print_, attempt, _ = await self.stage()
        current = await self.store.peek(PATH, Slot.CURRENT)
        assert current is not None
        await self.store.promote(PATH, attempt, expect_current=current.version)
        return print_

    def notice(
        self, print_: str, rotation: str = "", kind: NoticeKind = NoticeKind.PROMOTED
    ) -> NoticeMessage:
        notice = NoticeMessage(
            credential=CREDENTIAL,
            consumer=CONSUMER,
            rotation_id=rotation or f"rotation{self.rotations}",
            fingerprint=print_,
            kind=kind,
            version="1",
            confirm_by=datetime.now(UTC) + timedelta(hours=1),
        )
        self.box.put(notice)
        return notice

    def ask_probe(self, print_: str, attempt: Attempt, info: SlotInfo) -> ProbeMessage:
        probe = ProbeMessage(
            credential=CREDENTIAL,
            consumer=CONSUMER,
            rotation_id=attempt.rotation_id,
            fingerprint=print_,
            attempt=attempt.number,
            version=info.version,
        )
        self.box.put(probe)
        return probe

    def revoke(self, print_: str) -> None:
        self.sim.kill_key(self.keys[print_].key_ref)

    def calls_by(self, print_: str) -> Any:
        return self.sim.calls_by(self.keys[print_].key_ref)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    generate_identity(tmp_path / "age.key")
    inventory = {
        "version": 1,
        "stores": {"local": {"kind": "age_files", "path": "store", "key": {"file": "age.key"}}},
        "accounts": {"main": {"exchange": "bybit", "manager": {"store": "local", "path": "managers/main"}}},
        "credentials": {
            CREDENTIAL: {
                "account": "main",
                "permissions": ["read", "trade_spot"],
                "store": "local",
                "path": PATH,
                "consumers": [CONSUMER],
                "no_ip_allowlist_reason": "The test runs on loopback.",
            }
        },
        "consumers": {CONSUMER: {"kind": "client", "mailbox": "mailbox"}},
    }
    (tmp_path / "keyturn.yaml").write_text(json.dumps(inventory))
    store = AgeFilesStore(tmp_path / "store", (tmp_path / "age.key").read_text)
    async with SimBybit() as sim:
        sim.add_account("main", uid="1001")
        sim.add_account("bot", parent="main", uid="2002", key_limit=100)
        world = World(sim, tmp_path, store, Mailbox(tmp_path / "mailbox" / CONSUMER))
        try:
            yield world
        finally:
            for attachment in world.attached:
                await asyncio.to_thread(attachment.detach)
            for exchange in world.opened:
                closing = exchange.close()
                if closing is not None:
                    await closing
            await store.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("keyturn-mm")]


@pytest.fixture
def source(world: World) -> StoreSource:
    return StoreSource(world.store, PATH)
