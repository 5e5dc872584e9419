"""An inventory at three exchanges whose every secret is a canary, with manager keys and first keys."""

from __future__ import annotations

import asyncio
import json
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn import wiring
from keyturn.demo.cast import ADDRESS, PARTS
from keyturn.domain.material import SecretMaterial
from keyturn.engine import adopt
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.settings import load_inventory
from keyturn.simulator import IssuedKey
from keyturn.stores.keys import generate_identity

from .remote import GATES, Remote
from .venues import Street

# The manager's first look at a fleet of a hundred keys, on a machine that does other things too.
_AT_ONCE = 16
_PARTS = {part.exchange: part for part in PARTS}
VENUES = tuple(_PARTS)

_HEAD = """\
version: 1
journal: {url: "sqlite:///journal.db"}
policies:
  quick: {rotate_every: 60d, grace: 0s, confirm_within: 60s}
defaults: {store: main, policy: quick}
"""


def new_canary() -> str:
    """Draw a text that stands in nothing by chance; its sign is one that URLs quote."""

    def word() -> str:
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(7))

    return f"{word()}+{word()}"


@dataclass(frozen=True)
class Tenant:
    """A credential of the house."""

    name: str
    venue: str
    consumers: tuple[str, ...] = ("hook",)
    store: str = "main"

    @property
    def account(self) -> str:
        # A Deribit account manages its own keys and may have few: each tenant has one of its own. So has the
        # one whose worker is killed, for an account says how soon a worker counts as dead.
        alone = self.venue == "deribit" or self.name.startswith("killed")
        return f"{self.venue}-{self.name}" if alone else self.venue

    @property
    def owner(self) -> str:
        """The account at the exchange that the key belongs to."""
        return self.account if self.venue == "deribit" else self.name.replace("-", "")


class House:
    """The folder of an inventory, and the exchanges around it."""

    def __init__(self, folder: Path, street: Street, remote: Remote, hmac_key: str) -> None:
        self.folder, self.street, self.remote = folder, street, remote
        self.tenants: dict[str, Tenant] = {}
        self.file = folder / "keyturn.yaml"
        #: The same, with each remote store as it is behind every gate.
        self.gated = folder / "gated.yaml"
        self.identity, self.hmac_file = folder / "age.key", folder / "hmac.key"
        #: The one place outside of the store where a secret belongs.
        self.rendered = folder / "run" / "vol-deribit.json"
        self.command_saw = folder / "run" / "command.txt"
        #: What `keyturn client-bundle` makes for the hosts of a bot that reads files, and of one of Vault.
        self.bundles = {name: folder / "bundles" / name for name in ("bot-away", "bot-okx")}
        self.rendered.parent.mkdir()
        self.hmac_file.write_text(hmac_key)
        self.hmac_file.chmod(0o600)

    def take_in(self, *tenants: Tenant) -> None:
        """Add credentials; before `furnish`."""
        self.tenants |= {tenant.name: tenant for tenant in tenants}

    def furnish(self) -> None:
        """Open the accounts, write the inventory, put every key into the store."""
        generate_identity(self.identity)
        keys = self._keys()
        self.file.write_text(self.inventory())
        self.gated.write_text(self.inventory(gates=("", *GATES)))
        asyncio.run(self._put(*keys))

    def inventory(self, gates: Sequence[str] = ("",)) -> str:
        """Write the inventory, with the stores behind these gates."""
        look = [
            "/bin/sh",
            "-c",
            'tr "\\0" "\\n" </proc/$$/environ >run/command.txt; ps -ef >>run/command.txt',
        ]
        if not sys.platform.startswith("linux"):
            look = ["/bin/sh", "-c", "env >run/command.txt; ps -ef >>run/command.txt"]
        consumers = {
            "bot-bybit": {"kind": "client"},
            "bot-okx": {"kind": "client"},
            "bot-away": {"kind": "client"},
            "hook": {"kind": "webhook", "url": self.street.hook_url, "hmac_key": {"file": "hmac.key"}},
            "render": {"kind": "file", "path": "run/vol-deribit.json", "run": look},
        }
        accounts = {
            tenant.account: {
                "exchange": tenant.venue,
                "url": self.street.exchanges[tenant.venue].base_url,
                "manager": {"store": "main", "path": f"managers/{tenant.account}"},
                "timeout": "2s" if tenant.name.startswith("killed") else "5s",
            }
            for tenant in self.tenants.values()
        }
        credentials = {name: self._credential(tenant) for name, tenant in self.tenants.items()}
        main = {"kind": "age_files", "path": "secrets", "key": {"file": "age.key"}}
        stores = {"main": main, **self.remote.entries(gates)}
        parts = {"stores": stores, "accounts": accounts, "consumers": consumers, "credentials": credentials}
        return _HEAD + "\n".join(f"{name}: {json.dumps(part)}" for name, part in parts.items()) + "\n"

    def _credential(self, tenant: Tenant) -> Mapping[str, object]:
        part = _PARTS[tenant.venue]
        owner = self.street.exchanges[tenant.venue].accounts[tenant.owner]
        whose = {"bybit": owner.uid, "okx": owner.name, "deribit": None}[tenant.venue]
        return {
            "account": tenant.account,
            "permissions": list(part.permissions),
            "ip_allowlist": [ADDRESS],
            "store": tenant.store,
            "path": f"bots/{tenant.name}",
            "consumers": list(tenant.consumers),
        } | ({"subaccount": whose} if whose else {})

    def _keys(self) -> tuple[dict[str, IssuedKey], dict[str, IssuedKey]]:
        """Let the exchanges issue a manager key for each account and a first key for each tenant."""
        managers: dict[str, IssuedKey] = {}
        first: dict[str, IssuedKey] = {}
        for tenant in self.tenants.values():
            exchange, part = self.street.exchanges[tenant.venue], _PARTS[tenant.venue]
            if tenant.account not in managers:
                exchange.add_account(tenant.account)
                managers[tenant.account] = exchange.add_key(
                    tenant.account, part.manager_rights, ips=[ADDRESS]
                )
            if tenant.owner != tenant.account:
                exchange.add_account(tenant.owner, parent=tenant.account)
            first[tenant.name] = exchange.add_key(tenant.owner, part.rights, ips=[ADDRESS])
        return managers, first

    async def _put(self, managers: dict[str, IssuedKey], first: dict[str, IssuedKey]) -> None:
        loaded = load_inventory(self.file, manifests=catalog.manifests())
        gate = asyncio.Semaphore(_AT_ONCE)
        async with wiring.open_world(loaded, actor="cli:test", rate_limit=False) as world:

            async def one(put: object, world: World, name: str, key: IssuedKey) -> None:
                async with gate:
                    await put(world, name, material(key))  # type: ignore[operator]

            await asyncio.gather(*(one(adopt.put_manager, world, n, k) for n, k in managers.items()))
            await asyncio.gather(*(one(adopt.put_credential, world, n, k) for n, k in first.items()))
            self.street.salt = await world.journal.salt()


def material(key: IssuedKey) -> SecretMaterial:
    """Give an issued key as keyturn holds it."""
    return SecretMaterial(key.key_ref, key.secret, key.passphrase or None)
