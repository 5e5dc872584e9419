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
from keyturn.domain.manifest import DriverManifest
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
from keyturn.exchanges.deribit import errors, scope
from keyturn.exchanges.deribit.sessions import Sessions
from keyturn.ports.exchange import Caller, KeyHandle

CREATE = Endpoint("create a key", "create_api_key", changes=True)
EDIT = Endpoint("edit the key", "edit_api_key", changes=True)
REVOKE = Endpoint("revoke the key", "remove_api_key", changes=True)
LIST = Endpoint("list the keys", "list_api_keys")
AUTH = Endpoint("tell what the key may do", "auth", private=False)
SUMMARY = Endpoint("read the balance", "get_account_summary")
TIME = Endpoint("tell the time", "get_time", private=False)


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

    def __init__(self, manifest: DriverManifest, **options: Any) -> None:
        super().__init__(manifest, **options)
        self._sessions = Sessions()

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the scopes; of two levels of one category the higher."""
        return scope.highest(super().grants_for(permissions))

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask what the calling key may do (scope of a token) and whose it is (account summary).

        The addresses that the key is bound to are for a manager to list.
        """
        grants = self._sessions.grants(caller)
        if grants is None:
            grants = await self._authenticate(caller)
        account = None
        if scope.reads_account(grants):
            # Signed by the key itself: a scope that is remembered says nothing of whether the key lives.
            account = await self._summary(caller)
        return KeyFacts(
            key_ref=caller.material.key_ref,
            grants=grants,
            permissions=scope.permissions(grants),
            unnamed=scope.unnamed(grants),
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
        # Before and after: while the call is on its way nobody knows which rights the key has.
        self._sessions.changed(key.key_ref, self.grants_for(spec.permissions))
        await self._ask(EDIT, lambda body: mapping(body["result"]), params, manager)
        self._sessions.changed(key.key_ref, self.grants_for(spec.permissions))

    async def server_time(self) -> datetime:
        """Ask Deribit's clock."""
        return await self._ask(TIME, lambda body: millis(body["result"]))

    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        handle = await self._handle(manager, key)
        if handle is None:
            raise self._refused(REVOKE.action, ExchangeFault.REJECTED, "the account has no such key.")
        self._sessions.forget(key.key_ref)
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

    async def _authenticate(self, caller: Caller) -> frozenset[str]:
        """Ask for a token, give what it grants and remember that. The token itself is dropped here."""
        self._require_sendable(AUTH, caller)
        grants, life = await self._ask(AUTH, _granted, self._signed_request(caller), caller)
        self._sessions.remember(caller, grants, life)
        return grants

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
        if caller is not None:
            self._sessions.forget(caller.material.key_ref)
        told_apart = row.fault is not ExchangeFault.WRONG_IP or refusal.code != errors.UNAUTHORIZED
        if not told_apart and endpoint is not AUTH and caller is not None:
            try:
                await self._authenticate(caller)
            except ExchangeError as error:
                if error.fault is ExchangeFault.UNCLEAR_REFUSAL:
                    return errors.UNCLEAR
        return row


def _done(body: Mapping[str, Any]) -> None:
    if body["result"] != "ok":
        raise ValueError("not done")


def _granted(body: Mapping[str, Any]) -> tuple[frozenset[str], float]:
    """Read what a token grants, and for how many seconds; 0 where that is not told."""
    told, life = body["result"]["scope"], body["result"].get("expires_in")
    if not isinstance(told, str):
        raise TypeError("no scope")
    return scope.of_token(text(told)), life if isinstance(life, int) else 0


def _minted(row: Mapping[str, Any]) -> MintedKey:
    material = SecretMaterial(name(row["client_id"]), secret(row["client_secret"]))
    return MintedKey(material, material.key_ref, name(row["id"]))


def _listed(body: Mapping[str, Any]) -> list[KeyFacts]:
    return [_facts(row) for row in rows(body["result"])]


def _facts(row: Mapping[str, Any]) -> KeyFacts:
    told = row["max_scope"]
    grants = scope.of_key(words(told.split() if isinstance(told, str) else told))
    return KeyFacts(
        key_ref=name(row["client_id"]),
        grants=grants,
        permissions=scope.permissions(grants),
        unnamed=scope.unnamed(grants),
        ip_allowlist=normal_ips([text(ip) for ip in items(row.get("ip_whitelist") or [])]),
        label=text(row.get("name")),
        created_at=millis(row["timestamp"]),
        enabled=flag(row.get("enabled", True)),
        handle=name(row["id"]),
    )
