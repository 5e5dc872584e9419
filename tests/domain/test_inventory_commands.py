"""A secret in a command, a sub-account or a mailbox is refused; the commands that people write are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Try = Callable[[dict[str, Any]], Any]

# Made up, in the forms that exchanges give out; the last is base64.
DRAWN = [
    "pVQwQ1m2GnphVJLmMbqeuLM1hAiOuM",
    "0123456789ABCDEF0123456789ABCDEF",
    "bm90LWEt/cmVhbC1zZWNyZXQt+MSBub3QtYS1yZWFs==",
]
WEAK = "hunter2hunter2"

SECRET: list[list[str]] = [
    ["notify", "--password", WEAK],
    ["notify", "--passphrase", WEAK],
    ["notify", "--token", "X"],
    ["notify", "-token", WEAK],
    ["notify", "--api-key", WEAK],
    ["notify", "--client-secret", WEAK],
    ["notify", "--secret", WEAK],
    ["/usr/bin/curl", "-u", "user:not-a-real-secret-1", "https://x.example/"],
    ["curl", "--user", "user:pw", "https://x.example/"],
    ["env", f"API_SECRET={WEAK}", "./x"],
    ["env", f"DB_PASSWORD={WEAK}", "./x"],
    *(["./restart", drawn] for drawn in DRAWN),
    *(["env", f"CONFIG={drawn}", "./x"] for drawn in DRAWN),
    *(["curl", "-H", f"X-Api-Key: {drawn}", "https://x.example/"] for drawn in DRAWN),
    ["sh", "-c", f"bot --key '{DRAWN[0]}'"],
    ["mosquitto", "-u", f"user:{DRAWN[0]}"],
]


@pytest.mark.parametrize("field", ["run", "confirm"])
@pytest.mark.parametrize("command", SECRET, ids=" ".join)
def test_a_secret_in_a_command_is_refused_at_its_place_and_never_quoted(
    try_with: Try, command: list[str], field: str
) -> None:
    (problem,) = try_with({"consumers.bot": {"kind": "file", "path": "k.json", field: command}}).problems
    assert f" consumers.bot.{field}[" in problem
    assert "let the command read it from a file or an environment variable" in problem
    assert not any(secret in problem for secret in (*DRAWN, WEAK, "not-a-real", "user:"))


HONEST: list[list[str]] = [
    ["systemctl", "restart", "mm-bybit.service"],
    ["systemctl", "--user", "restart", "mm1:bybit2.service"],
    ["/opt/bots/mm1/venv2/bin/restartthebotnow"],
    ["opt/bots/mm1/venv2/bin/restartthebotnow", "--now"],
    ["net", "start", "TradingBotMarketMaker02Service"],
    ["docker", "restart", "4f66ad9e6b2e" * 5 + "4f66"],
    ["docker", "run", "img@sha256:" + "0a1b2c3d" * 8],
    ["docker", "exec", "-u", "1000:1000", "mm", "reload"],
    ["docker", "exec", "--user", "bot:bot", "mm", "reload"],
    ["podman", "run", "--secret", "mm-bybit-key", "img"],
    ["podman", "run", "--secret", "mmkey", "img"],
    ["docker", "build", "--secret", "id=key,src=run/key", "."],
    ["kubectl", "rollout", "restart", "deployment/mm-bybit-7d9c5b6f4-x2x8z"],
    ["curl", "https://hc.example/ping/0f0e1d2c-3b4a-4958-8776-655443322110"],
    ["curl", "-u", "user:", "--netrc-file", "run/netrc", "https://x.example/"],
    ["aws", "sns", "publish", "--topic-arn", "arn:aws:sns:eu-central-1:123456789012:keys"],
    ["notify", "--token", "run/token.txt"],
    ["notify", "--password", "-"],
    ["notify", "--password", "env:PW", "--token", "--loud"],
    ["env", "API_SECRET=/run/secrets/mm", "USE_TOKEN=1", "./x"],
    ["env", "PYTHONPATH=libs1", "./x"],
    ["notify", "--password-file", "pw.txt"],
    ["sh", "-c", "echo the token is rotated: restart"],
]


@pytest.mark.parametrize("field", ["run", "confirm"])
@pytest.mark.parametrize("command", HONEST, ids=" ".join)
def test_a_command_without_a_secret_is_accepted(try_with: Try, command: list[str], field: str) -> None:
    tried = try_with({"consumers.bot": {"kind": "file", "path": "k.json", field: command}})
    assert tried.loaded is not None, tried.problems


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("place", ["credentials.mm.subaccount", "consumers.bot.mailbox"])
def test_a_secret_in_place_of_a_name_is_refused_and_never_quoted(
    try_with: Try, place: str, drawn: str
) -> None:
    (problem,) = try_with({place: drawn}).problems
    assert f" {place}: this looks like a secret; write the " in problem
    assert drawn not in problem


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("credentials.mm.subaccount", "104270393"),
        ("credentials.mm.subaccount", "sub12"),
        ("credentials.mm.subaccount", "marketmakerbybitproduction01"),
        ("credentials.mm.subaccount", "0f0e1d2c-3b4a-4958-8776-655443322110"),
        ("credentials.mm.subaccount", "mm1_virtual@x2y3noemail.example"),
        ("consumers.bot.mailbox", "keyturn/data1/bots/mm2/mailbox"),
    ],
)
def test_names_that_venues_and_people_use_are_accepted(try_with: Try, place: str, value: str) -> None:
    tried = try_with({place: value})
    assert tried.loaded is not None, tried.problems
