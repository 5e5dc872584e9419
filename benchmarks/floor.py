"""The floor: bare asyncio and ccxt, making the same HTTP calls as a rotation, and nothing else.

No intent, no journal, no store: whoever dies here loses a key. Each worker has its own ccxt objects,
built before the clock starts, and sets the key before each call, so that nothing is built per call.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import ccxt.async_support as ccxt

from benchmarks.scene import LOOPBACK, Credential, Scene
from keyturn.domain.material import SecretMaterial

_PASSPHRASE = "Floor-1-passphrase"  # the simulator's rules: upper, lower, digit, special


def _exchange(name: str, url: str) -> Any:
    exchange = getattr(ccxt, name)({"enableRateLimit": False, "enableLastHttpResponse": False})
    api = exchange.urls["api"]
    if name == "deribit":
        # ccxt takes the milliseconds, which two calls at once share; Deribit wants each nonce once.
        exchange.nonce = lambda: secrets.token_hex(8)
    exchange.urls["api"] = dict.fromkeys(api, url) if isinstance(api, dict) else url
    return exchange


def _use(exchange: Any, key: SecretMaterial) -> None:
    values = key.reveal()
    exchange.apiKey, exchange.secret = values["api_key"], values["secret"]
    exchange.password = values.get("passphrase")


async def _dead(call: Any) -> None:
    try:
        await call
    except ccxt.BaseError:
        return
    raise AssertionError("the old key still works")


async def _bybit(x: Any, manager: SecretMaterial, c: Credential) -> None:
    _use(x, manager)
    await x.private_get_v5_user_sub_apikeys({"subMemberId": c.subaccount, "limit": 20})
    order = {"subuid": int(c.subaccount or 0), "readOnly": 0, "note": "floor", "ips": LOOPBACK}
    made = await x.private_post_v5_user_create_sub_api({**order, "permissions": {"Spot": ["SpotTrade"]}})
    new = SecretMaterial(made["result"]["apiKey"], made["result"]["secret"])
    _use(x, new)
    await x.private_get_v5_user_query_api()
    await x.private_get_v5_account_wallet_balance({"accountType": "UNIFIED"})
    _use(x, manager)
    await x.private_post_v5_user_delete_sub_api({"apikey": c.material.key_ref})
    _use(x, c.material)
    await _dead(x.private_get_v5_account_wallet_balance({"accountType": "UNIFIED"}))


async def _okx(x: Any, manager: SecretMaterial, c: Credential) -> None:
    _use(x, manager)
    await x.private_get_users_subaccount_apikey({"subAcct": c.subaccount})
    order = {"subAcct": c.subaccount, "label": "floor", "passphrase": _PASSPHRASE}
    made = await x.private_post_users_subaccount_apikey({**order, "perm": "read_only,trade", "ip": LOOPBACK})
    key = made["data"][0]
    new = SecretMaterial(key["apiKey"], key["secretKey"], _PASSPHRASE)
    _use(x, new)
    await x.private_get_account_config()
    await x.private_get_account_balance()
    _use(x, manager)
    await x.private_post_users_subaccount_delete_apikey(
        {"subAcct": c.subaccount, "apiKey": c.material.key_ref}
    )
    _use(x, c.material)
    await _dead(x.private_get_account_balance())


async def _deribit(x: Any, manager: SecretMaterial, c: Credential) -> None:
    scope = "account:read trade:read_write wallet:read"
    _use(x, manager)
    listed = await x.private_get_list_api_keys()
    old = next(k["id"] for k in listed["result"] if k["client_id"] == c.material.key_ref)
    made = (await x.private_get_create_api_key({"max_scope": scope, "name": "floor"}))["result"]
    edit = {"id": made["id"], "max_scope": scope, "name": "floor", "ip_whitelist": f'["{LOOPBACK}"]'}
    await x.request("edit_api_key", ["private"], "GET", edit)
    _use(x, SecretMaterial(made["client_id"], made["client_secret"]))
    # The engine asks for the token's scope, the account's id, the balance, and the manager's list.
    for _ in range(3):
        await x.private_get_get_account_summary({"currency": "BTC"})
    _use(x, manager)
    # The driver looks a key's number up before it changes or revokes anything.
    for _ in range(2):
        await x.private_get_list_api_keys()
    await x.private_get_remove_api_key({"id": old})
    _use(x, c.material)
    # An "unauthorized" has several causes at Deribit: the engine asks a second time to know which.
    for _ in range(2):
        await _dead(x.private_get_get_account_summary({"currency": "BTC"}))


_CALLS = {"bybit": _bybit, "okx": _okx, "deribit": _deribit}


async def measure(scene: Scene, at_once: int) -> float:
    """Rotate every credential of the scene; give the seconds that it took."""
    pools = {name: _pool(name, url, at_once) for name, url in scene.urls.items()}
    gate = asyncio.Semaphore(at_once)

    async def one(c: Credential) -> None:
        async with gate:
            x = pools[c.exchange].pop()
            await _CALLS[c.exchange](x, scene.managers[c.account], c)
            pools[c.exchange].append(x)

    began = time.perf_counter()
    await asyncio.gather(*map(one, scene.credentials))
    took = time.perf_counter() - began
    for pool in pools.values():
        for exchange in pool:
            await exchange.close()
    return took


def _pool(name: str, url: str, size: int) -> list[Any]:
    """Build exchange objects that share one connection pool, as many as can be in use at once."""
    first = _exchange(name, url)
    first.open()
    others = [_exchange(name, url) for _ in range(size - 1)]
    for other in others:
        other.session, other.own_session, other.asyncio_loop = first.session, False, first.asyncio_loop
    return [*others, first]
