"""Let a Deribit caller list, create, change and delete API keys; the sources are named in :mod:`.deribit`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from keyturn.simulator.deribit_desk import DeribitDesk
from keyturn.simulator.faults import FaultKind
from keyturn.simulator.state import KeyRules, SimKey, is_ip_rule
from keyturn.simulator.wire import Call

Params = dict[str, object]

CATEGORIES = ("account", "trade", "wallet", "block_trade", "block_rfq", "custody")
LEVELS = ("read", "read_write")
# Shown with ":none" when absent; the younger categories are shown only when they are there.
_ALWAYS_SHOWN = ("account", "block_trade", "trade", "wallet")
_NAME = re.compile(r"[A-Za-z0-9_]{1,16}")
_MOST_LOG_LINES = 1000
_READ = frozenset({"account:read", "account:read_write"})
_WRITE = frozenset({"account:read_write"})


@dataclass(frozen=True, slots=True)
class Method:
    """One private method: what it does, which scope it needs, and how it is guarded."""

    carry_out: Callable[[DeribitDesk, Call, SimKey, Params], object]
    needs: frozenset[str]
    second_factor: bool = False
    changes: bool = False
    refusal: int = 13021


def _parse_scope(sim: DeribitDesk, value: object) -> frozenset[str]:
    if not isinstance(value, str) or not value.split():
        raise sim.refuse(-32602, "wrong format", "max_scope")
    found: dict[str, str] = {}
    for part in value.split():
        category, _, level = part.partition(":")
        if category not in CATEGORIES or level not in (*LEVELS, "none") or category in found:
            raise sim.refuse(-32602, "wrong format", "max_scope")
        found[category] = level
    return frozenset(f"{category}:{level}" for category, level in found.items() if level != "none")


def _scope_text(permissions: frozenset[str]) -> str:
    levels = dict.fromkeys(_ALWAYS_SHOWN, "none")
    for permission in permissions:
        category, _, level = permission.partition(":")
        levels[category] = level
    return " ".join(f"{category}:{level}" for category, level in sorted(levels.items()))


def _parse_name(sim: DeribitDesk, value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise sim.refuse(-32602, "wrong format", "name")
    return value


def _parse_ips(sim: DeribitDesk, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise sim.refuse(-32602, "must be an array", "ip_whitelist") from None
    if not isinstance(value, list) or not all(isinstance(ip, str) and is_ip_rule(ip) for ip in value):
        raise sim.refuse(-32602, "wrong format", "ip_whitelist")
    return tuple(value)


def _parse_enabled(sim: DeribitDesk, value: object) -> bool:
    if value not in (True, False, "true", "false"):
        raise sim.refuse(-32602, "must be a boolean", "enabled")
    return value in (True, "true")


def _named_key(sim: DeribitDesk, caller: SimKey, params: Params) -> SimKey:
    wanted = str(params.get("id", ""))
    if not wanted.isdecimal():
        raise sim.refuse(-32602, "value required", "id")
    key = caller.account.by_number.get(int(wanted))
    if key is None:
        raise sim.refuse(-32602, "not found", "id")
    return key


def _shown(key: SimKey, rules: KeyRules, *, secret: bool) -> dict[str, object]:
    shown: dict[str, object] = {
        "id": key.number,
        "timestamp": key.created_ms,
        "client_id": key.ref,
        "max_scope": _scope_text(rules.permissions),
        "enabled": rules.enabled,
        "default": False,
        "name": rules.label,
        "enabled_features": [],
        "ip_whitelist": list(rules.ips),
    }
    if secret:
        shown["client_secret"] = key.secret.value
    return shown


def _create(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    rules = KeyRules(
        permissions=_parse_scope(sim, params.get("max_scope")),
        label=_parse_name(sim, params["name"]) if "name" in params else "",
    )
    account = caller.account
    if call.faults.decided_by(FaultKind.QUOTA_REACHED) or len(account.keys) >= account.key_limit:
        raise sim.refuse(13008, "max_api_keys_reached")
    key = sim.mint(call, account, rules)
    sim.log_access(call, key, "new_api_key")
    return _shown(key, rules, secret=True)


def _list(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    return [_shown(key, rules, secret=sim.secrets_in_list) for key, rules in sim.listed(call, caller.account)]


def _change(sim: DeribitDesk, call: Call, key: SimKey, rules: KeyRules) -> object:
    old = key.rules.value
    sim.edit(call, key, rules)
    for event, changed in (
        ("changed_scope", rules.permissions != old.permissions),
        ("changed_whitelist", rules.ips != old.ips),
        ("enabled_api_key" if rules.enabled else "disabled_api_key", rules.enabled != old.enabled),
    ):
        if changed:
            sim.log_access(call, key, event)
    return _shown(key, rules, secret=sim.secrets_in_list)


def _edit(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    rules = replace(key.rules.value, permissions=_parse_scope(sim, params.get("max_scope")))
    if "name" in params:
        rules = replace(rules, label=_parse_name(sim, params["name"]))
    if "enabled" in params:
        rules = replace(rules, enabled=_parse_enabled(sim, params["enabled"]))
    if "ip_whitelist" in params:
        rules = replace(rules, ips=_parse_ips(sim, params["ip_whitelist"]))
    return _change(sim, call, key, rules)


def _change_scope(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    scope = _parse_scope(sim, params.get("max_scope"))
    return _change(sim, call, key, replace(key.rules.value, permissions=scope))


def _change_name(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    return _change(sim, call, key, replace(key.rules.value, label=_parse_name(sim, params.get("name"))))


def _disable(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    return _change(sim, call, key, replace(key.rules.value, enabled=False))


def _enable(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    return _change(sim, call, key, replace(key.rules.value, enabled=True))


def _reset(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    sim.renew_secret(call, key)
    sim.log_access(call, key, "reset_api_key")
    return _shown(key, key.rules.value, secret=True)


def _remove(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    key = _named_key(sim, caller, params)
    sim.bury(call, key)
    sim.log_access(call, key, "removed_api_key")
    return "ok"


def _access_log(sim: DeribitDesk, call: Call, caller: SimKey, params: Params) -> object:
    offset, count = str(params.get("offset", "0")), str(params.get("count", "10"))
    if not (offset.isdecimal() and count.isdecimal() and 1 <= int(count) <= _MOST_LOG_LINES):
        raise sim.refuse(-32602, "wrong format", "count")
    newest_first = sim.access_log.get(caller.account.uid, [])[::-1]
    shown = newest_first[int(offset) : int(offset) + int(count)]
    # As in the documentation's example and at the real venue (typed-deribit 0.4.1, `get_access_log.py`); the
    # schema has the rows alone.
    return {"records_total": len(newest_first), "data": shown}


METHODS: dict[str, Method] = {
    "private/create_api_key": Method(_create, _WRITE, second_factor=True, changes=True, refusal=13403),
    "private/list_api_keys": Method(_list, _READ, second_factor=True),
    "private/edit_api_key": Method(_edit, _WRITE, second_factor=True, changes=True, refusal=13403),
    "private/change_scope_in_api_key": Method(
        _change_scope, _WRITE, second_factor=True, changes=True, refusal=13403
    ),
    "private/disable_api_key": Method(_disable, _WRITE, second_factor=True, changes=True, refusal=13403),
    "private/enable_api_key": Method(_enable, _WRITE, changes=True, refusal=13403),
    "private/change_api_key_name": Method(_change_name, _WRITE, changes=True, refusal=13403),
    "private/reset_api_key": Method(_reset, _WRITE, changes=True, refusal=13403),
    "private/remove_api_key": Method(_remove, _WRITE, changes=True, refusal=13403),
    "private/get_access_log": Method(_access_log, _READ),
}
