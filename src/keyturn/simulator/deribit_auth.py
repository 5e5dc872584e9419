"""Give a Deribit key a token, whose scope tells what the key may do (``public/auth``).

Source: https://docs.deribit.com/api-reference/authentication/public-auth and
https://docs.deribit.com/articles/authentication ("Client signature": time stamp, nonce and data, joined by
line breaks, HMAC-SHA256 in hex), https://docs.deribit.com/articles/access-scope, read 2026-11-21.

Not documented, so assumed here: wrong credentials of either kind are 13004, an old time stamp and a wrong
address 13009. The token itself opens nothing: no simulated method takes one.
"""

from __future__ import annotations

import hmac
import secrets

from keyturn.simulator.deribit_desk import DeribitDesk
from keyturn.simulator.deribit_keys import Params
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call, signature_matches

NAME = "public/auth"
_WINDOW_MS = 60_000
_LIFE_SECONDS = 900


def presented_key(call: Call) -> str | None:
    """Return the client id that a request for a token names."""
    return call.query_params().get("client_id") if call.path.endswith(NAME) else None


def grant(sim: DeribitDesk, call: Call, params: Params) -> object:
    """Check the credentials and answer with a token."""
    key = sim.find_key(call, str(params.get("client_id", "")))
    if key is None or not key.rules.at(call.now_ms).enabled:
        raise sim.refuse(13004)
    match params.get("grant_type"):
        case "client_credentials":
            right = signature_matches(key.secret.at(call.now_ms), str(params.get("client_secret", "")))
        case "client_signature":
            right = _signed(sim, call, key, params)
        case _:
            raise sim.refuse(-32602, "wrong format", "grant_type")
    if not right:
        raise sim.refuse(13004)
    rules = key.rules.at(call.now_ms)
    if not sim.ip_matches(call, rules):
        raise sim.refuse(13009)
    call.key, call.rules = key, rules
    words = {"connection", *rules.permissions}
    if key.account.is_master:
        words.add("mainaccount")
    return {
        "access_token": secrets.token_urlsafe(32),
        "expires_in": _LIFE_SECONDS,
        "refresh_token": secrets.token_urlsafe(32),
        "scope": " ".join(sorted(words)),
        "enabled_features": [],
        "token_type": "bearer",
    }


def _signed(sim: DeribitDesk, call: Call, key: SimKey, params: Params) -> bool:
    stamp, nonce, data = (str(params.get(name, "")) for name in ("timestamp", "nonce", "data"))
    if not stamp.isdecimal():
        raise sim.refuse(-32602, "value required", "timestamp")
    text = f"{stamp}\n{nonce}\n{data}".encode()
    expected = hmac.digest(key.secret.at(call.now_ms).encode(), text, "sha256").hex()
    if not signature_matches(expected, str(params.get("signature", ""))):
        return False
    if abs(call.clock_ms - int(stamp)) > _WINDOW_MS:
        raise sim.refuse(13009)
    return True
