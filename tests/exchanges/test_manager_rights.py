"""A manager key that may do more than manage keys is told, whatever the venue calls what it may do."""

from __future__ import annotations

import pytest

from keyturn.engine import adopt
from keyturn.engine.doctor import doctor
from keyturn.exchanges.bybit.driver import _facts as bybit_facts
from keyturn.exchanges.deribit.driver import _facts as deribit_facts
from keyturn.exchanges.okx.driver import _facts as okx_facts
from keyturn.ports.store import Finding
from keyturn.testing.fake_world import FakeWorld

from .benches import BENCHES, HOME, SimBench, caller_of

# Venue -> the rights that its guide asks for.
ENOUGH = {
    "bybit": ["Wallet.SubMemberTransfer"],
    "okx": ["read_only", "trade"],
    "deribit": ["account:read_write"],
}


async def told(code: str, rights: list[str]) -> list[Finding]:
    """What doctor has to say of the rights of a manager key."""
    async with BENCHES[code]() as bench:
        assert isinstance(bench, SimBench)
        key = bench.sim.add_key("main", rights, ips=[HOME])
        fake = FakeWorld()
        fake.exchange = bench.driver  # type: ignore[assignment]
        await adopt.put_manager(fake.world(), "main", caller_of(key).material, may_withdraw=True)
        return [
            f for f in await doctor(fake.world()) if "manager key" in f.detail and "bound" not in f.detail
        ]


@pytest.mark.parametrize("code", ENOUGH)
async def test_a_manager_key_as_the_guide_asks_for_passes(code: str) -> None:
    assert [f.ok for f in await told(code, ENOUGH[code])] == [True]


@pytest.mark.parametrize(
    ("code", "more"),
    [("bybit", "Wallet.Withdraw"), ("okx", "withdraw"), ("deribit", "wallet:read_write")],
)
async def test_a_manager_key_that_may_withdraw_never_passes(code: str, more: str) -> None:
    (bad,) = [f for f in await told(code, [*ENOUGH[code], more]) if not f.ok]
    assert bad.detail == "the manager key may also withdraw"
    assert "Take that right away" in bad.todo


async def test_a_manager_key_that_manages_by_the_right_to_withdraw_does_not_pass_either() -> None:
    (bad,) = [f for f in await told("bybit", ["Wallet.Withdraw"]) if not f.ok]
    assert bad.detail == "the manager key may also withdraw"
    assert bad.todo.endswith("transfer.")


@pytest.mark.parametrize(
    ("code", "more", "named"),
    [("bybit", "Spot.SpotTrade", "trade_spot"), ("deribit", "trade:read_write", "trade")],
)
async def test_a_manager_key_that_may_trade_where_it_need_not_does_not_pass(
    code: str, more: str, named: str
) -> None:
    (bad,) = [f for f in await told(code, [*ENOUGH[code], more]) if not f.ok]
    assert bad.detail == f"the manager key may also {named}"


async def test_rights_that_keyturn_has_no_word_for_are_told_in_the_venues() -> None:
    more = ["Earn.Earn", "FiatP2P.FiatP2POrder", "Affiliate.Affiliate", "Exchange.ExchangeHistory"]
    (bad,) = [f for f in await told("bybit", [*ENOUGH["bybit"], *more]) if not f.ok]
    assert bad.detail == f"the manager key may also {', '.join(sorted(more))}"


def test_each_venue_tells_the_rights_without_a_word_from_those_that_only_look() -> None:
    bybit = {"permissions": {"Earn": ["Earn"], "Spot": ["SpotTrade"]}, "readOnly": 0, "ips": ["*"]}
    assert bybit_facts(bybit, "k").unnamed == {"Earn.Earn"}
    assert bybit_facts(bybit | {"readOnly": 1}, "k").unnamed == frozenset()
    assert okx_facts({"perm": "read_only,trade,earn", "ip": ""}, "k").unnamed == {"earn"}
    scope = "account:read_write custody:read wallet:read_write lending:read_write staking"
    deribit = {"id": 1, "client_id": "k", "timestamp": 0, "max_scope": scope}
    assert deribit_facts(deribit).unnamed == {"lending:read_write", "staking"}
