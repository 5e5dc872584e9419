"""What the driver reads in Bybit's words, and what the simulator opens by them, are the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from keyturn.domain.errors import ExchangeError, ExchangeFault
from keyturn.domain.keys import Permission
from keyturn.exchanges._base import CcxtDriver
from keyturn.exchanges._client import Endpoint
from keyturn.ports.exchange import Caller

from .benches import bybit, caller_of

ORDER = Endpoint("place an order", "v5/order/create", "POST", changes=True)
MARKETS: Mapping[str, Permission] = {
    "spot": Permission.TRADE_SPOT,
    "linear": Permission.TRADE_DERIVATIVES,
    "inverse": Permission.TRADE_DERIVATIVES,
    "option": Permission.TRADE_OPTIONS,
}
UNIFIED = "Derivatives.DerivativesTrade"
CONTRACTS = ("ContractTrade.Order", "ContractTrade.Position")


async def may_order(driver: CcxtDriver, caller: Caller, market: str) -> bool:
    try:
        await driver._call(ORDER, {"category": market, "symbol": "BTCUSDT"}, caller)
    except ExchangeError as error:
        if error.fault is not ExchangeFault.MISSING_PERMISSION:
            raise
        return False
    return True


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ("Spot.SpotTrade",),
        CONTRACTS,
        (UNIFIED,),
        (*CONTRACTS, UNIFIED),
        ("Options.OptionsTrade",),
        ("Options.OptionsTrade", UNIFIED),
        ("Wallet.AccountTransfer",),
    ],
    ids="+".join,
)
async def test_a_bybit_key_opens_the_markets_that_the_driver_reads_in_its_words(
    words: tuple[str, ...], read_only: bool
) -> None:
    async with bybit() as bench:
        assert isinstance(bench.driver, CcxtDriver)
        caller = caller_of(bench.sim.add_key("bot", words, read_only=read_only))
        facts = await bench.driver.introspect(caller)
        opened = {market for market in MARKETS if await may_order(bench.driver, caller, market)}
    assert opened == {market for market, right in MARKETS.items() if right in facts.permissions}


@pytest.mark.parametrize(
    ("words", "declared", "same"),
    [
        (CONTRACTS, Permission.TRADE_DERIVATIVES, True),
        (CONTRACTS[:1], Permission.TRADE_DERIVATIVES, False),
        (("Spot.SpotTrade",), Permission.TRADE_SPOT, False),
        (("Options.OptionsTrade",), Permission.TRADE_OPTIONS, False),
    ],
    ids=["both", "one", "spot", "options"],
)
async def test_the_unified_word_is_no_more_than_declared_beside_both_contract_rights_alone(
    words: tuple[str, ...], declared: Permission, *, same: bool
) -> None:
    async with bybit() as bench:
        caller = caller_of(bench.sim.add_key("bot", (*words, UNIFIED)))
        facts = await bench.driver.introspect(caller)
        assert (facts.grants == bench.driver.grants_for(frozenset({declared}))) is same
