"""A house: an inventory whose exchange is simulated, with its store and its journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from keyturn import settings, wiring
from keyturn.domain.material import SecretMaterial
from keyturn.engine import adopt
from keyturn.exchanges import catalog
from keyturn.simulator import IssuedKey, SimBybit
from keyturn.stores.keys import generate_identity

NAMES = ("mm-bybit", "arb.bybit")
INVENTORY = """
version: 1
journal: {{url: "sqlite:///journal.db"}}
stores:
  main: {{kind: age_files, path: store, key: {{file: age.key}}}}
accounts:
  trading:
    exchange: bybit
    manager: {{store: main, path: managers/bybit}}
    url: {url}
    timeout: {timeout}
policies:
  quick: {{rotate_every: 60d, grace: {grace}, confirm_within: {confirm_within}}}
defaults: {{store: main, policy: quick}}
consumers: {consumer}
credentials:
"""
CREDENTIAL = """
  {name}:
    account: trading
    subaccount: "{uid}"
    permissions: [read, trade_spot]
    no_ip_allowlist_reason: the bots of this test have no fixed address
    path: bots/{name}
    consumers: [{consumers}]
"""


@dataclass
class House:
    """A folder with an inventory, and the truth about it."""

    folder: Path
    url: str
    #: Credential -> the uid of its sub-account.
    uids: dict[str, str]
    manager_rights: ClassVar[list[str]] = ["Wallet.SubMemberTransfer", "Wallet.AccountTransfer"]
    bot_rights: ClassVar[list[str]] = ["Spot.SpotTrade"]
    grace: str = "0s"
    confirm_within: str = "2h"
    #: A worker that died while it minted counts as dead after three of these and two seconds.
    timeout: str = "3s"
    consumers: str = ""
    sim: SimBybit | None = None

    @property
    def file(self) -> Path:
        return self.folder / "keyturn.yaml"

    def write(self, *names: str, **changes: str) -> None:
        """Write the inventory with these credentials (by default all) and other settings."""
        for name, value in changes.items():
            setattr(self, name, value)
        text = INVENTORY.format(
            url=self.url,
            grace=self.grace,
            confirm_within=self.confirm_within,
            timeout=self.timeout,
            consumer="{bot: {kind: client}}" if self.consumers else "{}",
        )
        for name in names or self.uids:
            text += CREDENTIAL.format(name=name, uid=self.uids[name], consumers=self.consumers)
        self.file.write_text(text)

    def world(self, actor: str = "test") -> Any:
        loaded = settings.load_inventory(self.file, manifests=catalog.manifests())
        return wiring.open_world(loaded, actor=actor)

    async def furnish(self, manager: SecretMaterial, first: dict[str, SecretMaterial]) -> None:
        """Write the inventory, put the manager key and the bots' first keys into the store."""
        await asyncio.to_thread(generate_identity, self.folder / "age.key")
        self.write()
        async with self.world() as world:
            await adopt.put_manager(world, "trading", manager)
            for name, key in first.items():
                await adopt.put_credential(world, name, key)

    def live(self, name: str) -> list[str]:
        """The refs of the live keys of a credential's sub-account, by the exchange's own books."""
        assert self.sim is not None
        return [k.ref for k in self.sim.accounts[name].keys.values() if self.sim.is_live(k.ref)]


def material(key: IssuedKey) -> SecretMaterial:
    return SecretMaterial(key.key_ref, key.secret)
