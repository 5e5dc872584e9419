"""Simulate Bybit's v5 API: key management, and the calls of a bot that reads its wallet and trades.

Sources, all read 2026-11-21 (github.com/bybit-exchange/docs at 072c197d0, 2026-07-24; published at
https://bybit-exchange.github.io/docs/v5/):

* ``guide``: headers, the signed text, HMAC-SHA256 in lower-case hex, ``recv_window`` 5000 by default, and
  ``server_time - recv_window <= timestamp < server_time + 1000``.
* ``error``: the codes 10001 to 10029 with their texts, 33004; HTTP 401 for a wrong key or absent
  authentication, 404 for an unknown path. ``rate-limit``: 10006, and the rates of the key endpoints.
* ``user/create-subuid-apikey``, ``list-sub-apikeys``, ``modify-sub-apikey``, ``modify-master-apikey``,
  ``rm-sub-apikey``, ``rm-master-apikey``, ``apikey-info``: parameters, who may call, answers. ``readOnly``
  defaults to 0 and an absent ``ips`` unbinds, also on an update; a key without an IP list ends after 90
  days.
* ``account/wallet-balance``, ``account/account-info``, ``order/create-order``: answers.

Not documented, so assumed here: a read-only key can't manage keys; the signature is checked before the IP
list; the answer to a full quota (10001 with a text; the limit of 20 keys is from memory of the web
console); permissions that a sub-account can't have are refused with 10001; a cursor is a number.
"""

from __future__ import annotations

import hmac
from typing import ClassVar

from keyturn.simulator import bybit_keys, bybit_market
from keyturn.simulator.bybit_errors import BybitErrors
from keyturn.simulator.bybit_keys import MASTER_FLAT, Handler, body_of
from keyturn.simulator.state import KeyRules, SimKey
from keyturn.simulator.wire import Call, Reply, alphanumeric, signature_matches

_UNBOUND_LIFE_MS = 90 * 86_400_000
_DEFAULT_RECV_WINDOW_MS = 5000
_FUTURE_TOLERANCE_MS = 1000

# One of these. DerivativesTrade opens no options: it is the "Permission of Unified account"
# (``modify-sub-apikey``), which such an account's keys have by default (``list-sub-apikeys``, Chinese
# page); the key in the example of ``apikey-info`` has it beside ContractTrade and has no Options. Options
# have a permission of their own: "It supports trade option and USDC perpetual" (``list-sub-apikeys``). All
# read 2026-11-22. The driver takes the word in the same way.
_ORDER_NEEDS: dict[str, frozenset[str]] = {
    "spot": frozenset({"Spot.SpotTrade"}),
    "linear": frozenset({"ContractTrade.Order", "Derivatives.DerivativesTrade"}),
    "inverse": frozenset({"ContractTrade.Order", "Derivatives.DerivativesTrade"}),
    "option": frozenset({"Options.OptionsTrade"}),
}


