"""Read what a simulated exchange starts with: accounts, keys, faults. No message shows a secret.

.. code-block:: json

    {
      "trust_forwarded": true,
      "accounts": [
        {"name": "main", "keys": [{"key_ref": "...", "secret": "...", "permissions": ["Wallet.Withdraw"]}]},
        {"name": "bot", "parent": "main", "key_limit": 3}
      ],
      "faults": [{"kind": "cut_after", "match": "create-sub-api"}]
    }

Permissions are the exchange's own: ``Spot.SpotTrade`` (Bybit), ``trade`` (OKX), ``trade:read_write``
(Deribit).
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from keyturn.simulator.bybit import SimBybit
from keyturn.simulator.core import SimExchange
from keyturn.simulator.deribit import SimDeribit
from keyturn.simulator.faults import Fault
from keyturn.simulator.okx import SimOkx

EXCHANGES: dict[str, type[SimExchange]] = {sim.venue: sim for sim in (SimBybit, SimOkx, SimDeribit)}


class SeedError(Exception):
    """A seed can't be used; the message says where and why, and shows no value of it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SeedKey(_Strict):
    """A key that exists from the start."""

    key_ref: str
    secret: SecretStr
    passphrase: SecretStr | None = None
    permissions: list[str]
    ips: list[str] = []
    label: str = ""
    read_only: bool = False
    enabled: bool = True


class SeedAccount(_Strict):
    """An account that exists from the start; a parent must stand before its sub-accounts."""

    name: str
    parent: str | None = None
    uid: str | None = None
    key_limit: int | None = None
    totp_secret: SecretStr | None = None
    adds: list[str] = []
    keys: list[SeedKey] = []


class Seed(_Strict):
    """Everything that a simulated exchange starts with."""

    accounts: list[SeedAccount]
    faults: list[Fault] = []
    key_limit: int | None = None
    trust_forwarded: bool = False
    enforce_rate_limits: bool = False
    clock_offset_s: float = 0.0


def read_seed(path: Path) -> Seed:
    """Read a seed file.

    Raises:
        SeedError: it can't be read, is no JSON, or does not fit.
    """
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SeedError(f"the seed file {path} can't be read: {type(error).__name__}") from None
    try:
        return Seed.model_validate(raw)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SeedError(f"the seed file {path} does not fit: {'; '.join(lines)}") from None


def build(exchange: str, seed: Seed, *, port: int = 0) -> SimExchange:
    """Make a simulated exchange with the seed's accounts, keys and faults; it does not serve yet.

    Raises:
        SeedError: an unknown exchange, account or permission, or a name that is there twice.
    """
    venue = EXCHANGES.get(exchange)
    if venue is None:
        raise SeedError(f"there is no simulated {exchange!r}; there are {', '.join(sorted(EXCHANGES))}")
    sim = venue(
        key_limit=seed.key_limit,
        trust_forwarded=seed.trust_forwarded,
        enforce_rate_limits=seed.enforce_rate_limits,
        port=port,
    )
    sim.clock_offset_s = seed.clock_offset_s
    try:
        for account in seed.accounts:
            _add(sim, account)
        sim.faults.add(*seed.faults)
    except KeyError as error:
        raise SeedError(
            f"there is no account {error} (a parent must stand before its sub-accounts)"
        ) from None
    except ValueError as error:
        raise SeedError(str(error)) from None
    return sim


def _add(sim: SimExchange, account: SeedAccount) -> None:
    totp = account.totp_secret
    sim.add_account(
        account.name,
        parent=account.parent,
        uid=account.uid,
        key_limit=account.key_limit,
        totp_secret=None if totp is None else totp.get_secret_value(),
        adds=account.adds,
    )
    for key in account.keys:
        sim.add_key(
            account.name,
            key.permissions,
            ips=key.ips,
            label=key.label,
            read_only=key.read_only,
            enabled=key.enabled,
            key_ref=key.key_ref,
            secret=key.secret.get_secret_value(),
            passphrase=None if key.passphrase is None else key.passphrase.get_secret_value(),
        )
