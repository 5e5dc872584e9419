"""Answer the calls of a Deribit bot that have nothing to do with keys: a market, a balance, no open orders.

The shapes are those of the official OpenAPI 2.1.1 (``public/get_time``, ``get_instruments``,
``get_currencies``, ``private/get_account_summaries``, ``buy``), read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable

from keyturn.simulator.deribit_desk import DeribitDesk
from keyturn.simulator.deribit_keys import Method, Params
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call

_ACCOUNT_READ = frozenset({"account:read", "account:read_write"})
_TRADE_READ = frozenset({"trade:read", "trade:read_write"})
_TRADE_WRITE = frozenset({"trade:read_write"})
_INSTRUMENT = "BTC-PERPETUAL"
_PRICE = 50_000.0

_MARKET = {
    "instrument_name": _INSTRUMENT,
    "kind": "future",
    "underlying_type": "crypto",
    "instrument_type": "reversed",
    "base_currency": "BTC",
    "quote_currency": "USD",
    "counter_currency": "USD",
    "settlement_currency": "BTC",
    "settlement_period": "perpetual",
    "price_index": "btc_usd",
    "is_active": True,
    "tick_size": 0.5,
    "contract_size": 10.0,
    "min_trade_amount": 10.0,
    "max_leverage": 50,
    "maker_commission": 0.0,
    "taker_commission": 0.0005,
    "creation_timestamp": 1534167754000,
    "expiration_timestamp": 32503708800000,
}
_BTC = {
    "currency": "BTC",
    "currency_long": "Bitcoin",
    "coin_type": "BITCOIN",
    "fee_precision": 4,
    "min_confirmations": 1,
    "min_withdrawal_fee": 0.0001,
    "withdrawal_fee": 0.0001,
    "withdrawal_priorities": [],
    "in_cross_collateral_pool": False,
}
# What the account summary of an account without positions has at zero, and what it has empty.
_ZERO = (
    "session_upl session_rpl total_pl initial_margin maintenance_margin projected_initial_margin"
    " projected_maintenance_margin delta_total projected_delta_total futures_pl futures_session_upl"
    " futures_session_rpl options_pl options_session_upl options_session_rpl options_delta options_gamma"
    " options_vega options_value options_theta"
)
_EMPTY = "options_gamma_map options_theta_map options_vega_map"


def _time(call: Call, params: Params) -> object:
    return call.clock_ms


def _instruments(call: Call, params: Params) -> object:
    return [_MARKET]


def _currencies(call: Call, params: Params) -> object:
    return [_BTC]


def _summary(currency: object) -> dict[str, object]:
    return {
        "currency": currency,
        "balance": 1.0,
        "equity": 1.0,
        "available_funds": 1.0,
        "available_withdrawal_funds": 1.0,
        "margin_balance": 1.0,
        "portfolio_margining_enabled": False,
        **dict.fromkeys(_ZERO.split(), 0.0),
        **{name: {} for name in _EMPTY.split()},
    }


def _owner(key: SimKey) -> dict[str, object]:
    account = key.account
    return {
        "id": int(account.uid),
        "username": account.name,
        "system_name": account.name,
        "email": f"{account.name}@example.com",
        "type": "main" if account.is_master else "subaccount",
        "security_keys_enabled": account.totp_secret is not None,
        "mmp_enabled": False,
        "login_enabled": account.is_master,
        "interuser_transfers_enabled": False,
    }


def _account_summary(sim: DeribitDesk, call: Call, key: SimKey, params: Params) -> object:
    if not params.get("currency"):
        raise sim.refuse(-32602, "value required", "currency")
    return {**_owner(key), **_summary(params["currency"])}


def _account_summaries(sim: DeribitDesk, call: Call, key: SimKey, params: Params) -> object:
    return {**_owner(key), "summaries": [_summary("BTC")]}


def _no_orders(sim: DeribitDesk, call: Call, key: SimKey, params: Params) -> object:
    return []


def _trade(direction: str) -> Method:
    def carry_out(sim: DeribitDesk, call: Call, key: SimKey, params: Params) -> object:
        if params.get("instrument_name") != _INSTRUMENT:
            raise sim.refuse(-32602, "not found", "instrument_name")
        call.effect = True
        amount = float(str(params.get("amount", "10")))
        order = {
            "order_id": f"{call.now_ms}{sim.book.count}",
            "order_state": "open",
            "order_type": params.get("type", "limit"),
            "direction": direction,
            "instrument_name": _INSTRUMENT,
            "amount": amount,
            "filled_amount": 0.0,
            "price": float(str(params.get("price", _PRICE))),
            "average_price": 0.0,
            "time_in_force": "good_til_cancelled",
            "post_only": False,
            "reduce_only": False,
            "api": True,
            "label": str(params.get("label", "")),
            "creation_timestamp": call.clock_ms,
            "last_update_timestamp": call.clock_ms,
        }
        return {"order": order, "trades": []}

    return Method(carry_out, _TRADE_WRITE, changes=True)


PUBLIC: dict[str, Callable[[Call, Params], object]] = {
    "public/get_time": _time,
    "public/get_instruments": _instruments,
    "public/get_currencies": _currencies,
}
PRIVATE: dict[str, Method] = {
    "private/get_account_summary": Method(_account_summary, _ACCOUNT_READ),
    "private/get_account_summaries": Method(_account_summaries, _ACCOUNT_READ),
    "private/get_open_orders_by_currency": Method(_no_orders, _TRADE_READ),
    "private/get_open_orders_by_instrument": Method(_no_orders, _TRADE_READ),
    "private/buy": _trade("buy"),
    "private/sell": _trade("sell"),
}
