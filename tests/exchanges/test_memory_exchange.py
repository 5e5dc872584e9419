"""What the fake can do beyond the contract: lag, stale lists, quotas, faults in order."""

from __future__ import annotations

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.keys import KeySpec, Permission
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller, KeyHandle
from keyturn.testing.clock import FakeClock
from keyturn.testing.driver_contract_support import refused
from keyturn.testing.memory_exchange import NEUTRAL, MemoryExchange

SPEC = KeySpec("kt-0123456789-1", frozenset({Permission.READ}), frozenset(), "bot")


def manager_of(exchange: MemoryExchange) -> Caller:
    return Caller(exchange.add_key({Permission.MANAGE_KEYS}).material)


async def test_a_change_holds_at_the_door_only_after_its_propagation() -> None:
    clock = FakeClock()
    exchange = MemoryExchange(clock=clock, propagation_seconds=5)
    manager = manager_of(exchange)
    minted = await exchange.create_key(manager, SPEC)
    await refused(exchange.introspect(Caller(minted.material)), ExchangeFault.UNKNOWN_KEY)
    clock.advance(5)
    await exchange.introspect(Caller(minted.material))
    await exchange.revoke_key(manager, KeyHandle(minted.key_ref, subaccount="bot"))
    assert exchange.truth("bot") == {}
    assert exchange.accepts(minted.material)
    clock.advance(5)
    assert not exchange.accepts(minted.material)


async def test_a_stale_list_shows_the_books_before_the_last_change_once() -> None:
    exchange = MemoryExchange()
    manager = manager_of(exchange)
    minted = await exchange.create_key(manager, SPEC)
    exchange.serve_stale_list()
    assert await exchange.list_keys(manager, "bot") == []
    assert [k.key_ref for k in await exchange.list_keys(manager, "bot")] == [minted.key_ref]


async def test_an_ordered_fault_skips_and_ends() -> None:
    exchange = MemoryExchange()
    manager = manager_of(exchange)
    exchange.fail("create_key", ExchangeFault.RATE_LIMITED, skip=1, times=2, retry_after=3.0)
    await exchange.create_key(manager, SPEC)
    for _ in range(2):
        error = await refused(exchange.create_key(manager, SPEC), ExchangeFault.RATE_LIMITED)
        assert error.retry_after == 3.0
    await exchange.create_key(manager, SPEC)
    assert len(exchange.truth("bot")) == 2


async def test_an_account_that_is_full_takes_no_key_and_loses_none() -> None:
    exchange = MemoryExchange(max_keys=1)
    manager = manager_of(exchange)
    await exchange.create_key(manager, SPEC)
    await refused(exchange.create_key(manager, SPEC), ExchangeFault.KEY_QUOTA)
    assert len(exchange.truth("bot")) == 1


async def test_it_takes_the_manifest_of_any_venue() -> None:
    for manifest in catalog.manifests().values():
        exchange = MemoryExchange(manifest)
        manager = Caller(exchange.add_key(manifest.manager_any_of[:1], ips={"127.0.0.1"}).material)
        sub = None if manifest.subaccount == "none" else "bot"
        label = manifest.label.separator.join(("kt", "0123456789", "1"))
        minted = await exchange.create_key(
            manager, KeySpec(label, frozenset({Permission.READ}), frozenset({"127.0.0.1"}), sub)
        )
        told = await exchange.introspect(Caller(minted.material))
        assert told.grants == exchange.grants_for(frozenset({Permission.READ}))
        assert (told.ip_allowlist is None) == (manifest.ip.set_at == "after")


async def test_an_unbound_key_ends_on_its_day() -> None:
    clock = FakeClock()
    rules = NEUTRAL.model_copy(update={"expiry_days_without_ip": 90})
    exchange = MemoryExchange(rules, clock=clock)
    minted = exchange.add_key({Permission.READ})
    bound = exchange.add_key({Permission.READ}, ips={"127.0.0.1"})
    clock.advance(90 * 86400)
    assert not exchange.accepts(minted.material)
    assert exchange.accepts(bound.material)
