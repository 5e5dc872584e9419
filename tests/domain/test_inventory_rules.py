"""Each rule of the inventory: what it refuses, and the neighbour that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyturn.domain import inventory_rules
from keyturn.domain.inventory_rules import RULES

Try = Callable[[dict[str, Any]], Any]
MM = "credentials.mm"
FILE = {"kind": "file", "path": "run/bot.json"}
HOOK = {"kind": "webhook", "url": "https://bot.example/kt", "hmac_key": {"env": "HOOK"}}
WITHDRAW = {
    f"{MM}.permissions": ["read", "withdraw"],
    f"{MM}.withdraw_reason": "Sweeps profits to cold storage.",
}
STRICT = {"accounts.main.exchange": "strict", f"{MM}.subaccount": "desk1"}
REASON = "The bot's provider changes addresses daily."

# (what it proves, refused change, its place, what the message must say, accepted neighbour)
REFUSED: list[tuple[str, dict[str, Any], str, str, dict[str, Any]]] = [
    (
        "an account that is not there",
        {f"{MM}.account": "mian"},
        f"{MM}.account",
        "write main",
        {f"{MM}.account": "main"},
    ),
    (
        "a store that is not there",
        {f"{MM}.store": "vualt"},
        f"{MM}.store",
        "write vault",
        {f"{MM}.store": "vault"},
    ),
    (
        "a policy that is not there",
        {f"{MM}.policy": "standart"},
        f"{MM}.policy",
        "write standard",
        {f"{MM}.policy": "standard"},
    ),
    (
        "a consumer that is not there",
        {f"{MM}.consumers": ["bto"]},
        f"{MM}.consumers[0]",
        "write bot",
        {f"{MM}.consumers": ["bot"]},
    ),
    (
        "a consumer named twice",
        {f"{MM}.consumers": ["bot", "bot"]},
        f"{MM}.consumers[1]",
        "named twice",
        {f"{MM}.consumers": ["bot"]},
    ),
    (
        "a manager's store that is not there",
        {"accounts.main.manager.store": "x"},
        "accounts.main.manager.store",
        "write one of: vault",
        {},
    ),
    (
        "defaults that lead nowhere",
        {"defaults.policy": "fast"},
        "defaults.policy",
        "write one of: standard",
        {"defaults.policy": "standard"},
    ),
    (
        "no store at all",
        {"defaults": {"policy": "standard"}},
        f"{MM}.store",
        "defaults.store",
        {"defaults": {"policy": "standard"}, f"{MM}.store": "vault"},
    ),
    (
        "two credentials on one path",
        {
            "credentials.b": {
                "account": "main",
                "permissions": ["read"],
                "ip_allowlist": ["::1"],
                "path": "bots/mm",
            }
        },
        "credentials.b.path",
        "the key of mm is there",
        {
            "credentials.b": {
                "account": "main",
                "permissions": ["read"],
                "ip_allowlist": ["::1"],
                "path": "bots/b",
            }
        },
    ),
    (
        "two paths that a Mac keeps in one folder",
        {
            "credentials.b": {
                "account": "main",
                "permissions": ["read"],
                "ip_allowlist": ["::1"],
                "path": "bots/MM",
            }
        },
        "credentials.b.path",
        "the key of mm is there",
        {},
    ),
    (
        "a credential on its manager's path",
        {f"{MM}.path": "managers/main"},
        f"{MM}.path",
        "the manager key of main is there",
        {f"{MM}.path": "managers"},
    ),
    (
        "one manager key for two venues",
        {"accounts.two": {"exchange": "flat", "manager": {"store": "vault", "path": "managers/main"}}},
        "accounts.two.manager.path",
        "another venue's",
        {"accounts.two": {"exchange": "open", "manager": {"store": "vault", "path": "managers/main"}}},
    ),
    (
        "one age folder under two names",
        {"stores.b": {"kind": "age_files", "path": "./secrets/", "key": {"file": "b"}}},
        "stores.b.path",
        "vault has this folder",
        {"stores.b": {"kind": "age_files", "path": "other", "key": {"file": "b"}}},
    ),
    (
        "one place through two stores",
        {
            "stores.b": {"kind": "age_files", "path": "secrets/bots", "key": {"file": "b"}},
            "credentials.b": {
                "account": "main",
                "permissions": ["read"],
                "ip_allowlist": ["::1"],
                "store": "b",
                "path": "mm",
            },
        },
        "credentials.b.path",
        "the key of mm is there",
        {},
    ),
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
    (
        "a webhook in the clear",
        {"consumers.bot": {**HOOK, "url": "http://bot.example/kt"}},
        "consumers.bot.url",
        "plain http",
        {"consumers.bot": {**HOOK, "url": "http://127.0.0.1:8080/kt"}},
    ),
    (
        "a webhook to a name that begins like loopback",
        {"consumers.bot": {**HOOK, "url": "http://127.0.0.1.example/kt"}},
        "consumers.bot.url",
        "plain http",
        {"consumers.bot": {**HOOK, "url": "http://localhost/kt"}},
    ),
    (
        "a venue in the clear",
        {"accounts.main.url": "http://api.example"},
        "accounts.main.url",
        "plain http",
        {"accounts.main.url": "http://[::1]:9000"},
    ),
    (
        "a URL that has no host",
        {"accounts.main.url": "https://[::1"},
        "accounts.main.url",
        "not a URL",
        {"accounts.main.url": "https://api.example"},
    ),
    (
        "a proxy that has no host",
        {f"{MM}.egress_proxy": "http://:0x1"},
        f"{MM}.egress_proxy",
        "not a URL",
        {f"{MM}.egress_proxy": "http://proxy.internal:3128"},
    ),
    (
        "a journal elsewhere",
        {"journal.url": "mysql://u@h/db"},
        "journal.url",
        "sqlite:///FILE",
        {"journal.url": "sqlite:///j.db"},
    ),
    (
        "a journal without a database",
        {"journal.url": "postgresql+psycopg://u@h"},
        "journal.url",
        "no database",
        {"journal.url": "postgresql+psycopg://u@h/db"},
    ),
    (
        "an unknown time zone",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "timezone": "Europe/Zurck"}},
        "policies.standard.window.timezone",
        "write Europe/Zurich",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "timezone": "Europe/Zurich"}},
    ),
    (
        "a time zone that is a folder",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "timezone": "Europe"}},
        "policies.standard.window.timezone",
        "no such time zone",
        {},
    ),
    (
        "a time zone outside the database",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "timezone": "../../etc/passwd"}},
        "policies.standard.window.timezone",
        "no such time zone",
        {},
    ),
    (
        "a window without a day",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "days": []}},
        "policies.standard.window.days",
        "never opens",
        {"policies.standard.window": {"start": "02:00", "end": "05:00", "days": ["sat"]}},
    ),
    (
        "a window without length",
        {"policies.standard.window": {"start": "02:00", "end": "02:00"}},
        "policies.standard.window.end",
        "the same as start",
        {"policies.standard.window": {"start": "22:00", "end": "02:00"}},
    ),
    (
        "an acknowledgement from a file",
        {"consumers.bot": {**FILE, "evidence": "ack"}},
        "consumers.bot.evidence",
        "`confirm:`",
        {"consumers.bot": {**FILE, "evidence": "ack", "confirm": ["bot", "key"]}},
    ),
    (
        "observation of a client",
        {"consumers.bot.evidence": "observed"},
        "consumers.bot.evidence",
        "write ack or timed",
        {"consumers.bot.evidence": "timed"},
    ),
    (
        "a signal to nobody",
        {"consumers.bot": {**FILE, "signal": "SIGHUP"}},
        "consumers.bot.signal",
        "pid_file",
        {"consumers.bot": {**FILE, "signal": "SIGHUP", "pid_file": "bot.pid"}},
    ),
    (
        "a pid file without a signal",
        {"consumers.bot": {**FILE, "pid_file": "bot.pid"}},
        "consumers.bot.pid_file",
        "signal: SIGHUP",
        {"consumers.bot": {**FILE, "signal": "HUP", "pid_file": "bot.pid"}},
    ),
    (
        "a signal that does not exist",
        {"consumers.bot": {**FILE, "signal": "SIGHUPP", "pid_file": "bot.pid"}},
        "consumers.bot.signal",
        "write SIGHUP",
        {},
    ),
    (
        "a secret for everybody",
        {"consumers.bot": {**FILE, "mode": "0644"}},
        "consumers.bot.mode",
        '"0600"',
        {"consumers.bot": {**FILE, "mode": "0640"}},
    ),
    (
        "two credentials in one file",
        {
            "consumers.bot": FILE,
            "credentials.b": {
                "account": "main",
                "permissions": ["read"],
                "ip_allowlist": ["::1"],
                "path": "bots/b",
                "consumers": ["bot"],
            },
        },
        "consumers.bot.path",
        "mm, b would overwrite each other",
        {"consumers.bot": FILE},
    ),
    (
        "two consumers that write one file",
        {"consumers.bot": FILE, "consumers.other": {**FILE, "path": "./run/bot.json"}},
        "consumers.other.path",
        "bot writes this file",
        {"consumers.bot": FILE, "consumers.other": {**FILE, "path": "run/other.json"}},
    ),
    (
        "a reference to nothing",
        {"stores.vault.key": {}},
        "stores.vault.key",
        "names no place",
        {"stores.vault.key": {"env": "AGE_KEY"}},
    ),
    (
        "a reference to two places",
        {"stores.vault.key": {"env": "AGE_KEY", "file": "age.txt"}},
        "stores.vault.key",
        "names 2 places",
        {"stores.vault.key": {"keyring": "age"}},
    ),
]


@pytest.mark.parametrize(
    ("wrong", "place", "words", "right"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_the_rules_refuse_it_and_accept_its_neighbour(
    try_with: Try, wrong: dict[str, Any], place: str, words: str, right: dict[str, Any]
) -> None:
    refused = try_with(wrong)
    assert len(refused.problems) == 1, refused.problems
    assert f" {place}: " in refused.problems[0]
    assert words in refused.problems[0]
    accepted = try_with(right)
    assert accepted.loaded is not None, accepted.problems


WARNED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "one key shared by two consumers",
        {f"{MM}.consumers": ["bot", "bot2"], "consumers.bot2": {"kind": "client"}},
        f"{MM}.consumers",
        "bot, bot2 share the key mm",
    ),
    (
        "a credential without consumers",
        {f"{MM}.consumers": [], "consumers": {}},
        f"{MM}.consumers",
        "nobody is told when mm turns",
    ),
    (
        "a consumer that nobody uses",
        {"consumers.idle": {"kind": "client"}},
        "consumers.idle",
        "nothing uses it",
    ),
    ("a policy that nobody uses", {"policies.idle": {}}, "policies.idle", "nothing uses it"),
    (
        "a store that nobody uses",
        {"stores.idle": {"kind": "age_files", "path": "i", "key": {"env": "I"}}},
        "stores.idle",
        "nothing uses it",
    ),
    (
        "an account that nobody uses",
        {"accounts.idle": {"exchange": "open", "manager": {"store": "vault", "path": "managers/idle"}}},
        "accounts.idle",
        "nothing uses it",
    ),
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
    try_with: Try, change: dict[str, Any], place: str, words: str
) -> None:
    (warning,) = try_with(change).warnings
    assert f" {place}: " in warning
    assert words in warning


def test_a_sound_inventory_has_no_warnings(try_with: Try) -> None:
    assert try_with({}).warnings == ()


@pytest.mark.parametrize("url", ["postgresql+psycopg://u@h/db?password=not-a-real-secret-1"])
def test_a_journal_url_with_a_password_is_refused_and_not_quoted(try_with: Try, url: str) -> None:
    (problem,) = try_with({"journal.url": url}).problems
    assert "not-a-real" not in problem
    assert "references only" in problem


def test_every_rule_of_the_modules_is_in_the_list() -> None:
    from keyturn.domain import inventory_formats, inventory_places

    written = {
        name
        for module in (inventory_formats, inventory_places, inventory_rules)
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
