"""Each rule about what a key may do: what it refuses, and the neighbour that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyturn.domain import (
    inventory_acceptance,
    inventory_commands,
    inventory_formats,
    inventory_places,
    inventory_readers,
    inventory_rules,
    inventory_urls,
)
from keyturn.domain.inventory_rules import RULES

Try = Callable[[dict[str, Any]], Any]
# What it proves, the refused change, its place, what the message must say, the accepted neighbour.
Row = tuple[str, dict[str, Any], str, str, dict[str, Any]]
Told = Any
MM = "credentials.mm"
WITHDRAW = {
    f"{MM}.permissions": ["read", "withdraw"],
    f"{MM}.withdraw_reason": "Sweeps profits to cold storage.",
}
STRICT = {"accounts.main.exchange": "strict", f"{MM}.subaccount": "desk1"}
REASON = "The bot's provider changes addresses daily."

REFUSED: list[Row] = [
    (
        "an unknown exchange",
        {"accounts.main.exchange": "opne"},
        "accounts.main.exchange",
        "(known: flat, open, strict); write open",
        {},
    ),
    (
        "testnet without a sandbox",
        {**STRICT, "accounts.main.environment": "testnet"},
        "accounts.main.environment",
        "Strict has no sandbox",
        {"accounts.main.environment": "testnet"},
    ),
    (
        "a site that the venue lacks",
        {"accounts.main.site": "eaa"},
        "accounts.main.site",
        "(known: global, users of global; eea, users of eea); write eea",
        {"accounts.main.site": "eea"},
    ),
    (
        "a testnet of a site without one",
        {"accounts.main.site": "eea", "accounts.main.environment": "testnet"},
        "accounts.main.site",
        "eea of Open has no testnet",
        {"accounts.main.site": "global", "accounts.main.environment": "testnet"},
    ),
    (
        "a permission that the venue lacks",
        {**STRICT, f"{MM}.permissions": ["trade_spot"]},
        f"{MM}.permissions",
        "some of: read, trade",
        STRICT,
    ),
    (
        "a missing sub-account",
        {"accounts.main.exchange": "strict"},
        f"{MM}.subaccount",
        "sub-accounts only",
        STRICT,
    ),
    (
        "a sub-account in vain",
        {"accounts.main.exchange": "flat", f"{MM}.subaccount": "desk1"},
        f"{MM}.subaccount",
        "leave this field out",
        {"accounts.main.exchange": "flat"},
    ),
    (
        "trade and withdraw on one key",
        {**WITHDRAW, f"{MM}.permissions": ["trade_spot", "withdraw"]},
        f"{MM}.permissions",
        "write two credentials",
        WITHDRAW,
    ),
    (
        "withdraw without addresses",
        {**WITHDRAW, f"{MM}.ip_allowlist": [], f"{MM}.no_ip_allowlist_reason": REASON},
        f"{MM}.ip_allowlist",
        "can withdraw",
        WITHDRAW,
    ),
    (
        "withdraw without a reason",
        {f"{MM}.permissions": ["withdraw"]},
        f"{MM}.withdraw_reason",
        "write why",
        WITHDRAW,
    ),
    (
        "no addresses without a reason",
        {f"{MM}.ip_allowlist": []},
        f"{MM}.ip_allowlist",
        "no_ip_allowlist_reason",
        {f"{MM}.ip_allowlist": [], f"{MM}.no_ip_allowlist_reason": REASON},
    ),
    (
        "a bot that manages keys",
        {f"{MM}.permissions": ["read", "manage_keys"]},
        f"{MM}.permissions",
        "mints keys",
        {f"{MM}.permissions": ["read", "transfer"]},
    ),
    (
        "an entry that is no address",
        {f"{MM}.ip_allowlist": ["203.0.113.7", "bot.example"]},
        f"{MM}.ip_allowlist[1]",
        "neither",
        {f"{MM}.ip_allowlist": ["203.0.113.7", "2001:db8::1"]},
    ),
    (
        "a network with host bits",
        {f"{MM}.ip_allowlist": ["203.0.113.7/24"]},
        f"{MM}.ip_allowlist[0]",
        "without host bits",
        {f"{MM}.ip_allowlist": ["203.0.113.0/24"]},
    ),
    (
        "more addresses than the venue takes",
        {f"{MM}.ip_allowlist": [f"203.0.113.{i}" for i in range(4)]},
        f"{MM}.ip_allowlist",
        "Open takes 3",
        {f"{MM}.ip_allowlist": [f"203.0.113.{i}" for i in range(3)]},
    ),
    (
        "a network where the venue takes none",
        {**STRICT, f"{MM}.ip_allowlist": ["203.0.113.0/30"]},
        f"{MM}.ip_allowlist",
        "takes no networks",
        {**STRICT, f"{MM}.ip_allowlist": ["203.0.113.1/32"]},
    ),
    (
        "IPv6 where the venue takes none",
        {**STRICT, f"{MM}.ip_allowlist": ["2001:db8::1"]},
        f"{MM}.ip_allowlist",
        "takes no IPv6",
        {f"{MM}.ip_allowlist": ["2001:db8::1"]},
    ),
    (
        "the whole internet as an IP list",
        {f"{MM}.ip_allowlist": ["0.0.0.0/0"]},
        f"{MM}.ip_allowlist",
        "lets far more",
        {f"{MM}.ip_allowlist": ["10.9.0.0/16"]},
    ),
    (
        "half the internet as an IP list",
        {f"{MM}.ip_allowlist": ["128.0.0.0/1"]},
        f"{MM}.ip_allowlist",
        "lets far more",
        {f"{MM}.ip_allowlist": ["2001:db8::/48"]},
    ),
    (
        "29 days",
        {"policies.standard.rotate_every": "29d"},
        "policies.standard.rotate_every",
        "outside_30_90_reason",
        {"policies.standard.rotate_every": "30d"},
    ),
    (
        "91 days",
        {"policies.standard.rotate_every": "91d"},
        "policies.standard.rotate_every",
        "outside_30_90_reason",
        {"policies.standard.rotate_every": "90d"},
    ),
    (
        "a week without a reason",
        {"policies.standard.rotate_every": "7d"},
        "policies.standard.rotate_every",
        "30 to 90",
        {
            "policies.standard": {
                "rotate_every": "7d",
                "outside_30_90_reason": "The regulator asks for weekly keys.",
            }
        },
    ),
    (
        "grace as long as the interval",
        {"policies.standard.grace": "60d"},
        "policies.standard.grace",
        "less than 60d",
        {"policies.standard.grace": "59d"},
    ),
    (
        "no time to confirm",
        {"policies.standard.confirm_within": "0s"},
        "policies.standard.confirm_within",
        "parks",
        {"policies.standard.confirm_within": "1s"},
    ),
    (
        "no time for an answer",
        {"accounts.main.timeout": "0s"},
        "accounts.main.timeout",
        "write 10s",
        {"accounts.main.timeout": "1s"},
    ),
    (
        "an interval past the venue's own expiry",
        {**STRICT, f"{MM}.ip_allowlist": [], f"{MM}.no_ip_allowlist_reason": REASON},
        f"{MM}.policy",
        "after 45 days",
        {
            **STRICT,
            f"{MM}.ip_allowlist": [],
            f"{MM}.no_ip_allowlist_reason": REASON,
            "policies.standard.rotate_every": "45d",
        },
    ),
]


@pytest.mark.parametrize(
    ("wrong", "place", "words", "right"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_the_rules_refuse_it_and_accept_its_neighbour(
    told: Told, wrong: dict[str, Any], place: str, words: str, right: dict[str, Any]
) -> None:
    told.refused(wrong, place, words, neighbour=right)


WARNED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "a reason that is left over",
        {f"{MM}.no_ip_allowlist_reason": REASON},
        f"{MM}.no_ip_allowlist_reason",
        "remove the reason",
    ),
    (
        "a reason to withdraw on a key that cannot",
        {f"{MM}.withdraw_reason": REASON},
        f"{MM}.withdraw_reason",
        "remove the reason",
    ),
]


@pytest.mark.parametrize(("change", "place", "words"), [w[1:] for w in WARNED], ids=[w[0] for w in WARNED])
def test_what_a_person_should_look_at_is_a_warning_with_its_place(
    told: Told, change: dict[str, Any], place: str, words: str
) -> None:
    told.warned(change, place, words)


def test_a_sound_inventory_has_no_warnings(try_with: Try) -> None:
    assert try_with({}).warnings == ()


def test_every_rule_of_the_modules_is_in_the_list() -> None:
    written = {
        name
        for module in (
            inventory_acceptance,
            inventory_commands,
            inventory_formats,
            inventory_places,
            inventory_readers,
            inventory_rules,
            inventory_urls,
        )
        for name, f in vars(module).items()
        if callable(f) and getattr(f, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    assert written - {"check"} == {rule.__name__ for rule in RULES}


def test_rules_speak_of_sound_entries_also_when_others_are_broken(try_with: Try) -> None:
    broken = {"account": "main", "permissions": ["fly"], "path": "bots/b"}
    tried = try_with({"credentials.b": broken, f"{MM}.ip_allowlist": [], "stores.vault.path": 7})
    assert [p.split(": ")[1] for p in tried.problems] == [
        "stores.vault.path",
        f"{MM}.ip_allowlist",
        "credentials.b.permissions[0]",
    ]
