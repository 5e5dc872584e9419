"""The scene of a measurement: simulated exchanges as processes, an inventory, old keys in the store."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.domain.material import SecretMaterial

# Deribit allows eight keys an account and knows no sub-accounts for keys; each of its accounts takes this
# many credentials, and so many accounts there are. The other venues share the rest.
_DERIBIT_EACH, _DERIBIT_ACCOUNTS = 3, 5
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Credential:
    """One key to rotate."""

    name: str
    exchange: str
    account: str
    subaccount: str | None
    material: SecretMaterial


@dataclass(frozen=True, slots=True)
class Scene:
    """What one measurement runs in."""

    folder: Path
    urls: dict[str, str]
    managers: dict[str, SecretMaterial]
    exchange_of: dict[str, str]
    credentials: tuple[Credential, ...]

    @property
    def inventory(self) -> Path:
        """The inventory file."""
        return self.folder / "keyturn.yaml"


def _key(exchange: str) -> dict[str, str]:
    key = {"key_ref": secrets.token_hex(9), "secret": secrets.token_hex(16)}
    return key | ({"passphrase": "Bench-" + secrets.token_hex(6)} if exchange == "okx" else {})


def _material(key: Mapping[str, str]) -> SecretMaterial:
    values = {"api_key": key["key_ref"], "secret": key["secret"], "passphrase": key.get("passphrase")}
    return SecretMaterial.of({k: v for k, v in values.items() if v})


_MANAGER_RIGHTS = {
    "bybit": ["Wallet.SubMemberTransfer"],
    "okx": ["read_only", "trade"],
    "deribit": ["account:read_write"],
}
_BOT_RIGHTS = {
    "bybit": ["Spot.SpotTrade"],
    "okx": ["read_only", "trade"],
    "deribit": ["account:read", "trade:read_write", "wallet:read"],
}
_PERMISSIONS = {"bybit": "[read, trade_spot]", "okx": "[read, trade]", "deribit": "[read, trade]"}


def plan(count: int) -> list[tuple[str, str, str | None]]:
    """Spread credentials over venues: (exchange, account, sub-account)."""
    deribit = min(count // 3, _DERIBIT_EACH * _DERIBIT_ACCOUNTS)
    spread: list[tuple[str, str, str | None]] = [
        ("deribit", f"deribit-{i // _DERIBIT_EACH}", None) for i in range(deribit)
    ]
    for i in range(count - deribit):
        exchange = ("bybit", "okx")[i % 2]
        spread.append((exchange, exchange, str(500_000 + i) if exchange == "bybit" else f"sub{i}"))
    return spread


_AGE = "{kind: age_files, path: secrets, key: {file: age.key}}"


@contextmanager
def scene(count: int, latency: float, *, store: str = _AGE) -> Iterator[Scene]:
    """Set the scene for so many credentials; every call of the venues takes `latency` seconds longer.

    Args:
        count: of the credentials.
        latency: in seconds.
        store: what the inventory says of the store that holds everything.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-bench-")))
        seeds: dict[str, list[dict[str, object]]] = {"bybit": [], "okx": [], "deribit": []}
        managers, exchange_of, credentials = {}, {}, []
        for i, (exchange, account, subaccount) in enumerate(plan(count)):
            if account not in managers:
                manager = _key(exchange)
                managers[account] = _material(manager)
                exchange_of[account] = exchange
                rights = {**manager, "permissions": _MANAGER_RIGHTS[exchange], "ips": [LOOPBACK]}
                seeds[exchange].append({"name": account, "keys": [rights]})
            key = _key(exchange)
            owned = {**key, "permissions": _BOT_RIGHTS[exchange], "ips": [LOOPBACK], "label": "by hand"}
            if subaccount is None:
                next(a for a in seeds[exchange] if a["name"] == account)["keys"].append(owned)  # type: ignore[attr-defined]
            else:
                entry: dict[str, object] = {"name": subaccount, "parent": account, "keys": [owned]}
                seeds[exchange].append(entry | ({"uid": subaccount} if exchange == "bybit" else {}))
            credentials.append(Credential(f"c{i:04d}", exchange, account, subaccount, _material(key)))
        urls = {x: stack.enter_context(_venue(x, s, latency, folder)) for x, s in seeds.items() if s}
        made = Scene(folder, urls, managers, exchange_of, tuple(credentials))
        _write_inventory(made, store)
        yield made


@contextmanager
def _venue(exchange: str, accounts: list[dict[str, object]], latency: float, folder: Path) -> Iterator[str]:
    seed = folder / f"{exchange}.seed.json"
    faults = [{"kind": "latency", "match": "", "seconds": latency, "times": None}]
    seed.write_text(json.dumps({"accounts": accounts, "faults": faults}))
    command = [sys.executable, "-m", "keyturn.simulator", "--exchange", exchange, "--with-parent"]
    process = subprocess.Popen([*command, "--seed-file", str(seed)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _write_inventory(made: Scene, store: str) -> None:
    lines = ["version: 1", "stores:", f"  local: {store}"]
    lines.append("accounts:")
    for account, exchange in made.exchange_of.items():
        manager = f"{{store: local, path: managers/{account}}}"
        url = made.urls[exchange]
        lines.append(f'  {account}: {{exchange: {exchange}, url: "{url}", manager: {manager}}}')
    lines.append("credentials:")
    for c in made.credentials:
        sub = f'subaccount: "{c.subaccount}", ' if c.subaccount else ""
        lines.append(
            f"  {c.name}: {{account: {c.account}, {sub}permissions: {_PERMISSIONS[c.exchange]},"
            f" ip_allowlist: [{LOOPBACK}], path: bots/{c.name}}}"
        )
    lines += ["policies:", "  bench: {grace: 0s}", "defaults: {store: local, policy: bench}"]
    made.inventory.write_text("\n".join(lines) + "\n")
    made.folder.chmod(0o700)
