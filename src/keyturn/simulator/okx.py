"""Simulate OKX's v5 API: the keys of sub-accounts, and the calls of a bot that reads its balance and trades.

Sources, all read 2026-11-21 (copies of https://www.okx.com/docs-v5/en/):

* "REST Authentication": the four headers, ISO time stamps with milliseconds, base64 of HMAC-SHA256 over
  time stamp + method + path with query + body. "API key security": up to 20 addresses or network segments.
* "Create / Reset / Delete the API key of a sub-account", "Query the API key of a sub-account" (page of
  2026-07-15 and https://github.com/rosssaunders/coincise at a00ae58b): parameters, answers, "applies to
  master accounts only and master accounts API Key must be linked to IP addresses", permission Trade (the
  query: Read), one request a second (the query: twenty in two), ``ip=""`` unbinds, passphrase rules.
* "Error codes": 50000 to 50120 with their HTTP statuses, 595xx.
* "Get account configuration": ``perm``, ``ip``, ``label``, ``uid``, ``mainUid``.

50119 comes with HTTP 401 and without ``data``, as users report
(github.com/freqtrade/freqtrade/issues/9422), not with the 200 of the table. Not documented, so assumed
here: a key that never had the shape of an OKX key is 50111 and a well-shaped unknown one 50119; a request
is too old after 30 seconds (documented for the WebSocket login only); every key may read; the signature is
checked before the IP list. Not simulated: the end of unbound keys after 14 idle days.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import uuid
from datetime import datetime
from typing import ClassVar

from keyturn.simulator import okx_keys, okx_market
from keyturn.simulator.okx_errors import OkxErrors
from keyturn.simulator.okx_keys import Handler, json_of
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call, Refusal, Reply, signature_matches

_WINDOW_MS = 30_000
_KEY_SHAPE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SimOkx(OkxErrors):
    """OKX: a master key that is bound to an address manages the keys of the sub-accounts."""

    venue = "okx"
    default_key_limit = 50
    documented_rates: ClassVar[dict[str, float]] = {
        "POST /api/v5/users/subaccount/apikey": 1,
        "POST /api/v5/users/subaccount/modify-apikey": 1,
        "POST /api/v5/users/subaccount/delete-apikey": 1,
        "GET /api/v5/users/subaccount/apikey": 10,
    }

    @classmethod
    def known_permissions(cls) -> frozenset[str]:
        """Return ``read_only``, ``trade`` and ``withdraw``."""
        return frozenset({"read_only", "trade", "withdraw"})

    def new_key_ref(self) -> str:
        """Make a key that looks like a UUID."""
        return str(uuid.uuid4())

    def new_secret(self) -> str:
        """Make a secret of 32 upper-case hex digits."""
        return secrets.token_hex(16).upper()

    def new_passphrase(self) -> str:
        """Make a passphrase with a digit, both cases and a special character."""
        return f"Aa1-{secrets.token_hex(8)}"

    def presented_key(self, call: Call) -> str | None:
        """Read the key from its header."""
        return call.headers.get("OK-ACCESS-KEY")

    def rate_limited_reply(self, status: int | None) -> Reply:
        """Answer 50011, with HTTP 429 or the status that the fault names."""
        return self.error(50011, status=status)

    def server_error_reply(self, status: int) -> Reply:
        """Answer 50026."""
        return self.error(50026, status=status)

    def answer(self, call: Call) -> Reply:
        """Authenticate and carry out one call."""
        public = okx_market.PUBLIC.get(call.route)
        if public is not None:
            return _ok(public(call))
        handler = _PRIVATE.get(call.route)
        if handler is None:
            if any(route.endswith(f" {call.path}") for route in _PRIVATE):
                raise self.refuse(50115)
            raise Refusal(Reply({"code": "404", "data": {}, "msg": "Not Found"}, 404, "404", "failed"))
        key = self._authenticate(call)
        if self.too_fast(call, key):
            raise self.refuse(50011)
        return _ok(handler(self, call, key))

    def _authenticate(self, call: Call) -> SimKey:
        headers = call.headers
        ref, given = headers.get("OK-ACCESS-KEY"), headers.get("OK-ACCESS-SIGN")
        stamp, passphrase = headers.get("OK-ACCESS-TIMESTAMP"), headers.get("OK-ACCESS-PASSPHRASE")
        if not ref:
            raise self.refuse(50103)
        if not given:
            raise self.refuse(50106)
        if not stamp:
            raise self.refuse(50107)
        if not passphrase:
            raise self.refuse(50104)
        self._check_time(call, stamp)
        key = self.find_key(call, ref)
        if key is None:
            raise self.refuse(50119 if _KEY_SHAPE.fullmatch(ref) else 50111)
        if not signature_matches(key.passphrase, passphrase):
            raise self.refuse(50105)
        text = f"{stamp}{call.method}{call.target}".encode() + call.body
        digest = hmac.digest(key.secret.at(call.now_ms).encode(), text, "sha256")
        if not signature_matches(base64.b64encode(digest).decode(), given):
            raise self.refuse(50113)
        rules = key.rules.at(call.now_ms)
        if not self.ip_matches(call, rules):
            raise self.refuse(50110, call.ip)
        call.key, call.rules = key, rules
        return key

    def _check_time(self, call: Call, stamp: str) -> None:
        try:
            sent = datetime.fromisoformat(stamp)
        except ValueError:
            raise self.refuse(50112) from None
        if sent.tzinfo is None:
            raise self.refuse(50112)
        if abs(sent.timestamp() * 1000 - call.clock_ms) > _WINDOW_MS:
            raise self.refuse(50102)


def _ok(data: object) -> Reply:
    return Reply({"code": "0", "data": data, "msg": ""})


def _order(sim: OkxErrors, call: Call, key: SimKey) -> object:
    return _place(sim, call, key, [json_of(sim, call)])


def _orders(sim: OkxErrors, call: Call, key: SimKey) -> object:
    orders = json_of(sim, call)
    return _place(sim, call, key, orders if isinstance(orders, list) else [orders])


def _place(sim: OkxErrors, call: Call, key: SimKey, orders: list[object]) -> object:
    if "trade" not in key.rules.at(call.now_ms).permissions:
        raise sim.refuse(50120)
    placed = []
    for number, order in enumerate(orders):
        if not isinstance(order, dict) or not order.get("instId"):
            raise sim.refuse(50014, "instId")
        placed.append(
            {
                "ordId": f"{call.now_ms}{sim.book.count}{number}",
                "clOrdId": order.get("clOrdId", ""),
                "tag": order.get("tag", ""),
                "ts": str(call.clock_ms),
                "sCode": "0",
                "sMsg": "",
            }
        )
    call.effect = True
    return placed


def _reading(view: okx_market.View) -> Handler:
    def handler(sim: OkxErrors, call: Call, key: SimKey) -> object:
        return view(call)

    return handler


_PRIVATE: dict[str, Handler] = {
    **okx_keys.HANDLERS,
    "POST /api/v5/trade/order": _order,
    "POST /api/v5/trade/batch-orders": _orders,
    **{route: _reading(view) for route, view in okx_market.PRIVATE_VIEWS.items()},
}
