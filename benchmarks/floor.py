"""The floor: bare asyncio and ccxt, making the same HTTP calls as a sweep, and nothing else.

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
    await _listed_bybit(x, manager, c)
    _use(x, c.material)
    # What the old key may do: the engine tells a person what the new one would lack.
    await x.private_get_v5_user_query_api()
    _use(x, manager)
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


async def _listed_bybit(x: Any, manager: SecretMaterial, c: Credential) -> None:
    _use(x, manager)
    await x.private_get_v5_user_sub_apikeys({"subMemberId": c.subaccount, "limit": 20})


async def _okx(x: Any, manager: SecretMaterial, c: Credential) -> None:
    await _listed_okx(x, manager, c)
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
    # OKX does not say whether it knows a key that it refuses: its list tells that the old one is gone.
    await _listed_okx(x, manager, c)


async def _listed_okx(x: Any, manager: SecretMaterial, c: Credential) -> None:
    _use(x, manager)
    await x.private_get_users_subaccount_apikey({"subAcct": c.subaccount})


async def _deribit(x: Any, manager: SecretMaterial, c: Credential) -> None:
    scope = "account:read trade:read_write wallet:read"
    _use(x, manager)
    listed = await x.private_get_list_api_keys()
    old = next(k["id"] for k in listed["result"] if k["client_id"] == c.material.key_ref)
    made = (await x.private_get_create_api_key({"max_scope": scope, "name": "floor"}))["result"]
    # The driver looks a key's number up before it changes or revokes anything.
    await x.private_get_list_api_keys()
    edit = {"id": made["id"], "max_scope": scope, "name": "floor", "ip_whitelist": f'["{LOOPBACK}"]'}
    await x.request("edit_api_key", ["private"], "GET", edit)
    _use(x, SecretMaterial(made["client_id"], made["client_secret"]))
    # The engine asks for the token's scope, the account's id, the balance, and the manager's list.
    for _ in range(3):
        await x.private_get_get_account_summary({"currency": "BTC"})
    _use(x, manager)
    for _ in range(2):
        await x.private_get_list_api_keys()
    await x.private_get_remove_api_key({"id": old})
    _use(x, c.material)
    await _dead(x.private_get_get_account_summary({"currency": "BTC"}))
    # Its refusal has several causes: the list tells that the old key is gone.
    await _listed_deribit(x, manager, c)


async def _listed_deribit(x: Any, manager: SecretMaterial, c: Credential) -> None:
    _use(x, manager)
    await x.private_get_list_api_keys()


_CALLS = {"bybit": _bybit, "okx": _okx, "deribit": _deribit}
# What the sweep's comparison of journal, store and exchange asks for, once for each (sub-)account.
_LISTS = {"bybit": _listed_bybit, "okx": _listed_okx, "deribit": _listed_deribit}


async def measure(scene: Scene, at_once: int) -> float:
    """Rotate every credential of the scene; give the seconds that it took."""
    pools = {name: _pool(name, url, at_once) for name, url in scene.urls.items()}
    gate = asyncio.Semaphore(at_once)

    async def one(calls: Any, c: Credential) -> None:
        async with gate:
            x = pools[c.exchange].pop()
            await calls[c.exchange](x, scene.managers[c.account], c)
            pools[c.exchange].append(x)

    places = {(c.account, c.subaccount): c for c in scene.credentials}.values()
    began = time.perf_counter()
    await asyncio.gather(*(one(_CALLS, c) for c in scene.credentials))
    await asyncio.gather(*(one(_LISTS, c) for c in places))
    took = time.perf_counter() - began
    # ccxt waits a quarter of a second in each: all at once.
    await asyncio.gather(*(exchange.close() for pool in pools.values() for exchange in pool))
    return took


def _pool(name: str, url: str, size: int) -> list[Any]:
    """Build exchange objects that share one connection pool, as many as can be in use at once."""
    first = _exchange(name, url)
    first.open()
    others = [_exchange(name, url) for _ in range(size - 1)]
    for other in others:
        other.session, other.own_session, other.asyncio_loop = first.session, False, first.asyncio_loop
    return [*others, first]
