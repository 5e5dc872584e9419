"""A bot that trades derivatives, and whose new key may not: the old one, which may, is not revoked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import ccxt
import pytest

import keyturn.client

from .conftest import CREDENTIAL, Home, Venue

_SPOT = {
    "category": "spot",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "1",
    "price": "1",
}
_LINEAR = {**_SPOT, "category": "linear"}


@contextmanager
def trading(home: Home, venue: Venue) -> Iterator[list[str]]:
    """Run a bot that places both kinds of orders; give the errors that it meets."""
    exchange = ccxt.bybit({"enableRateLimit": False})
    exchange.urls["api"] = {
        name: venue.sim.base_url if isinstance(url, str) else url
        for name, url in exchange.urls["api"].items()
    }
    errors: list[str] = []
    over = threading.Event()

    def trade() -> None:
        while not over.wait(0.02):
            for order in (_SPOT, _LINEAR):
                try:
                    exchange.private_post_v5_order_create(order)
                except ccxt.BaseError as error:
                    errors.append(type(error).__name__)

    with keyturn.client.attach(exchange, CREDENTIAL, inventory=home.inventory, verify_with=None):
        thread = threading.Thread(target=trade)
        thread.start()
        try:
            yield errors
        finally:
            over.set()
            thread.join()


_RIGHTS = ["Spot.SpotTrade", "ContractTrade.Order", "ContractTrade.Position"]


@pytest.fixture
def venue(venue: Venue) -> Venue:
    venue.sim.kill_key(venue.bot.key_ref)
    venue.bot = venue.sim.add_key("bot", _RIGHTS)
    return venue


@pytest.fixture
def desk(live: Home) -> Home:
    live.edit("trade_spot]", "trade_spot, trade_derivatives]")
    live.edit("    kind: file\n    evidence: timed\n    path: bot-key.json\n", "    kind: client\n")
    live.edit("grace: 0s", "grace: 4s")
    return live


def take_the_right_away(venue: Venue, over: threading.Event) -> None:
    """Be the person who, at the exchange, edits the new key as soon as the bot is on it."""
    while not over.wait(0.02):
        for ref in venue.live_keys():
            if ref != venue.bot.key_ref and venue.sim.calls_by(ref).signed > 2:
                spot = frozenset(_RIGHTS[:1])
                venue.sim.change_key(ref, replace(venue.sim.rules_of(ref), permissions=spot))
                return


def test_a_right_that_the_new_key_lost_holds_the_revoke_until_a_person_accepts_it(
    desk: Home, venue: Venue
) -> None:
    over = threading.Event()
    person = threading.Thread(target=take_the_right_away, args=(venue, over))
    person.start()
    try:
        with trading(desk, venue) as errors:
            parked = desk.run("rotate", CREDENTIAL, "--reason", "a test")
            assert parked.code == 9, (parked.out, parked.err)
            assert "mm-bybit: POST v5/order/create (a right is missing)" in parked.err
            assert f"keyturn resume {CREDENTIAL}" in parked.err
            assert set(errors) == {"PermissionDenied"}
            assert venue.bot.key_ref in venue.live_keys()
            assert len(venue.live_keys()) == 2
            desk.run("resume", CREDENTIAL).ok()
    finally:
        over.set()
        person.join()
    assert venue.bot.key_ref not in venue.live_keys()
    assert len(venue.live_keys()) == 1
    told = desk.run("history", CREDENTIAL).out
    assert "accepted as refused: mm-bybit: POST v5/order/create: missing_permission" in told
