"""The driver of Bybit. Paths and fields: the pages named in `driver.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, normal_ips
from keyturn.domain.material import SecretMaterial
from keyturn.exchanges._base import CcxtDriver
from keyturn.exchanges._client import Endpoint
from keyturn.exchanges._fields import (
    flag,
    iso,
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
# Two thousand keys: far more than a sub-account holds.
_MOST_PAGES = 100
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

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask what the calling key is (`query-api`)."""
        ref = caller.material.key_ref
        return await self._ask(INTROSPECT, lambda body: _facts(body["result"], ref), caller=caller)

    async def private_read(self, caller: Caller) -> None:
        """Read one coin of the unified wallet."""
        await self._ask(BALANCE, _nothing, {"accountType": "UNIFIED", "coin": "USDT"}, caller)

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List the keys of a sub-account, page by page."""
        params: dict[str, Any] = {
            "subMemberId": self._subaccount(LIST.action, subaccount),
            "limit": _PAGE_SIZE,
        }
        found: list[KeyFacts] = []
        asked: set[str] = set()
        # A list that goes round, or on for ever, is no complete list.
        while len(asked) < _MOST_PAGES:
            page, cursor = await self._ask(LIST, lambda body: _page(body, subaccount), params, manager)
            found += page
            if not cursor or (not page and cursor == params.get("cursor")):
                return found
            if cursor in asked:
                break
            asked.add(cursor)
            params["cursor"] = cursor
        raise self._refused(LIST.action, ExchangeFault.VENUE_DOWN, "its list of keys does not end.")

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
        return await self._ask(CREATE, _minted, params, manager, within)

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give a key the rights and addresses of `spec`; Bybit has no call that changes the note."""
        self._check(EDIT.action, spec)
        await self._ask(EDIT, _nothing, {"apikey": key.key_ref, **self._rules(spec)}, manager)

    async def server_time(self) -> datetime:
        """Ask Bybit's clock."""
        return await self._ask(TIME, lambda body: millis(int(name(body["result"]["timeNano"])) // 1_000_000))

    async def _revoke(self, manager: Caller, key: KeyHandle) -> None:
        await self._ask(REVOKE, _nothing, {"apikey": key.key_ref}, manager)

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


def _nothing(_body: Mapping[str, Any]) -> None:
    """Read an answer that says no more than that it was done."""


def _minted(body: Mapping[str, Any]) -> MintedKey:
    result = body["result"]
    material = SecretMaterial(name(result["apiKey"]), secret(result["secret"]))
    return MintedKey(material, material.key_ref)


def _page(body: Mapping[str, Any], subaccount: str | None) -> tuple[list[KeyFacts], str]:
    """Read a page of the list, and the cursor of the next; empty at the end."""
    result = body["result"]
    found = [_facts(row, name(row["apiKey"]), subaccount) for row in rows(result["result"])]
    return found, text(result.get("nextPageCursor"))


def _facts(row: Mapping[str, Any], key_ref: str, account_uid: str | None = None) -> KeyFacts:
    grants = _grants(row)
    parent = optional_name(row.get("parentUid")) or "0"
    ips = [text(ip) for ip in items(row["ips"])]
    return KeyFacts(
        key_ref=key_ref,
        grants=grants,
        permissions=_permissions(grants),
        unnamed=frozenset() if READ_ONLY in grants else grants - _MEANINGS.keys(),
        # "*" stands for "not bound", and nothing says that addresses beside it would bind the key.
        ip_allowlist=frozenset() if "*" in ips else normal_ips(ips),
        label=text(row.get("note")),
        account_uid=name(row["userID"]) if "userID" in row else account_uid,
        parent_uid=parent if parent != "0" else None,
        created_at=iso(row.get("createdAt")),
        # A key that does not expire shows the beginning of time.
        expires_at=iso(row.get("expiredAt")),
        enabled=optional_name(row.get("status")) != _EXPIRED_STATUS,
        # Only query-api tells: "uta: 0: regular account; 1: unified trade account" (apikey-info).
        added_here=frozenset({_UNIFIED_DERIVATIVES} if str(row.get("uta")).lower() in {"1", "true"} else ()),
    )


def _grants(row: Mapping[str, Any]) -> frozenset[str]:
    granted = {
        f"{name(category)}.{right}"
        for category, rights in mapping(row["permissions"]).items()
        for right in words(rights or [])
    }
    if granted >= _DERIVATIVES:
        granted.discard(_UNIFIED_DERIVATIVES)
    # A number in one answer, a truth value in another.
    if flag(row["readOnly"]):
        granted.add(READ_ONLY)
    return frozenset(granted)


def _permissions(grants: frozenset[str]) -> frozenset[Permission]:
    if READ_ONLY in grants:
        return frozenset({Permission.READ})
    return frozenset({Permission.READ, *(_MEANINGS[word] for word in grants if word in _MEANINGS)})
