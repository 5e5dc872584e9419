"""Let a Bybit caller list, create, change and delete API keys; the sources are named in :mod:`.bybit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from keyturn.simulator.bybit_errors import BybitErrors
from keyturn.simulator.faults import FaultKind
from keyturn.simulator.state import KeyRules, SimKey, is_ip_rule
from keyturn.simulator.wire import Call

Handler = Callable[[BybitErrors, Call, SimKey], object]

_DAY_MS = 86_400_000
_SOON_MS = 7 * _DAY_MS
_LARGEST_PAGE = 20

# Category -> what a sub-account's key may be given (create and modify pages).
_SUB_PERMISSIONS: dict[str, tuple[str, ...]] = {
    "ContractTrade": ("Order", "Position"),
    "Spot": ("SpotTrade",),
    "Wallet": ("AccountTransfer", "SubMemberTransferList"),
    "Options": ("OptionsTrade",),
    "Derivatives": ("DerivativesTrade",),
    "Exchange": ("ExchangeHistory",),
    "Earn": ("Earn",),
}
# What only a master account's key may have on top ("FaitPayOrder" is really spelled so).
_MASTER_PERMISSIONS: dict[str, tuple[str, ...]] = {
    "Wallet": ("SubMemberTransfer", "Withdraw"),
    "BlockTrade": ("BlockTrade",),
    "Affiliate": ("Affiliate",),
    "FiatP2P": ("FiatP2POrder", "Advertising"),
    "FiatBitPay": ("FaitPayOrder",),
    "FiatConvertBroker": ("FiatConvertBrokerOrder",),
    "BitCard": ("BitCard",),
    "ByXPost": ("ByXPost",),
}
_DEAD_CATEGORIES = ("NFT", "CopyTrading", "FiatGlobalPay")
_CATEGORIES = tuple(dict.fromkeys((*_SUB_PERMISSIONS, *_MASTER_PERMISSIONS, *_DEAD_CATEGORIES)))
SUB_FLAT = frozenset(f"{c}.{p}" for c, ps in _SUB_PERMISSIONS.items() for p in ps)
MASTER_FLAT = SUB_FLAT | {f"{c}.{p}" for c, ps in _MASTER_PERMISSIONS.items() for p in ps}

# What a unified account adds by itself, and a classic one does not: "system will automatically add this
# permission according to your account is UTA or Classic" (create and modify pages). The example of the
# create page has Earn beside what was asked for, too.
_UNIFIED = "Derivatives.DerivativesTrade"

# Who may manage keys: one of these, by the tips of the four pages.
_MANAGERS = frozenset(
    {"Wallet.AccountTransfer", "Wallet.SubMemberTransfer", "Wallet.SubMemberTransferList", "Wallet.Withdraw"}
)


def body_of(sim: BybitErrors, call: Call) -> dict[str, object]:
    """Decode the JSON object of a POST.

    Raises:
        Refusal: it is not one.
    """
    try:
        parsed = json.loads(call.body or b"{}")
    except ValueError:
        raise sim.refuse(10001, "The request body is not JSON.") from None
    if not isinstance(parsed, dict):
        raise sim.refuse(10001, "The request body is not an object.")
    return parsed


def _need_manager(sim: BybitErrors, call: Call) -> None:
    rules = call.rules
    if rules is None or rules.read_only or not rules.permissions & _MANAGERS:
        raise sim.refuse(10005)


def _need_master(sim: BybitErrors, key: SimKey) -> None:
    if not key.account.is_master:
        raise sim.refuse(10005)


def _flat_permissions(sim: BybitErrors, value: object, allowed: frozenset[str]) -> frozenset[str]:
    if not isinstance(value, dict):
        raise sim.refuse(10001, "permissions must be an object.")
    flat: set[str] = set()
    for category, names in value.items():
        if category not in _CATEGORIES or not isinstance(names, list):
            raise sim.refuse(10001, f"permissions: {category} is wrong.")
        flat.update(f"{category}.{name}" for name in names)
    if not flat or not flat <= allowed:
        raise sim.refuse(10001, "permissions: none given, or one that this account cannot have.")
    return frozenset(flat)


def _ip_list(sim: BybitErrors, value: object) -> tuple[str, ...]:
    """Read addresses: a text with commas, as the tables say, or a list, as the examples for Node.js send."""
    if isinstance(value, list):
        if not all(isinstance(ip, str) for ip in value):
            raise sim.refuse(10001, "ips must hold texts.")
        value = ",".join(value)
    if value is None or value in ("", "*"):
        return ()
    if not isinstance(value, str):
        raise sim.refuse(10001, "ips must be a text or a list.")
    ips = tuple(part.strip() for part in value.split(","))
    if not all(is_ip_rule(ip) for ip in ips):
        raise sim.refuse(10001, "ips: not an IP address.")
    return ips


def _read_only(sim: BybitErrors, value: object) -> bool:
    if value is None:
        return False
    if value not in (0, 1):
        raise sim.refuse(10001, "readOnly must be 0 or 1.")
    return value == 1


def _by_category(permissions: frozenset[str]) -> dict[str, list[str]]:
    shown: dict[str, list[str]] = {category: [] for category in _CATEGORIES}
    for permission in sorted(permissions):
        category, _, name = permission.partition(".")
        shown[category].append(name)
    return shown


def _create_sub_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_master(sim, key)
    _need_manager(sim, call)
    body = body_of(sim, call)
    account = sim.account_by_uid(str(body.get("subuid")))
    if account is None or account.parent is not key.account:
        raise sim.refuse(10001, "subuid: no such sub-account.")
    if "readOnly" not in body:
        raise sim.refuse(10001, "readOnly is missing.")
    rules = KeyRules(
        permissions=_flat_permissions(sim, body.get("permissions"), SUB_FLAT) | account.adds,
        read_only=_read_only(sim, body.get("readOnly")),
        ips=_ip_list(sim, body.get("ips")),
        label=str(body.get("note") or ""),
    )
    if call.faults.decided_by(FaultKind.QUOTA_REACHED) or len(account.keys) >= account.key_limit:
        raise sim.refuse(10001, "The number of API keys has reached the upper limit.")
    minted = sim.mint(call, account, rules)
    return {**_short(minted, rules), "secret": minted.secret.value}


def _short(key: SimKey, rules: KeyRules) -> dict[str, object]:
    return {
        "id": _id(key),
        "note": rules.label,
        "apiKey": key.ref,
        "readOnly": int(rules.read_only),
        "secret": "",
        "permissions": _by_category(rules.permissions),
    }


def _id(key: SimKey) -> str:
    return f"{key.account.uid}{key.number:04d}"


def _update(
    sim: BybitErrors, call: Call, target: SimKey, allowed: frozenset[str], *, with_ips: bool
) -> object:
    body = body_of(sim, call)
    old = target.rules.value
    permissions = old.permissions
    if "permissions" in body:
        permissions = _flat_permissions(sim, body["permissions"], allowed) | target.account.adds
    ips = _ip_list(sim, body.get("ips")) if with_ips else old.ips
    rules = KeyRules(permissions, _read_only(sim, body.get("readOnly")), ips, label=old.label)
    sim.edit(call, target, rules)
    if ips != old.ips:
        target.expires_ms = sim.expiry_of(rules, call.now_ms)
    return {**_short(target, rules), "ips": list(ips) or ["*"]}


def _target(sim: BybitErrors, call: Call, key: SimKey) -> SimKey:
    """Find the key that update-sub-api and delete-sub-api are about."""
    named = body_of(sim, call).get("apikey")
    if not key.account.is_master:
        if named is not None:
            raise sim.refuse(10001, "apikey cannot be passed by a sub-account.")
        return key
    target = sim.key_in_books(named)
    if target is None or target.account.parent is not key.account:
        raise sim.refuse(10001, "apikey: missing, or not a key of a sub-account.")
    return target


def _update_sub_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_manager(sim, call)
    return _update(sim, call, _target(sim, call, key), SUB_FLAT, with_ips=True)


def _update_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_master(sim, key)
    _need_manager(sim, call)
    return _update(sim, call, key, MASTER_FLAT, with_ips=False)


def _delete_sub_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_manager(sim, call)
    sim.bury(call, _target(sim, call, key))
    return {}


def _delete_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_master(sim, key)
    _need_manager(sim, call)
    sim.bury(call, key)
    return {}


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lifetime(call: Call, key: SimKey) -> dict[str, object]:
    expires = key.expires_ms
    left = -2 if expires is None else (expires - call.now_ms) // _DAY_MS
    return {"deadlineDay": left, "expiredAt": _iso(expires or 0), "createdAt": _iso(key.created_ms)}


def _query_api(sim: BybitErrors, call: Call, key: SimKey) -> object:
    rules = key.rules.at(call.now_ms)
    parent = key.account.parent
    return {
        **_short(key, rules),
        **_lifetime(call, key),
        "ips": list(rules.ips) or ["*"],
        "type": 1,
        "unified": 0,
        "uta": int(_UNIFIED in key.account.adds),
        "userID": int(key.account.uid),
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": key.account.is_master,
        "parentUid": parent.uid if parent else "0",
        "kycLevel": "LEVEL_1",
        "kycRegion": "",
    }


def _status_of(call: Call, key: SimKey) -> int:
    if key.expires_ms is None:
        return 1
    left = key.expires_ms - call.now_ms
    if left <= 0:
        return 2
    return 4 if left < _SOON_MS else 3


def _sub_apikeys(sim: BybitErrors, call: Call, key: SimKey) -> object:
    _need_master(sim, key)
    params = call.query_params()
    account = sim.account_by_uid(params.get("subMemberId", ""))
    if account is None or account.parent is not key.account:
        raise sim.refuse(10001, "subMemberId: missing, or no such sub-account.")
    limit, cursor = params.get("limit", str(_LARGEST_PAGE)), params.get("cursor") or "0"
    if not (limit.isdecimal() and 1 <= int(limit) <= _LARGEST_PAGE and cursor.isdecimal()):
        raise sim.refuse(10001, "limit or cursor is wrong.")
    start, end = int(cursor), int(cursor) + int(limit)
    found = sim.listed(call, account)
    rows = [
        {
            **_short(listed, rules),
            **_lifetime(call, listed),
            "ips": list(rules.ips) or ["*"],
            "status": _status_of(call, listed),
            "type": 1,
            "secret": "******",
            "readOnly": rules.read_only,
            "flag": "hmac",
        }
        for listed, rules in found[start:end]
    ]
    return {"result": rows, "nextPageCursor": str(end) if end < len(found) else ""}


HANDLERS: dict[str, Handler] = {
    "POST /v5/user/create-sub-api": _create_sub_api,
    "GET /v5/user/sub-apikeys": _sub_apikeys,
    "GET /v5/user/query-api": _query_api,
    "POST /v5/user/update-sub-api": _update_sub_api,
    "POST /v5/user/update-api": _update_api,
    "POST /v5/user/delete-sub-api": _delete_sub_api,
    "POST /v5/user/delete-api": _delete_api,
}
