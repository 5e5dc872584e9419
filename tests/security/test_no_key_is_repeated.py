"""A key that somebody pastes where a name belongs stands in no error, no document and no log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from keyturn.domain.inventory_secrets import may_be_shown
from tests.cli import fleet
from tests.cli.conftest import Run, cli

__all__ = ["cli"]

# As venues give them; none of these was ever one's.
PASTED = (
    "0mcBg7AxEoX4Fw8eK2rTzYq1VhLs9DnPjUi5",
    "Yb3xQvN8mKp2RtLw9ZsE",
    "4F8A0C1E9B7D62354F8A0C1E9B7D6235",
    "5f2c9b7e-4a1d-4c3b-9e8f-1a2b3c4d5e6f",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYnotrealKEY",
    "Correct-Horse!",
    "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
    "k9x2m4q7r1t5w8z3",
)
WHY = ("--reason", "a person pastes a key")
COMMANDS = (
    ("put", "{}"),
    ("put", "--manager", "{}"),
    ("put", "bot-0000", "{}"),
    ("adopt", "{}"),
    ("forget", "{}", "--yes"),
    ("rotate", "{}", *WHY),
    ("rotate", "{}", "--dry-run"),
    ("rotate", "{}", "--accept-loss", *WHY),
    ("rotate", "bot-0000", "--reason", "{}"),
    ("resume", "{}"),
    ("resume", "{}", "--accept-loss"),
    ("abort", "{}", *WHY),
    ("rollback", "{}", "--yes", *WHY),
    ("status", "{}"),
    ("plan", "{}"),
    ("history", "{}"),
    ("store", "move", "{}", "--to", "main"),
    ("store", "move", "bot-0000", "--to", "{}"),
    ("sweep", "{}"),
    ("sweep", "--limit", "{}"),
    ("doctor", "{}"),
    ("check", "{}"),
    ("{}",),
    ("put", "--{}"),
    ("put", "--secret={}"),
    ("put", "-s{}"),
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    asyncio.run(fleet.make(folder, 1))
    return folder / "keyturn.yaml"


@pytest.mark.parametrize("pasted", PASTED)
def test_by_no_message_about_a_name(
    pasted: str, cli: Run, desk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused(cli, desk, caplog, pasted, ("put", "{}"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_by_no_command(
    command: tuple[str, ...], cli: Run, desk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused(cli, desk, caplog, PASTED[0], command)
    refused(cli, desk, caplog, PASTED[2], (*command, "--json"))


def refused(
    cli: Run, desk: Path, caplog: pytest.LogCaptureFixture, pasted: str, command: tuple[str, ...]
) -> None:
    done = cli(*(part.format(pasted) for part in command), "-i", desk)
    assert done.code != 0
    # A panel breaks lines; so does a terminal.
    said = "".join((done.out + done.err).split()).replace("│", "")
    assert pasted not in said, (command, done.out, done.err)
    assert pasted not in caplog.text


def test_the_person_is_told_what_that_means(cli: Run, desk: Path) -> None:
    done = cli("put", PASTED[0], "-i", desk, "--json")
    assert done.code == 3
    assert "shell's history" in done.err
    assert "(not repeated)" in done.document["error"]["what"]


def test_a_name_that_is_mistyped_is_told_and_its_near_misses_are(cli: Run, desk: Path) -> None:
    done = cli("put", "bot-000", "-i", desk)
    assert "There is no credential bot-000 in" in done.err
    assert "Did you mean" in done.err


@pytest.mark.parametrize(
    "name", ["mm-bybit", "arb.bybit", "bot-0002", "prod-marketmaker_2-bybit-subaccount-01", "desk20261128"]
)
def test_names_as_people_choose_them_are_shown(name: str) -> None:
    assert may_be_shown(name)
