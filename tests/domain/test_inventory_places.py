"""Each rule about names and places: what it refuses, and the neighbour that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# What it proves, the refused change, its place, what the message must say, the accepted neighbour.
Row = tuple[str, dict[str, Any], str, str, dict[str, Any]]
Told = Any
Try = Callable[[dict[str, Any]], Any]
MM = "credentials.mm"
FILE = {"kind": "file", "path": "run/bot.json"}
HOOK = {"kind": "webhook", "url": "https://bot.example/kt", "hmac_key": {"env": "HOOK"}}
SECOND = {"account": "main", "permissions": ["read"], "ip_allowlist": ["::1"]}
PARAMETERS = {"kind": "aws_parameter_store", "region": "eu-central-1"}
SECRETS = {"kind": "aws_secrets_manager", "region": "eu-central-1"}

REFUSED: list[Row] = [
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
        {"credentials.b": {**SECOND, "path": "bots/mm"}},
        "credentials.b.path",
        "the key of mm is there",
        {"credentials.b": {**SECOND, "path": "bots/b"}},
    ),
    (
        "two paths that a Mac keeps in one folder",
        {"credentials.b": {**SECOND, "path": "bots/MM"}},
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
            "credentials.b": {**SECOND, "store": "b", "path": "mm"},
        },
        "credentials.b.path",
        "the key of mm is there",
        {},
    ),
    (
        "a credential on the page that Parameter Store keeps beside another",
        {"stores.vault": PARAMETERS, "credentials.b": {**SECOND, "path": "bots/mm.keyturn"}},
        f"{MM}.path",
        "the key of b is where Parameter Store keeps its page",
        {"stores.vault": SECRETS, "credentials.b": {**SECOND, "path": "bots/mm.keyturn"}},
    ),
    (
        "a credential on the page of its manager key",
        {"stores.vault": PARAMETERS, f"{MM}.path": "managers/main.keyturn"},
        "accounts.main.manager.path",
        "the key of mm is where Parameter Store keeps its page",
        {"stores.vault": SECRETS, f"{MM}.path": "managers/main.keyturn"},
    ),
    (
        "two credentials on one path of Parameter Store, which is told once",
        {"stores.vault": PARAMETERS, "credentials.b": {**SECOND, "path": "bots/mm"}},
        "credentials.b.path",
        "the key of mm is there",
        {"stores.vault": PARAMETERS, "credentials.b": {**SECOND, "path": "bots/b"}},
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
        {"journal.url": "postgresql+psycopg://u@h/db?sslmode=require"},
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
        {"consumers.bot": FILE, "credentials.b": {**SECOND, "path": "bots/b", "consumers": ["bot"]}},
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
    told: Told, wrong: dict[str, Any], place: str, words: str, right: dict[str, Any]
) -> None:
    told.refused(wrong, place, words, neighbour=right)


def _vault(**changes: Any) -> dict[str, Any]:
    auth = {"method": "token", "token": {"env": "T"}}
    return {"kind": "vault_kv2", "addresses": ["https://v.example:8200"], "auth": auth, **changes}


@pytest.mark.parametrize(
    ("one", "other", "neighbour"),
    [
        ({"addresses": ["https://v.example:8200/"]}, {}, "https://v.example:8201"),
        ({"addresses": ["https://V.example:8200"]}, {}, "https://w.example:8200"),
        (
            {"addresses": ["https://v.example"]},
            {"addresses": ["https://v.example:443"]},
            "https://v.example:80",
        ),
        ({"addresses": ["http://[::1]:80"]}, {"addresses": ["http://[::1]/"]}, "https://[::1]"),
        ({"namespace": "a/"}, {"namespace": "a"}, "https://w.example"),
    ],
    ids=["last slash", "capitals", "default port", "IPv6", "namespace"],
)
def test_one_vault_spelled_in_two_ways_is_one_place(
    told: Told, one: dict[str, Any], other: dict[str, Any], neighbour: str
) -> None:
    both = {"stores.one": _vault(**one), "stores.other": _vault(**other)}
    used = {
        "credentials.b": {**SECOND, "store": "one", "path": "bots/b", "consumers": ["b"]},
        "credentials.c": {**SECOND, "store": "other", "path": "bots/c", "consumers": ["c"]},
        "consumers.b": {"kind": "client"},
        "consumers.c": {"kind": "client"},
    }
    apart = {**both, "stores.other": _vault(**{**other, "addresses": [neighbour]})}
    told.refused({**both, **used}, "stores.other.kind", "one is the same place", neighbour={**apart, **used})


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
]


@pytest.mark.parametrize(("change", "place", "words"), [w[1:] for w in WARNED], ids=[w[0] for w in WARNED])
def test_what_a_person_should_look_at_is_a_warning_with_its_place(
    told: Told, change: dict[str, Any], place: str, words: str
) -> None:
    told.warned(change, place, words)


@pytest.mark.parametrize("url", ["postgresql+psycopg://u@h/db?password=not-a-real-secret-1"])
def test_a_journal_url_with_a_password_is_refused_and_not_quoted(try_with: Try, url: str) -> None:
    (problem,) = try_with({"journal.url": url}).problems
    assert "not-a-real" not in problem
    assert "references only" in problem
