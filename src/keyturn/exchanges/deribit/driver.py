"""The driver of Deribit. Methods and fields: the pages named in `driver.toml`."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, normal_ips
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges._base import CcxtDriver
from keyturn.exchanges._client import Endpoint, Quiet
from keyturn.exchanges._errors import Refusal, Row
from keyturn.exchanges._fields import (
    flag,
    items,
    mapping,
    millis,
    name,
    optional_name,
    rows,
    secret,
    text,
    words,
)
from keyturn.exchanges.deribit import errors
from keyturn.ports.exchange import Caller, KeyHandle

CREATE = Endpoint("create a key", "create_api_key", changes=True)
EDIT = Endpoint("edit the key", "edit_api_key", changes=True)
REVOKE = Endpoint("revoke the key", "remove_api_key", changes=True)
LIST = Endpoint("list the keys", "list_api_keys")
AUTH = Endpoint("tell what the key may do", "auth", private=False)
SUMMARY = Endpoint("read the balance", "get_account_summary")
TIME = Endpoint("tell the time", "get_time", private=False)

_LEVELS = ("read", "read_write")
# Deribit's word -> what it lets a key do beside looking.
_MEANINGS: Mapping[str, tuple[Permission, ...]] = {
    "account:read_write": (Permission.MANAGE_KEYS,),
    "trade:read_write": (Permission.TRADE,),
    "block_trade:read_write": (Permission.TRADE,),
    "block_rfq:read_write": (Permission.TRADE,),
    "wallet:read_write": (Permission.WITHDRAW, Permission.TRANSFER),
    "custody:read_write": (Permission.WITHDRAW, Permission.TRANSFER),
}
# What a token's scope says besides rights: how it is bound, when it ends ("Access scope", read 2026-11-21).
_TOKEN_WORDS = frozenset({"connection", "mainaccount"})
_TOKEN_PREFIXES = ("session:", "expires:", "ip:")


class _DrawnNonce(Quiet):
    """Draws nonces: ccxt takes the milliseconds, which two calls at once share, and each is for one use."""

    def nonce(self) -> str:
        """Draw a nonce."""
        return secrets.token_hex(8)


class Driver(CcxtDriver):
    """The keys of one Deribit account."""

    errors = errors.TABLE
    create = CREATE
    mixin = _DrawnNonce

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the scopes; of two levels of one category the higher."""
        return _highest(super().grants_for(permissions))

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask what the calling key may do (scope of a token) and whose it is (account summary).

        The addresses that the key is bound to are for a manager to list.
        """
        scope = await self._scope(caller)
        grants = frozenset(word for word in scope.split() if _is_right(word))
        account = None
        if {"account:read", "account:read_write"} & grants:
            account = await self._summary(caller)
        return KeyFacts(
            key_ref=caller.material.key_ref,
            grants=grants,
            permissions=_permissions(grants),
            unnamed=_unnamed(grants),
            account_uid=account,
        )

    async def private_read(self, caller: Caller) -> None:
        """Read the balance in one currency."""
        await self._summary(caller)

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List the keys of the manager's account; Deribit gives all of them at once."""
        return await self._ask(LIST, _listed, caller=manager)

    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Create a key with scopes and name. Its addresses have to be set with `edit_key`."""
        self._check(CREATE.action, spec)
        params = {"name": spec.label, "max_scope": self._max_scope(spec)}
        return await self._ask(CREATE, lambda body: _minted(body["result"]), params, manager, within)

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give a key the name, scopes and addresses of `spec`."""
        self._check(EDIT.action, spec)
        handle = await self._handle(manager, key)
        if handle is None:
            raise self._refused(EDIT.action, ExchangeFault.REJECTED, "the account has no such key.")
        params = {
            "id": handle,
            "name": spec.label,
            "max_scope": self._max_scope(spec),
            # ccxt would write a list with Python's quotes.
            "ip_whitelist": json.dumps(sorted(spec.ip_allowlist)),
        }
        await self._ask(EDIT, lambda body: mapping(body["result"]), params, manager)

    async def server_time(self) -> datetime:
        """Ask Deribit's clock."""
        return await self._ask(TIME, lambda body: millis(body["result"]))

    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        handle = await self._handle(manager, key)
        if handle is None:
            raise self._refused(REVOKE.action, ExchangeFault.REJECTED, "the account has no such key.")
        await self._ask(REVOKE, _done, {"id": handle}, manager)

    async def _handle(self, manager: Caller, key: KeyHandle) -> str | None:
        """Give the number of a key in the manager's account, by a listing.

        Each account counts its keys from 1. With the manager key of another account, a number that was
        written down here would name somebody else's key there.

        Raises:
            ExchangeError: `REJECTED`, the number belongs to another key.
        """
        listed = await self.list_keys(manager, key.subaccount)
        for facts in listed:
            if facts.key_ref == key.key_ref:
                return facts.handle
        if key.handle is not None and any(facts.handle == key.handle for facts in listed):
            raise self._refused(
                LIST.action,
                ExchangeFault.REJECTED,
                "under the key's number its account holds another key, which was left alone.",
                "See that the manager key is one of the account that the key belongs to.",
            )
        # Not listed: gone, or the list is outdated.
        return key.handle

    async def _summary(self, caller: Caller) -> str | None:
        """Ask for the account's summary and give the account's number, where it tells it."""
        params = {"currency": "BTC", "extended": "true"}
        return await self._ask(
            SUMMARY, lambda body: optional_name(mapping(body["result"]).get("id")), params, caller
        )

    async def _scope(self, caller: Caller) -> str:
        """Ask for a token and give its scope. The token itself is dropped here."""
        self._require_sendable(AUTH, caller)
        return await self._ask(AUTH, _scope, self._signed_request(caller), caller)

    def _signed_request(self, caller: Caller) -> dict[str, str]:
        """Ask by signature, which keeps the secret out of the URL.

        ccxt signs this request for its WebSocket only (ccxt.pro.deribit, `authenticate`); the signed text is
        the one of the "Authentication" page: time, nonce and data, each on a line.
        """
        stamp, nonce = str(time.time_ns() // 1_000_000), secrets.token_hex(8)
        signer = self._client.borrow(caller)
        try:
            text = signer.encode(f"{stamp}\n{nonce}\n")
            signature = signer.hmac(text, signer.encode(signer.secret), hashlib.sha256)
        finally:
            self._client.give_back(signer)
        return {
            "grant_type": "client_signature",
            "client_id": caller.material.key_ref,
            "timestamp": stamp,
            "nonce": nonce,
            "data": "",
            "signature": signature,
        }

    def _max_scope(self, spec: KeySpec) -> str:
        return " ".join(sorted(self.grants_for(spec.permissions)))

    async def _judge(self, endpoint: Endpoint, row: Row, refusal: Refusal, caller: Caller | None) -> Row:
        """Tell a wrong secret from a wrong address: one code stands for both."""
        told_apart = row.fault is not ExchangeFault.WRONG_IP or refusal.code != errors.UNAUTHORIZED
        if not told_apart and endpoint is not AUTH and caller is not None:
            try:
                await self._scope(caller)
            except ExchangeError as error:
                if error.fault is ExchangeFault.UNCLEAR_REFUSAL:
                    return errors.UNCLEAR
        return row


def _highest(words: frozenset[str]) -> frozenset[str]:
    levels: dict[str, str] = {}
    for word in words:
        category, _, level = word.partition(":")
        levels[category] = max(levels.get(category, level), level, key=_LEVELS.index)
    return frozenset(f"{category}:{level}" for category, level in levels.items())


def _is_right(word: str) -> bool:
    """Tell a right from what else stands in a token's scope; an unknown word counts as a right."""
    return not (word in _TOKEN_WORDS or word.startswith(_TOKEN_PREFIXES) or word.endswith(":none"))


def _done(body: Mapping[str, Any]) -> None:
    if body["result"] != "ok":
        raise ValueError("not done")


def _scope(body: Mapping[str, Any]) -> str:
    scope = body["result"]["scope"]
    if not isinstance(scope, str):
        raise TypeError("no scope")
    return text(scope)


def _minted(row: Mapping[str, Any]) -> MintedKey:
    material = SecretMaterial(name(row["client_id"]), secret(row["client_secret"]))
    return MintedKey(material, material.key_ref, name(row["id"]))


def _listed(body: Mapping[str, Any]) -> list[KeyFacts]:
    return [_facts(row) for row in rows(body["result"])]


def _facts(row: Mapping[str, Any]) -> KeyFacts:
    scope = row["max_scope"]
    grants = frozenset(
        word for word in words(scope.split() if isinstance(scope, str) else scope) if _is_right(word)
    )
    return KeyFacts(
        key_ref=name(row["client_id"]),
        grants=grants,
        permissions=_permissions(grants),
        unnamed=_unnamed(grants),
        ip_allowlist=normal_ips([text(ip) for ip in items(row.get("ip_whitelist") or [])]),
        label=text(row.get("name")),
        created_at=millis(row["timestamp"]),
        enabled=flag(row.get("enabled", True)),
        handle=name(row["id"]),
    )


def _permissions(grants: frozenset[str]) -> frozenset[Permission]:
    found = {permission for word in grants for permission in _MEANINGS.get(word, ())}
    if any(grant.startswith("account:") for grant in grants):
        found.add(Permission.READ)
    return frozenset(found)


def _unnamed(grants: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in grants if word not in _MEANINGS and not word.endswith(":read"))
