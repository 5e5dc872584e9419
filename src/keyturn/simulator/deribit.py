"""Simulate Deribit's v2 API: keys of one's own account, and the calls of a bot that reads and trades.

Sources, all read 2026-11-21:

* Official OpenAPI 2.1.1 (copy: https://github.com/api-evangelist/deribit at 36544f9, published as
  https://docs.deribit.com/api-reference/): methods, parameters, scopes, key object, ``get_access_log``
  values.
* https://docs.deribit.com/#authentication ("Deribit signature credentials"): the ``Authorization`` header,
  the signed text, HMAC-SHA256 in hex, 60 seconds of validity, a nonce for single use, up to 8 keys an
  account.
* https://docs.deribit.com/articles/security-keys: which methods ask for a second factor and how: HTTP 200
  without an error, a challenge that holds for one minute, 13668 with its reasons.
* "RPC Error Codes": 10028, 11050, 11094, 13004, 13009, 13021, 13403, -32602, -32601.

A key can't be created with an IP list; ``edit_api_key`` needs ``max_scope`` every time. Lists and edits show
secrets, as the schemas require and the examples do; ``secrets_in_list=False`` is for the words of
``list_api_keys``, which deny it. ``max_scope`` is a text as in the examples, where the schema says a list.

A method may be named with a leading slash, and a POST names it in its body: without one it is 11050.

Not documented, so assumed here: an unknown or disabled key is 13004; a bad signature, an old time stamp, a
used nonce and a wrong address are all the same 13009 without a reason (one user got exactly that with HTTP
401: github.com/knowm/XChange/issues/3783); 13403 instead of 13021 for key methods that change something;
13008 when the number of keys is reached. Whether Deribit holds a nonce to the single use that it documents is
not known, and clients that use the milliseconds as nonce would then often be refused; see :class:`Nonces`.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

from keyturn.simulator import deribit_auth, deribit_keys, deribit_market
from keyturn.simulator.deribit_desk import DeribitDesk, envelope
from keyturn.simulator.deribit_keys import CATEGORIES, LEVELS, Method
from keyturn.simulator.deribit_tfa import SecondFactor
from keyturn.simulator.faults import FaultKind
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call, Refusal, Reply, alphanumeric, signature_matches

_SCHEME = "deri-hmac-sha256 "
_WINDOW_MS = 60_000
_API = "/api/v2"
# When so many nonces are remembered, the old ones are thrown out.
_MOST_NONCES = 20_000


class Nonces(StrEnum):
    """What happens to a nonce that was used before: the same request again, or a request of its own."""

    IGNORED = "ignored"  # everything is taken, so that a repeated mint mints again
    REPLAYS = "replays"  # the replay of a whole request that changes something is refused
    STRICT = "strict"  # every used nonce is refused, as the words of the documentation say


class SimDeribit(DeribitDesk):
    """Deribit: a key with ``account:read_write`` manages the keys of its own account.

    An account with a ``totp_secret`` (base32) demands a second factor for the methods that say so.
    """

    venue = "deribit"
    default_key_limit = 8
    unsupported_faults: ClassVar[frozenset[FaultKind]] = frozenset()

    def __init__(
        self,
        *,
        key_limit: int | None = None,
        trust_forwarded: bool = False,
        enforce_rate_limits: bool = False,
        secrets_in_list: bool = True,
        nonces: Nonces = Nonces.REPLAYS,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(
            key_limit=key_limit,
            trust_forwarded=trust_forwarded,
            enforce_rate_limits=enforce_rate_limits,
            host=host,
            port=port,
        )
        self.secrets_in_list = secrets_in_list
        self._nonce_rule = nonces
        self._nonces: dict[tuple[str, str], int] = {}
        self._second_factor = SecondFactor()

    @classmethod
    def known_permissions(cls) -> frozenset[str]:
        """Return ``category:level`` for every scope but ``none``."""
        return frozenset(f"{category}:{level}" for category in CATEGORIES for level in LEVELS)

    def new_key_ref(self) -> str:
        """Make an 8-character client id."""
        return alphanumeric(8)

    def new_secret(self) -> str:
        """Make a 43-character client secret."""
        return secrets.token_urlsafe(32)

    def presented_key(self, call: Call) -> str | None:
        """Read the client id from the ``Authorization`` header, or from a request for a token."""
        if ref := _credentials(call.headers).get("id"):
            return ref
        if (text := deribit_auth.shown_token(call)) is not None:
            token = self.tokens.by_access(text)
            return token.key.ref if token else None
        try:
            name, params, _ = self._method_of(call)
        except Refusal:
            return None
        asked = params.get("client_id") if name == deribit_auth.NAME else None
        return str(asked) if asked else None

    def rate_limited_reply(self, status: int | None) -> Reply:
        """Answer 10028, with HTTP 429 or the status that the fault names."""
        return self.error(10028, status=status)

    def server_error_reply(self, status: int) -> Reply:
        """Answer 11094."""
        return self.error(11094, status=status)

    def answer(self, call: Call) -> Reply:
        """Authenticate and carry out one call."""
        started = call.clock_ms
        name, params, request_id = self._method_of(call)
        if name == deribit_auth.NAME:
            return self._ok(deribit_auth.grant(self, call, params), started, request_id)
        public = deribit_market.PUBLIC.get(name)
        if public is not None:
            return self._ok(public(call, params), started, request_id)
        method = _PRIVATE.get(name)
        if method is None:
            raise self.refuse(-32601)
        key, rights = self._admit(call, method)
        if not rights & method.needs:
            raise self.refuse(method.refusal)
        challenge = self._challenge(call, key, name, params, method)
        if challenge is not None:
            return self._ok(challenge, started, request_id)
        return self._ok(method.carry_out(self, call, key, params), started, request_id)

    def _ok(self, result: object, started_ms: int, request_id: object) -> Reply:
        return Reply(envelope({"result": result}, started_ms, self.clock_ms(), request_id))

    def _method_of(self, call: Call) -> tuple[str, dict[str, object], object]:
        """Return method, parameters and id of a GET, or of a POST with a JSON-RPC body."""
        if not call.path.startswith(_API):
            raise self.refuse(-32601)
        name = call.path.removeprefix(_API).lstrip("/")
        if call.method == "GET":
            return name, dict(call.query_params()), None
        try:
            body = json.loads(call.body)
            params = dict(body.get("params") or {})
        except (ValueError, AttributeError, TypeError):
            raise self.refuse(-32700) from None
        if not isinstance(body.get("method"), str):
            raise self.refuse(11050)
        return body["method"].lstrip("/"), params, body.get("id")

    def _admit(self, call: Call, method: Method) -> tuple[SimKey, frozenset[str]]:
        """Return the calling key and what it may do in this call, by its token or its signature."""
        text = deribit_auth.shown_token(call)
        if text is None:
            key = self._authenticate(call, method)
            return key, key.rules.at(call.now_ms).permissions
        key, rights = deribit_auth.holder(self, call, text)
        call.key, call.rules = key, key.rules.at(call.now_ms)
        return key, rights

    def _authenticate(self, call: Call, method: Method) -> SimKey:
        given = _credentials(call.headers)
        ref, stamp, nonce = given.get("id", ""), given.get("ts", ""), given.get("nonce", "")
        if not (ref and stamp.isdecimal() and nonce and given.get("sig")):
            raise self.refuse(13009)
        key = self.find_key(call, ref)
        if key is None or not key.rules.at(call.now_ms).enabled:
            raise self.refuse(13004)
        text = f"{stamp}\n{nonce}\n{call.method}\n{call.target}\n".encode() + call.body + b"\n"
        expected = hmac.digest(key.secret.at(call.now_ms).encode(), text, "sha256").hex()
        fresh = abs(call.clock_ms - int(stamp)) <= _WINDOW_MS
        rules = key.rules.at(call.now_ms)
        if not signature_matches(expected, given["sig"]) or not fresh or not self.ip_matches(call, rules):
            raise self.refuse(13009)
        if self._nonce_rule is Nonces.STRICT:
            self._use_nonce(call, ref, nonce)
        elif self._nonce_rule is Nonces.REPLAYS and method.changes:
            self._use_nonce(call, ref, expected)
        call.key, call.rules = key, rules
        return key

    def _use_nonce(self, call: Call, ref: str, nonce: str) -> None:
        if len(self._nonces) > _MOST_NONCES:
            oldest = call.now_ms - _WINDOW_MS
            self._nonces = {slot: seen for slot, seen in self._nonces.items() if seen > oldest}
        if call.now_ms - self._nonces.get((ref, nonce), 0) <= _WINDOW_MS:
            raise self.refuse(13009)
        self._nonces[ref, nonce] = call.now_ms

    def _challenge(
        self, call: Call, key: SimKey, name: str, params: dict[str, object], method: Method
    ) -> dict[str, object] | None:
        demanded = call.faults.decided_by(FaultKind.SECOND_FACTOR) is not None
        if not demanded and not (method.second_factor and key.account.totp_secret):
            return None
        outcome = self._second_factor.check(
            owner=f"{key.ref} {name}", totp_secret=key.account.totp_secret, params=params, now_ms=call.now_ms
        )
        if isinstance(outcome, str):
            raise self.refuse(13668, outcome)
        return outcome


def _credentials(headers: Mapping[str, str]) -> dict[str, str]:
    value = headers.get("Authorization", "")
    if not value.startswith(_SCHEME):
        return {}
    pairs = (part.strip().partition("=") for part in value.removeprefix(_SCHEME).split(","))
    return {name: text for name, _, text in pairs}


_PRIVATE: dict[str, Method] = {**deribit_keys.METHODS, **deribit_market.PRIVATE}