class SimBybit(BybitErrors):
    """Bybit: a master account manages the keys of its sub-accounts; every key can see and end itself."""

    venue = "bybit"
    default_key_limit = 20
    documented_rates: ClassVar[dict[str, float]] = {
        "POST /v5/user/create-sub-api": 1,
        "POST /v5/user/update-sub-api": 5,
        "POST /v5/user/delete-sub-api": 5,
        "POST /v5/user/update-api": 5,
        "POST /v5/user/delete-api": 5,
        "GET /v5/user/query-api": 10,
        "GET /v5/user/sub-apikeys": 10,
    }

    @classmethod
    def known_permissions(cls) -> frozenset[str]:
        """Return ``Category.Permission`` for everything that a master key may have."""
        return MASTER_FLAT

    def new_key_ref(self) -> str:
        """Make an 18-character key."""
        return alphanumeric(18)

    def new_secret(self) -> str:
        """Make a 36-character secret."""
        return alphanumeric(36)

    def expiry_of(self, rules: KeyRules, now_ms: int) -> int | None:
        """End a key without an IP list after 90 days."""
        return None if rules.ips else now_ms + _UNBOUND_LIFE_MS

    def presented_key(self, call: Call) -> str | None:
        """Read the key from its header."""
        key: str | None = call.headers.get("X-BAPI-API-KEY")
        return key

    def rate_limited_reply(self, status: int | None) -> Reply:
        """Answer 10006 with HTTP 200, or a bare system-level 403 or 429."""
        if status is None:
            return self.error(10006)
        return Reply(b"", status, str(status), "failed")

    def server_error_reply(self, status: int) -> Reply:
        """Answer 10016."""
        reply = self.error(10016)
        reply.status = status
        return reply

    def answer(self, call: Call) -> Reply:
        """Authenticate and carry out one call."""
        public = bybit_market.PUBLIC.get(call.route)
        if public is not None:
            return self._ok(call, public(call))
        handler = _PRIVATE.get(call.route)
        if handler is None:
            raise self.refuse(10017)
        key = self._authenticate(call)
        if self.too_fast(call, key):
            raise self.refuse(10006)
        return self._ok(call, handler(self, call, key))

    def _ok(self, call: Call, result: object) -> Reply:
        return Reply(
            {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": call.clock_ms}
        )

    def _authenticate(self, call: Call) -> SimKey:
        ref, given = call.headers.get("X-BAPI-API-KEY"), call.headers.get("X-BAPI-SIGN")
        stamp = call.headers.get("X-BAPI-TIMESTAMP")
        window = call.headers.get("X-BAPI-RECV-WINDOW", "")
        if not ref or not given or not stamp:
            raise self.refuse(10007)
        key = self.find_key(call, ref)
        if key is None:
            raise self.refuse(10003)
        self._check_time(call, stamp, window)
        payload = call.query.encode() if call.method == "GET" else call.body
        text = f"{stamp}{ref}{window}".encode() + payload
        expected = hmac.digest(key.secret.at(call.now_ms).encode(), text, "sha256").hex()
        if not signature_matches(expected, given):
            raise self.refuse(10004)
        rules = key.rules.at(call.now_ms)
        if key.expires_ms is not None and call.now_ms >= key.expires_ms:
            raise self.refuse(33004)
        if not self.ip_matches(call, rules):
            raise self.refuse(10010)
        call.key, call.rules = key, rules
        return key

    def _check_time(self, call: Call, stamp: str, window: str) -> None:
        try:
            sent = int(stamp)
            allowed = int(window) if window else _DEFAULT_RECV_WINDOW_MS
        except ValueError:
            raise self.refuse(10001) from None
        if not call.clock_ms - allowed <= sent < call.clock_ms + _FUTURE_TOLERANCE_MS:
            raise self.refuse(
                10002,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{sent}],server_timestamp[{call.clock_ms}],recv_window[{allowed}]",
            )


def _order_create(sim: BybitErrors, call: Call, key: SimKey) -> object:
    body = body_of(sim, call)
    needs = _ORDER_NEEDS.get(str(body.get("category")))
    if needs is None:
        raise sim.refuse(10001, "category is wrong.")
    rules = key.rules.at(call.now_ms)
    if rules.read_only or not rules.permissions & needs:
        raise sim.refuse(10005)
    call.effect = True
    return {"orderId": f"{call.now_ms}{sim.book.count}", "orderLinkId": str(body.get("orderLinkId") or "")}


def _reading(view: bybit_market.View) -> Handler:
    def handler(sim: BybitErrors, call: Call, key: SimKey) -> object:
        return view(call)

    return handler


_PRIVATE: dict[str, Handler] = {
    **bybit_keys.HANDLERS,
    "POST /v5/order/create": _order_create,
    **{route: _reading(view) for route, view in bybit_market.PRIVATE_VIEWS.items()},
}
