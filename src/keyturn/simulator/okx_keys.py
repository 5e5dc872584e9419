"""Let an OKX caller list, create, change and delete API keys; the sources are named in :mod:`.okx`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from keyturn.simulator.faults import FaultKind
from keyturn.simulator.okx_errors import OkxErrors
from keyturn.simulator.state import KeyRules, SimAccount, SimKey, is_ip_rule
from keyturn.simulator.wire import Call

Handler = Callable[[OkxErrors, Call, SimKey], object]

_MOST_IPS = 20
_PASSPHRASE_LENGTHS = range(8, 33)
# The order in which the documentation writes permissions.
_PERMISSIONS = ("read_only", "trade", "withdraw")


def body_of(sim: OkxErrors, call: Call) -> dict[str, str]:
    """Decode the JSON object of a POST; every value is a text, as the documentation has them.

    Raises:
        Refusal: it is not one.
    """
    parsed = json_of(sim, call)
    if not isinstance(parsed, dict):
        raise sim.refuse(50002)
    for name, value in parsed.items():
        if not isinstance(value, str):
            raise sim.refuse(51000, name)
    return parsed


def json_of(sim: OkxErrors, call: Call) -> object:
    """Decode the JSON body of a POST.

    Raises:
        Refusal: there is none, or it is not JSON.
    """
    if not call.headers.get("Content-Type", "").lower().startswith("application/json"):
        raise sim.refuse(50006)
    if not call.body:
        raise sim.refuse(50000)
    try:
        parsed: object = json.loads(call.body)
    except ValueError:
        raise sim.refuse(50002) from None
    return parsed


def _managed_account(sim: OkxErrors, caller: SimKey, name: str | None) -> SimAccount:
    if not caller.account.is_master:
        raise sim.refuse(59500)
    if not name:
        raise sim.refuse(50014, "subAcct")
    account = sim.accounts.get(name)
    if account is None or account.parent is not caller.account:
        raise sim.refuse(59510)
    return account


def _need_manager(sim: OkxErrors, call: Call, caller: SimKey) -> None:
    rules = caller.rules.at(call.now_ms)
    if not caller.account.is_master:
        raise sim.refuse(59500)
    if not rules.ips:
        raise sim.refuse(50035)
    if "trade" not in rules.permissions:
        raise sim.refuse(50120)


def _permissions(sim: OkxErrors, text: str) -> frozenset[str]:
    named = {part.strip() for part in text.split(",") if part.strip()}
    if "withdraw" in named:
        raise sim.refuse(59504)
    if not named <= {"read_only", "trade"}:
        raise sim.refuse(51000, "perm")
    return frozenset(named | {"read_only"})


def _ips(sim: OkxErrors, text: str) -> tuple[str, ...]:
    ips = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(ips) > _MOST_IPS:
        raise sim.refuse(59503)
    if not all(is_ip_rule(ip) for ip in ips):
        raise sim.refuse(51000, "ip")
    return ips


def _label(sim: OkxErrors, account: SimAccount, text: str | None, but: SimKey | None = None) -> str:
    if not text:
        raise sim.refuse(50014, "label")
    if any(key.rules.value.label == text for key in account.keys.values() if key is not but):
        raise sim.refuse(59502)
    return text


def _passphrase(sim: OkxErrors, text: str | None) -> str:
    if not text:
        raise sim.refuse(50014, "passphrase")
    kinds = (str.isdigit, str.isupper, str.islower, lambda c: not c.isalnum() and not c.isspace())
    if len(text) not in _PASSPHRASE_LENGTHS or not all(any(kind(c) for c in text) for kind in kinds):
        raise sim.refuse(59505)
    return text


def _perm_text(rules: KeyRules) -> str:
    return ",".join(name for name in _PERMISSIONS if name in rules.permissions)


def _shown(key: SimKey, rules: KeyRules) -> dict[str, str]:
    return {
        "label": rules.label,
        "apiKey": key.ref,
        "perm": _perm_text(rules),
        "ip": ",".join(rules.ips),
        "ts": str(key.created_ms),
    }


def _create(sim: OkxErrors, call: Call, caller: SimKey) -> object:
    body = body_of(sim, call)
    _need_manager(sim, call, caller)
    account = _managed_account(sim, caller, body.get("subAcct"))
    passphrase = _passphrase(sim, body.get("passphrase"))
    rules = KeyRules(
        permissions=_permissions(sim, body.get("perm", "")),
        ips=_ips(sim, body.get("ip", "")),
        label=_label(sim, account, body.get("label")),
    )
    if call.faults.decided_by(FaultKind.QUOTA_REACHED) or len(account.keys) >= account.key_limit:
        raise sim.refuse(59501)
    key = sim.mint(call, account, rules, passphrase=passphrase)
    secret = {"secretKey": key.secret.value, "passphrase": passphrase}
    return [{"subAcct": account.name, **_shown(key, rules), **secret}]


def _query(sim: OkxErrors, call: Call, caller: SimKey) -> object:
    params = call.query_params()
    account = _managed_account(sim, caller, params.get("subAcct"))
    wanted = params.get("apiKey")
    rows = [_shown(key, rules) for key, rules in sim.listed(call, account) if wanted in (None, "", key.ref)]
    if wanted and not rows:
        raise sim.refuse(59506)
    return rows


def _named_key(sim: OkxErrors, caller: SimKey, body: dict[str, str]) -> SimKey:
    account = _managed_account(sim, caller, body.get("subAcct"))
    if not body.get("apiKey"):
        raise sim.refuse(50014, "apiKey")
    key = account.keys.get(body["apiKey"])
    if key is None:
        raise sim.refuse(59506)
    return key


def _modify(sim: OkxErrors, call: Call, caller: SimKey) -> object:
    body = body_of(sim, call)
    _need_manager(sim, call, caller)
    key = _named_key(sim, caller, body)
    rules = key.rules.value
    if "label" in body:
        rules = replace(rules, label=_label(sim, key.account, body["label"], but=key))
    if "perm" in body:
        rules = replace(rules, permissions=_permissions(sim, body["perm"]))
    if "ip" in body:
        rules = replace(rules, ips=_ips(sim, body["ip"]))
    sim.edit(call, key, rules)
    return [{"subAcct": key.account.name, **_shown(key, rules)}]


def _delete(sim: OkxErrors, call: Call, caller: SimKey) -> object:
    body = body_of(sim, call)
    _need_manager(sim, call, caller)
    key = _named_key(sim, caller, body)
    sim.bury(call, key)
    return [{"subAcct": key.account.name}]


def _config(sim: OkxErrors, call: Call, caller: SimKey) -> object:
    rules, account = caller.rules.at(call.now_ms), caller.account
    return [
        {
            "uid": account.uid,
            "mainUid": (account.parent or account).uid,
            "type": "0" if account.is_master else "1",
            "label": rules.label,
            "perm": _perm_text(rules),
            "ip": ",".join(rules.ips),
            "acctLv": "2",
            "acctStpMode": "cancel_maker",
            "posMode": "net_mode",
            "autoLoan": False,
            "greeksType": "PA",
            "level": "Lv1",
            "levelTmp": "",
            "ctIsoMode": "automatic",
            "mgnIsoMode": "automatic",
            "kycLv": "2",
            "roleType": "0",
            "enableSpotBorrow": False,
        }
    ]


HANDLERS: dict[str, Handler] = {
    "POST /api/v5/users/subaccount/apikey": _create,
    "GET /api/v5/users/subaccount/apikey": _query,
    "POST /api/v5/users/subaccount/modify-apikey": _modify,
    "POST /api/v5/users/subaccount/delete-apikey": _delete,
    "GET /api/v5/account/config": _config,
}
