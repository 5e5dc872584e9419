"""The driver of OKX. Paths and fields: the pages named in `driver.toml`."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, Revocation, normal_ips
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges._base import CcxtDriver
from keyturn.exchanges._client import Endpoint
from keyturn.exchanges._fields import mapping, millis, name, optional_name, secret, text
from keyturn.exchanges.okx.errors import ABSENT, TABLE
from keyturn.ports.exchange import Caller, KeyHandle

# Rates a second and user stand on the pages of the endpoints, read 2026-11-21.
CREATE = Endpoint("create a key", "users/subaccount/apikey", "POST", changes=True, per_second=1)
EDIT = Endpoint("edit the key", "users/subaccount/modify-apikey", "POST", changes=True, per_second=1)
REVOKE = Endpoint("revoke the key", "users/subaccount/delete-apikey", "POST", changes=True, per_second=1)
LIST = Endpoint("list the keys", "users/subaccount/apikey", per_second=10)
INTROSPECT = Endpoint("tell what the key may do", "account/config")
BALANCE = Endpoint("read the balance", "account/balance")
TIME = Endpoint("tell the time", "public/time", private=False)

_MEANINGS: Mapping[str, Permission] = {
    "read_only": Permission.READ,
    "trade": Permission.TRADE,
    "withdraw": Permission.WITHDRAW,
}
# "8 to 32 characters with at least 1 number, 1 uppercase letter, 1 lowercase letter and 1 special character."
# 24 of these are 145 bits. The special ones mean nothing to a shell, a URL, JSON or YAML.
_PASSPHRASE_LENGTH = 24
_SPECIAL = "-_.+"
_KINDS = (string.digits, string.ascii_uppercase, string.ascii_lowercase, _SPECIAL)


class Driver(CcxtDriver):
    """OKX's sub-account keys."""

    errors = TABLE
    create = CREATE
    absent_codes = frozenset({ABSENT})

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask what the calling key is (`account/config`)."""
        ref = caller.material.key_ref
        return await self._ask(INTROSPECT, lambda body: _facts(body["data"][0], ref), caller=caller)

    async def private_read(self, caller: Caller) -> None:
        """Read one coin of the trading account."""
        await self._ask(BALANCE, _nothing, {"ccy": "USDT"}, caller)

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List the keys of a sub-account; OKX gives all of them at once."""
        params = {"subAcct": self._subaccount(LIST.action, subaccount)}
        return await self._ask(LIST, _listed, params, manager)

    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Create a key with rights, addresses, label and a drawn passphrase in one call."""
        self._check(CREATE.action, spec)
        passphrase = new_passphrase()
        params = {
            "subAcct": self._subaccount(CREATE.action, spec.subaccount),
            "passphrase": passphrase,
            **self._rules(spec),
        }
        return await self._ask(
            CREATE, lambda body: _minted(body["data"][0], passphrase), params, manager, within
        )

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give a key the label, rights and addresses of `spec` ("reset"; the secret stays)."""
        self._check(EDIT.action, spec)
        params = {
            "subAcct": self._subaccount(EDIT.action, key.subaccount),
            "apiKey": key.key_ref,
            **self._rules(spec),
        }
        await self._ask(EDIT, _done, params, manager)

    async def revoke_key(self, manager: Caller, key: KeyHandle) -> Revocation:
        """Delete a key."""
        self._subaccount(REVOKE.action, key.subaccount)
        return await super().revoke_key(manager, key)

    async def server_time(self) -> datetime:
        """Ask OKX's clock."""
        return await self._ask(TIME, lambda body: millis(body["data"][0]["ts"]))

    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        await self._ask(REVOKE, _done, {"subAcct": key.subaccount, "apiKey": key.key_ref}, manager)

    def _rules(self, spec: KeySpec) -> dict[str, str]:
        """Say label, rights and addresses; an empty text unbinds, an absent one would change nothing."""
        return {
            "label": spec.label,
            "perm": ",".join(sorted(self.grants_for(spec.permissions))),
            "ip": ",".join(sorted(spec.ip_allowlist)),
        }


def new_passphrase() -> str:
    """Draw a passphrase that OKX accepts."""
    required = [secrets.choice(kind) for kind in _KINDS]
    rest = [secrets.choice("".join(_KINDS)) for _ in range(_PASSPHRASE_LENGTH - len(required))]
    drawn = required + rest
    secrets.SystemRandom().shuffle(drawn)
    return "".join(drawn)


def _nothing(_body: Mapping[str, Any]) -> None:
    """Read an answer that says no more than that it was given."""


def _done(body: Mapping[str, Any]) -> None:
    """Read the answer to a change, which names what was changed."""
    mapping(body["data"][0])


def _minted(row: Mapping[str, Any], passphrase: str) -> MintedKey:
    material = SecretMaterial(name(row["apiKey"]), secret(row["secretKey"]), passphrase)
    return MintedKey(material, material.key_ref)


def _listed(body: Mapping[str, Any]) -> list[KeyFacts]:
    return [_facts(row, name(row["apiKey"])) for row in body["data"]]


def _facts(row: Mapping[str, Any], key_ref: str) -> KeyFacts:
    grants = frozenset(name(word.strip()) for word in row["perm"].split(",") if word.strip())
    uid, main_uid = optional_name(row.get("uid")), optional_name(row.get("mainUid"))
    return KeyFacts(
        key_ref=key_ref,
        grants=grants,
        permissions=frozenset(_MEANINGS[word] for word in grants if word in _MEANINGS),
        unnamed=grants - _MEANINGS.keys(),
        ip_allowlist=normal_ips([ip for ip in row["ip"].split(",") if ip.strip()]),
        label=text(row["label"]) if "label" in row else None,
        account_uid=uid,
        parent_uid=main_uid if main_uid != uid else None,
        created_at=millis(row["ts"]) if row.get("ts") else None,
    )
