"""Give a Deribit key tokens, whose scope tells what the key may do (``public/auth``), and take them back.

Sources:

* https://docs.deribit.com/api-reference/authentication/public-auth and
  https://docs.deribit.com/articles/authentication ("Client signature": time stamp, nonce and data, joined by
  line breaks, HMAC-SHA256 in hex; over HTTP a token travels as ``Authorization: Bearer``),
  https://docs.deribit.com/articles/access-scope (a scope may be asked for and never exceeds the key's;
  ``mainaccount`` is set for a main account), read 2026-11-21.
* https://docs.deribit.com/articles/connection-management-best-practices: 16 sessions a key, read 2026-11-28.
* Answers that real accounts got, published 2021 to 2023: over HTTP the scope holds ``session:rest-<8 bytes in
  base64>`` where a WebSocket's holds ``connection``, and of a key with a name ``name:<the name>``, which no
  page of the documentation lists. All words are sorted.

Not documented, so assumed here: wrong credentials of either kind are 13004, an old time stamp and a wrong
address 13009; a token that is unknown, too old, or whose key is gone is 13009 with the reason
``invalid_token`` (the third-party client deribit-wrapper 0.6.4 looks for that); a key's 17th session ends
its oldest one.
"""

from __future__ import annotations

import base64
import hmac
import secrets

from keyturn.simulator.deribit_desk import DeribitDesk
from keyturn.simulator.deribit_keys import CATEGORIES, LEVELS, Params
from keyturn.simulator.deribit_tokens import Token
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call, signature_matches

NAME = "public/auth"
_WINDOW_MS = 60_000
_LIFE_SECONDS = 900
_SCHEME = "bearer "


def shown_token(call: Call) -> str | None:
    """Return the token that the request shows."""
    header = call.headers.get("Authorization", "")
    return header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else None


def holder(sim: DeribitDesk, call: Call, text: str) -> tuple[SimKey, frozenset[str]]:
    """Return the key that a token stands for and what may be done with it; refuse where there is none."""
    token = sim.tokens.by_access(text)
    key = sim.find_key(call, token.key.ref) if token else None
    if token is None or key is None or call.now_ms >= token.expires_ms:
        raise sim.refuse(13009, "invalid_token")
    rules = key.rules.at(call.now_ms)
    if not rules.enabled:
        raise sim.refuse(13009, "invalid_token")
    if not sim.ip_matches(call, rules):
        raise sim.refuse(13009)
    return key, _within(rules.permissions, token.rights)


def grant(sim: DeribitDesk, call: Call, params: Params) -> object:
    """Check the credentials and answer with a token."""
    asked = str(params.get("scope", "")).split()
    if params.get("grant_type") == "refresh_token":
        key, held, bound_to = _renewed(sim, call, params)
    else:
        key = _authenticated(sim, call, params)
        held, bound_to = key.rules.at(call.now_ms).permissions, _bound_to(asked)
    rules = key.rules.at(call.now_ms)
    if not sim.ip_matches(call, rules):
        raise sim.refuse(13009)
    call.key, call.rules = key, rules
    life = next((int(word[8:]) for word in asked if word.startswith("expires:") and word[8:].isdecimal()), 0)
    life = life or _LIFE_SECONDS
    wanted = frozenset(word for word in asked if _is_right(word))
    rights = _within(held, wanted) if wanted else held
    token = Token(
        secrets.token_urlsafe(32),
        secrets.token_urlsafe(32),
        key,
        rights,
        bound_to,
        call.now_ms + life * 1000,
    )
    sim.tokens.put(token)
    state = {"state": params["state"]} if "state" in params else {}
    return {
        "access_token": token.access,
        "expires_in": life,
        "refresh_token": token.refresh,
        "scope": _scope(key, rules.label, token),
        "enabled_features": [],
        "token_type": "bearer",
        **state,
    }


def _scope(key: SimKey, label: str, token: Token) -> str:
    words = {token.bound_to, *token.rights}
    if key.account.is_master:
        words.add("mainaccount")
    if label:
        words.add(f"name:{label}")
    return " ".join(sorted(words))


def _bound_to(asked: list[str]) -> str:
    named = (word for word in asked if word == "connection" or word.startswith("session:"))
    return next(named, f"session:rest-{base64.b64encode(secrets.token_bytes(8)).decode()}")


def _is_right(word: str) -> bool:
    category, _, level = word.partition(":")
    return category in CATEGORIES and level in LEVELS


def _within(held: frozenset[str], asked: frozenset[str]) -> frozenset[str]:
    """Return what of the asked rights is held; of ``read_write`` where ``read`` is held, ``read``."""
    found = set()
    for word in asked:
        category, _, level = word.partition(":")
        if word in held or f"{category}:read_write" in held:
            found.add(word)
        elif level == "read_write" and f"{category}:read" in held:
            found.add(f"{category}:read")
    return frozenset(found)


def _authenticated(sim: DeribitDesk, call: Call, params: Params) -> SimKey:
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
    return key


def _renewed(sim: DeribitDesk, call: Call, params: Params) -> tuple[SimKey, frozenset[str], str]:
    old = sim.tokens.by_refresh(str(params.get("refresh_token", "")))
    key = sim.find_key(call, old.key.ref) if old else None
    if old is None or key is None or not key.rules.at(call.now_ms).enabled:
        raise sim.refuse(13009, "invalid_token")
    return key, _within(key.rules.at(call.now_ms).permissions, old.rights), old.bound_to


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
