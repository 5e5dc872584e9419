"""The driver of Bybit. Paths and fields: the pages named in `driver.toml`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, normal_ips
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges._base import CcxtDriver, from_millis
from keyturn.exchanges._client import Endpoint
from keyturn.exchanges._errors import Refusal
from keyturn.exchanges.bybit.errors import TABLE
from keyturn.ports.exchange import Caller, KeyHandle

READ_ONLY = "readOnly"
_DERIVATIVES = frozenset({"ContractTrade.Order", "ContractTrade.Position"})
# "Permission of Unified account" (modify-sub-apikey), which Bybit adds by itself to keys of such an
# account; the example of apikey-info has it beside both ContractTrade rights, without Options. No page says
# what it opens alone, so it is folded into those two and into nothing else. It is no right to trade
# options, which have a word of their own (list-sub-apikeys). All read 2026-11-22; the simulator takes the
# word in the same way.
_UNIFIED_DERIVATIVES = "Derivatives.DerivativesTrade"
_PAGE_SIZE = 20
_EXPIRED_STATUS = "2"

# Rates a second and user: https://bybit-exchange.github.io/docs/v5/rate-limit, read 2026-11-21.
CREATE = Endpoint("create a key", "v5/user/create-sub-api", "POST", changes=True, per_second=1)
EDIT = Endpoint("edit the key", "v5/user/update-sub-api", "POST", changes=True, per_second=5)
REVOKE = Endpoint("revoke the key", "v5/user/delete-sub-api", "POST", changes=True, per_second=5)
LIST = Endpoint("list the keys", "v5/user/sub-apikeys", per_second=10)
INTROSPECT = Endpoint("tell what the key may do", "v5/user/query-api")
BALANCE = Endpoint("read the balance", "v5/account/wallet-balance")
TIME = Endpoint("tell the time", "v5/market/time", private=False)

# Bybit's word -> what it lets a key do, for a key that is not read-only.
_MEANINGS: Mapping[str, Permission] = {
    "Spot.SpotTrade": Permission.TRADE_SPOT,
    "ContractTrade.Order": Permission.TRADE_DERIVATIVES,
    "ContractTrade.Position": Permission.TRADE_DERIVATIVES,
    _UNIFIED_DERIVATIVES: Permission.TRADE_DERIVATIVES,
    "Options.OptionsTrade": Permission.TRADE_OPTIONS,
    "Wallet.AccountTransfer": Permission.TRANSFER,
    "Wallet.SubMemberTransfer": Permission.TRANSFER,
    "Wallet.SubMemberTransferList": Permission.TRANSFER,
    "Wallet.Withdraw": Permission.WITHDRAW,
}


class Driver(CcxtDriver):
    """Bybit's sub-account keys."""

    errors = TABLE
    create = CREATE

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give Bybit's words; a key that may do anything but look is not read-only, and can look as well."""
        words = super().grants_for(permissions)
        acting = permissions - {Permission.READ}
        return super().grants_for(acting) if acting else words

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask what the calling key is (`query-api`)."""
        body = await self._call(INTROSPECT, caller=caller)
        try:
            return _facts(body["result"], caller.material.key_ref)
        except (LookupError, TypeError, ValueError, AttributeError):
            pass
        raise self._garbled(INTROSPECT)

    async def private_read(self, caller: Caller) -> None:
        """Read one coin of the unified wallet."""
        await self._call(BALANCE, {"accountType": "UNIFIED", "coin": "USDT"}, caller)

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List the keys of a sub-account, page by page."""
        params: dict[str, Any] = {
            "subMemberId": self._subaccount(LIST.action, subaccount),
            "limit": _PAGE_SIZE,
        }
        found: list[KeyFacts] = []
        asked: set[str] = set()
        while True:
            body = await self._call(LIST, params, manager)
            try:
                result = body["result"]
                rows = [_facts(row, str(row["apiKey"]), subaccount) for row in result["result"]]
                cursor = str(result.get("nextPageCursor") or "")
            except (LookupError, TypeError, ValueError, AttributeError):
                break
            found += rows
            if not cursor or (not rows and cursor == params.get("cursor")):
                return found
            # Following it would go round for ever, and what was read is no complete list.
            if cursor in asked:
                break
            asked.add(cursor)
            params["cursor"] = cursor
        raise self._garbled(LIST)

    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Create a key with rights, addresses and note in one call."""
        self._check(CREATE.action, spec)
        subuid = self._subaccount(CREATE.action, spec.subaccount)
        if not subuid.isdecimal():
            raise self._refused(
                CREATE.action,
                ExchangeFault.REJECTED,
                "it names sub-accounts by number.",
                "Put the sub-account's UID into the inventory.",
            )
        params = {"subuid": int(subuid), "note": spec.label, **self._rules(spec)}
        body = await self._call(CREATE, params, manager, within)
        try:
            result = body["result"]
            material = SecretMaterial(str(result["apiKey"]), str(result["secret"]))
            return MintedKey(material, material.key_ref)
        except (LookupError, TypeError):
            pass
        raise self._garbled(CREATE)

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give a key the rights and addresses of `spec`; Bybit has no call that changes the note."""
        self._check(EDIT.action, spec)
        await self._call(EDIT, {"apikey": key.key_ref, **self._rules(spec)}, manager)

    async def server_time(self) -> datetime:
        """Ask Bybit's clock."""
        body = await self._call(TIME)
        try:
            return from_millis(int(body["result"]["timeNano"]) // 1_000_000)
        except (LookupError, TypeError, ValueError):
            pass
        raise self._garbled(TIME)

    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        await self._call(REVOKE, {"apikey": key.key_ref}, manager)

    def _refusal(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
        code = str(body["retCode"])
        if code == "0":
            return None
        reset = headers.get("x-bapi-limit-reset-timestamp", "")
        return Refusal(
            code,
            text=str(body.get("retMsg", "")),
            retry_after=max(0.0, int(reset) / 1000 - time.time()) if reset.isdecimal() else None,
            server_time=from_millis(body["time"]) if body.get("time") else None,
        )

    def _rules(self, spec: KeySpec) -> dict[str, Any]:
        """Say rights and addresses; all three always, for an update resets what it is not told."""
        grants = self.grants_for(spec.permissions)
        permissions: dict[str, list[str]] = {}
        for word in sorted(grants - {READ_ONLY}):
            category, _, right = word.partition(".")
            permissions.setdefault(category, []).append(right)
        return {
            "readOnly": 1 if READ_ONLY in grants else 0,
            "ips": ",".join(sorted(spec.ip_allowlist)) or "*",
            "permissions": permissions,
        }


def _facts(row: Mapping[str, Any], key_ref: str, account_uid: str | None = None) -> KeyFacts:
    grants = _grants(row)
    parent = str(row.get("parentUid") or "0")
    expires = datetime.fromisoformat(row["expiredAt"]) if row.get("expiredAt") else None
    created = datetime.fromisoformat(row["createdAt"]) if row.get("createdAt") else None
    return KeyFacts(
        key_ref=key_ref,
        grants=grants,
        permissions=_permissions(grants),
        unnamed=frozenset() if READ_ONLY in grants else grants - _MEANINGS.keys(),
        # "*" stands for "not bound", and nothing says that addresses beside it would bind the key.
        ip_allowlist=frozenset() if "*" in row["ips"] else normal_ips(row["ips"]),
        label=str(row.get("note") or ""),
        account_uid=str(row["userID"]) if "userID" in row else account_uid,
        parent_uid=parent if parent != "0" else None,
        created_at=created,
        # A key that does not expire shows the beginning of time.
        expires_at=expires if expires and expires.timestamp() > 0 else None,
        enabled=str(row.get("status", "")) != _EXPIRED_STATUS,
    )


def _grants(row: Mapping[str, Any]) -> frozenset[str]:
    words = {
        f"{category}.{right}" for category, rights in row["permissions"].items() for right in rights or ()
    }
    if words >= _DERIVATIVES:
        words.discard(_UNIFIED_DERIVATIVES)
    # A number in one answer, a truth value in another.
    if str(row["readOnly"]).lower() in {"1", "true"}:
        words.add(READ_ONLY)
    return frozenset(words)


def _permissions(grants: frozenset[str]) -> frozenset[Permission]:
    if READ_ONLY in grants:
        return frozenset({Permission.READ})
    return frozenset({Permission.READ, *(_MEANINGS[word] for word in grants if word in _MEANINGS)})
