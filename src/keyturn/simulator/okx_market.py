"""Answer the calls of an OKX bot that have nothing to do with keys: one market, one balance, no open orders.

The shapes are those of https://www.okx.com/docs-v5/en/ ("Get system time", "Get instruments", "Get balance",
"Get order list", "Get currencies"), read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable

from keyturn.simulator.wire import Call

View = Callable[[Call], object]

_SPOT = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "uly": "",
    "instFamily": "",
    "baseCcy": "BTC",
    "quoteCcy": "USDT",
    "settleCcy": "",
    "ctVal": "",
    "ctMult": "",
    "ctValCcy": "",
    "optType": "",
    "stk": "",
    "listTime": "1606468572000",
    "expTime": "",
    "lever": "",
    "tickSz": "0.1",
    "lotSz": "0.00000001",
    "minSz": "0.00001",
    "ctType": "",
    "alias": "",
    "state": "live",
    "maxLmtSz": "9999999999",
    "maxMktSz": "1000000",
}
_USDT = {
    "ccy": "USDT",
    "eq": "1000",
    "cashBal": "1000",
    "availBal": "1000",
    "availEq": "1000",
    "frozenBal": "0",
    "ordFrozen": "0",
    "upl": "0",
    "liab": "0",
    "uTime": "1606468572000",
}


def _time(call: Call) -> object:
    return [{"ts": str(call.clock_ms)}]


def _instruments(call: Call) -> object:
    return [_SPOT] if call.query_params().get("instType") == "SPOT" else []


def _balance(call: Call) -> object:
    return [{"uTime": str(call.clock_ms), "totalEq": "1000", "adjEq": "", "details": [_USDT]}]


def _nothing(call: Call) -> object:
    return []


PUBLIC: dict[str, View] = {
    "GET /api/v5/public/time": _time,
    "GET /api/v5/public/instruments": _instruments,
}
PRIVATE_VIEWS: dict[str, View] = {
    "GET /api/v5/account/balance": _balance,
    "GET /api/v5/asset/currencies": _nothing,
    "GET /api/v5/trade/orders-pending": _nothing,
}
