"""The rules about formats: what each refuses, and the neighbour that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

Try = Callable[[dict[str, Any]], Any]
MM = "credentials.mm.format"
VAULT = {
    "stores.hv": {
        "kind": "vault_kv2",
        "addresses": ["https://vault.example:8200"],
        "auth": {"method": "token", "token": {"env": "VAULT_TOKEN"}},
    },
    "credentials.mm.store": "hv",
}
NAMED = {"api_key": "exchange.id", "secret": "exchange.hush"}
LONG = "abcdefgh12345678ijklmnop90"

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("an unknown kind", {"kind": "yaml"}, MM + ".kind", "write one of: env, field"),
    ("json without names", {"kind": "json"}, MM + ".fields", "fields: {api_key: NAME, secret: NAME}"),
    (
        "a secret without a name",
        {"kind": "json", "fields": {"api_key": "k"}},
        MM + ".fields",
        "has no name for secret",
    ),
    (
        "names where the format has its own",
        {"kind": "freqtrade", "fields": NAMED},
        MM + ".fields",
        "freqtrade has names of its own",
    ),
    (
        "one name inside another",
        {"kind": "json", "fields": {"api_key": "exchange", "secret": "exchange.hush"}},
        MM + ".fields.secret",
        "another field has this name",
    ),
    (
        "keyturn's own field",
        {"kind": "json", "fields": {"api_key": "keyturn.id", "secret": "hush"}},
        MM + ".fields.api_key",
        "keyturn keeps its own notes there",
    ),
    (
        "keyturn's own field for the lines",
        {"kind": "env", "fields": {"api_key": "A", "secret": "B"}, "text_field": "keyturn"},
        MM + ".text_field",
        "keyturn keeps its own notes there",
    ),
    (
        "a level without a name",
        {"kind": "json", "fields": {"api_key": "a..b", "secret": "c"}},
        MM + ".fields.api_key",
        "single dots",
    ),
    (
        "a dot in a variable",
        {"kind": "env", "fields": {"api_key": "a.b", "secret": "c"}},
        MM + ".fields.api_key",
        "not the name of a variable",
    ),
    (
        "a secret in place of a name",
        {"kind": "json", "fields": {"api_key": "k", "secret": LONG}},
        MM + ".fields.secret",
        "references only",
    ),
    (
        "lines in a document that has none",
        {"kind": "json", "fields": NAMED, "text_field": "env"},
        MM + ".text_field",
        "leave it out",
    ),
    (
        "hummingbot without its connector",
        {"kind": "hummingbot"},
        MM + ".connector",
        "such as bybit_perpetual",
    ),
    (
        "another exchange's connector",
        {"kind": "hummingbot", "connector": "okx"},
        MM + ".connector",
        "the key is one of open",
    ),
    (
        "a connector where there is none",
        {"kind": "freqtrade", "connector": "okx"},
        MM + ".connector",
        "leave it out",
    ),
]

AWS = {
    "stores.hv": {"kind": "aws_secrets_manager", "region": "eu-central-1"},
    "credentials.mm.store": "hv",
}
SPLIT = {"kind": "split"}
NAMED_MM = {**SPLIT, "fields": {"api_key": "mm", "secret": "other"}}
MIRRORS = "credentials.mm.mirrors"

ACCEPTED: list[dict[str, Any]] = [
    {"kind": "field"},
    {"kind": "json", "fields": NAMED},
    {"kind": "json", "fields": {**NAMED, "passphrase": "exchange.pass"}},
    {"kind": "env", "fields": {"api_key": "BOT_KEY", "secret": "BOT_SECRET"}, "text_field": "dotenv"},
    {"kind": "freqtrade"},
]


@pytest.mark.parametrize(("_proves", "given", "place", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_a_format_that_no_bot_could_read_is_refused(
    try_with: Try, _proves: str, given: dict[str, Any], place: str, words: str
) -> None:
    (problem,) = try_with({**VAULT, MM: given}).problems
    assert f" {place}: " in problem
    assert words in problem
    assert LONG not in problem


@pytest.mark.parametrize("given", ACCEPTED, ids=lambda g: g["kind"])
def test_a_sound_format_is_accepted_without_a_warning(try_with: Try, given: dict[str, Any]) -> None:
    assert try_with({**VAULT, MM: given}).warnings == ()


def test_an_age_store_has_no_formats_and_the_message_says_what_to_do(try_with: Try) -> None:
    (problem,) = try_with({MM: {"kind": "freqtrade"}}).problems
    assert "keyturn.client" in problem
    assert "`file` consumer" in problem


def test_a_mirror_has_a_format_of_its_own(try_with: Try) -> None:
    mirror = {"store": "hv", "path": "ft/mm", "format": {"kind": "freqtrade"}}
    assert try_with({"stores.hv": VAULT["stores.hv"], "credentials.mm.mirrors": [mirror]}).warnings == ()
    mirror["format"] = {"kind": "json", "fields": {"secret": "hush"}}
    (problem,) = try_with({"stores.hv": VAULT["stores.hv"], "credentials.mm.mirrors": [mirror]}).problems
    assert "credentials.mm.mirrors[0].format.fields" in problem


def test_a_bots_own_login_names_one_place_too(try_with: Try) -> None:
    wrong = {"method": "token", "token": {"env": "A", "file": "b"}}
    (problem,) = try_with({**deepcopy(VAULT), "stores.hv.consumer_auth": wrong}).problems
    assert "stores.hv.consumer_auth.token" in problem


@pytest.mark.parametrize(
    "given", [SPLIT, {**SPLIT, "fields": {"api_key": "key", "secret": "key.secret"}}], ids=["own", "named"]
)
def test_secrets_manager_splits(try_with: Try, given: dict[str, Any]) -> None:
    assert try_with({**AWS, MM: given}).warnings == ()


def test_other_stores_do_not_split(try_with: Try) -> None:
    (problem,) = try_with({**VAULT, MM: SPLIT}).problems
    assert "aws_secrets_manager" in problem


def test_two_fields_do_not_share_a_secret(try_with: Try) -> None:
    (problem,) = try_with({**AWS, MM: {**SPLIT, "fields": {"api_key": "k", "secret": "k"}}}).problems
    assert f"{MM}.fields.secret" in problem


def test_a_field_secret_has_a_place_of_its_own(try_with: Try) -> None:
    mirror = {"store": "hv", "path": "bots/mm/secret"}
    (problem,) = try_with({**AWS, MM: SPLIT, "credentials.mm.path": "bots/mm", MIRRORS: [mirror]}).problems
    assert "the key of mm is there" in problem
    mirrors = [{"store": "hv", "path": "bots/mm"}, {"store": "hv", "path": "bots", "format": NAMED_MM}]
    (problem,) = try_with({**AWS, "credentials.mm.path": "elsewhere", MIRRORS: mirrors}).problems
    assert "mirrors[1].format" in problem
    assert "a mirror of mm is at bots/mm" in problem


def test_a_freqtrade_file_has_names_of_its_own(try_with: Try) -> None:
    file = {"kind": "file", "path": "config.json", "format": "freqtrade"}
    assert try_with({"consumers.bot": file}).warnings == ()
    (problem,) = try_with({"consumers.bot": {**file, "fields": {"api_key": "k", "secret": "s"}}}).problems
    assert "consumers.bot.fields" in problem
