"""The difference of two keys: every right is told, in keyturn's word or the venue's, at each venue."""

from __future__ import annotations

import pytest

from keyturn.domain.difference import KeySide, compare, declared_side, names_text, read_names
from keyturn.domain.keys import Permission
from keyturn.exchanges.catalog import manifests
from keyturn.ports.clock import SystemClock

NOW = SystemClock().now()


def _side(grants: str, permissions: str, addresses: frozenset[str] | None = frozenset()) -> KeySide:
    return KeySide(
        frozenset(grants.split()), frozenset(map(Permission, permissions.split())), addresses, None
    )


BYBIT_CONTRACTS = "ContractTrade.Order ContractTrade.Position"
BYBIT_READ = f"readOnly {BYBIT_CONTRACTS} Options.OptionsTrade Spot.SpotTrade"


@pytest.mark.parametrize(
    ("venue", "before", "after", "removed", "added"),
    [
        # A bot that traded derivatives, and an inventory that never said so.
        (
            "bybit",
            (f"Spot.SpotTrade {BYBIT_CONTRACTS}", "read trade_spot trade_derivatives"),
            ("Spot.SpotTrade", "read trade_spot"),
            ("trade_derivatives",),
            (),
        ),
        ("bybit", ("Spot.SpotTrade", "read trade_spot"), ("Spot.SpotTrade", "read trade_spot"), (), ()),
        # What the venue says beside `read` is no loss for a key that may trade as much.
        ("bybit", ("Spot.SpotTrade", "read trade_spot"), ("Spot.SpotTrade", "trade_spot"), (), ()),
        ("bybit", ("Spot.SpotTrade", "read trade_spot"), (BYBIT_READ, "read"), ("trade_spot",), None),
        (
            "bybit",
            ("readOnly Spot.SpotTrade", "read"),
            ("Spot.SpotTrade", "read trade_spot"),
            (),
            ("trade_spot",),
        ),
        # A right that keyturn has no word for is told in the venue's.
        (
            "bybit",
            ("Spot.SpotTrade Earn.Earn", "read trade_spot"),
            ("Spot.SpotTrade", "read trade_spot"),
            ("Earn.Earn",),
            (),
        ),
        (
            "bybit",
            ("Spot.SpotTrade Derivatives.DerivativesTrade", "read trade_spot trade_derivatives"),
            ("Spot.SpotTrade", "read trade_spot"),
            ("trade_derivatives",),
            (),
        ),
        ("okx", ("read_only trade", "read trade"), ("read_only", "read"), ("trade",), ()),
        ("okx", ("read_only trade withdraw", "read trade withdraw"), ("read_only trade", "read trade"),
         ("withdraw",), ()),
        # Looking is held by acting; a category that is gone is told.
        (
            "deribit",
            ("account:read trade:read", "read"),
            ("account:read trade:read_write", "read trade"),
            (),
            ("trade",),
        ),
        (
            "deribit",
            ("account:read trade:read_write wallet:read", "read trade"),
            ("account:read trade:read_write", "read trade"),
            ("wallet:read",),
            (),
        ),
        (
            "deribit",
            ("account:read trade:read_write block_trade:read_write", "read trade"),
            ("account:read trade:read_write", "read trade"),
            ("block_trade:read_write",),
            (),
        ),
    ],
)  # fmt: skip
def test_what_a_key_loses_and_gains_is_told(venue, before, after, removed, added) -> None:
    found = compare(manifests()[venue], _side(*before), _side(*after))
    assert found.removed == removed
    assert found.lost == set(removed)
    if added is not None:
        assert found.added == added


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ({"10.0.0.1"}, {"10.0.0.0/30"}, set()),
        ({"10.0.0.0/30"}, {"10.0.0.1"}, {"10.0.0.0/30"}),
        ({"2001:db8::1"}, {"10.0.0.0/8"}, {"2001:db8::1"}),
        ({"2001:db8::1"}, {"2001:db8::/32"}, set()),
        (set(), {"10.0.0.1"}, {"any address"}),
        ({"10.0.0.1"}, set(), set()),
    ],
)
def test_an_address_is_lost_when_nothing_on_the_new_list_lets_it_in(before, after, lost) -> None:
    sides = [_side("read_only", "read", frozenset(each)) for each in (before, after)]
    assert compare(manifests()["okx"], *sides).lost == lost


def test_addresses_that_nobody_told_are_not_compared() -> None:
    found = compare(manifests()["okx"], _side("read_only", "read", None), _side("read_only", "read"))
    assert (found.is_empty, found.addresses_known) == (True, False)


def test_what_is_accepted_of_the_venues_own_counts_as_held() -> None:
    manifest = manifests()["bybit"]
    new = declared_side(
        manifest,
        frozenset({"Spot.SpotTrade"}),
        frozenset({Permission.READ, Permission.TRADE_SPOT}),
        frozenset({"203.0.113.7"}),
        frozenset({"Derivatives.DerivativesTrade"}),
        NOW,
    )
    assert Permission.TRADE_DERIVATIVES in new.permissions
    before = _side("Spot.SpotTrade", "read trade_spot", frozenset({"203.0.113.7"}))
    assert compare(manifest, before, new).added == ("trade_derivatives",)


def test_names_are_read_as_they_were_written() -> None:
    names = {"trade_spot", "any address", "198.51.100.7", "2001:db8::7"}
    assert read_names(names_text(names)) == names
    assert read_names("198.51.100.7/32") == {"198.51.100.7"}
    assert read_names(None) == frozenset()
