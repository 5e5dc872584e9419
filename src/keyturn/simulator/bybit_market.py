"""Answer the calls of a Bybit bot that have nothing to do with keys: one market, one wallet, no open orders.

The shapes are those of https://bybit-exchange.github.io/docs/v5/market/time, ``market/instrument``,
``account/wallet-balance``, ``account/account-info`` and ``order/open-order``, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable

from keyturn.simulator.wire import Call

View = Callable[[Call], object]

_SPOT: dict[str, object] = {
    "symbol": "BTCUSDT",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "innovation": "0",
    "status": "Trading",
    "marginTrading": "none",
    "lotSizeFilter": {
        "basePrecision": "0.000001",
        "quotePrecision": "0.0000001",
        "minOrderQty": "0.000011",
        "maxOrderQty": "83",
        "minOrderAmt": "5",
        "maxOrderAmt": "8000000",
    },
    "priceFilter": {"tickSize": "0.1"},
}
_LINEAR: dict[str, object] = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "launchTime": "1585526400000",
    "deliveryTime": "0",
    "deliveryFeeRate": "",
    "priceScale": "2",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {
        "maxOrderQty": "1190.000",
        "minOrderQty": "0.001",
        "qtyStep": "0.001",
        "minNotionalValue": "5",
    },
    "unifiedMarginTrade": True,
    "fundingInterval": 480,
}
_MARKETS: dict[str, list[dict[str, object]]] = {"spot": [_SPOT], "linear": [_LINEAR]}


def _time(call: Call) -> object:
    return {"timeSecond": str(call.clock_ms // 1000), "timeNano": str(call.clock_ms * 1_000_000)}


def _instruments(call: Call) -> object:
    params = call.query_params()
    category = params.get("category", "")
    listed = [] if params.get("status") == "PreLaunch" else _MARKETS.get(category, [])
    return {"category": category, "list": listed, "nextPageCursor": ""}


def _wallet(call: Call) -> object:
    coin = {
        "coin": "USDT",
        "equity": "1000",
        "usdValue": "1000",
        "walletBalance": "1000",
        "locked": "0",
        "borrowAmount": "0",
        "availableToWithdraw": "",
        "totalOrderIM": "0",
        "totalPositionIM": "0",
        "unrealisedPnl": "0",
        "marginCollateral": True,
        "collateralSwitch": True,
    }
    account = {
        "accountType": call.query_params().get("accountType", "UNIFIED"),
        "totalEquity": "1000",
        "totalWalletBalance": "1000",
        "totalAvailableBalance": "1000",
        "totalInitialMargin": "0",
        "totalMaintenanceMargin": "0",
        "coin": [coin],
    }
    return {"list": [account]}


def _account_info(call: Call) -> object:
    return {
        "marginMode": "REGULAR_MARGIN",
        "updatedTime": str(call.clock_ms),
        "unifiedMarginStatus": 6,
        "dcpStatus": "OFF",
        "timeWindow": 0,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


def _open_orders(call: Call) -> object:
    return {"category": call.query_params().get("category", ""), "list": [], "nextPageCursor": ""}


def _coins(call: Call) -> object:
    return {"rows": []}


PUBLIC: dict[str, View] = {
    "GET /v5/market/time": _time,
    "GET /v5/market/instruments-info": _instruments,
}
PRIVATE_VIEWS: dict[str, View] = {
    "GET /v5/account/wallet-balance": _wallet,
    "GET /v5/account/info": _account_info,
    "GET /v5/order/realtime": _open_orders,
    "GET /v5/asset/coin/query-info": _coins,
}
