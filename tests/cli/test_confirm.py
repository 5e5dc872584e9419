"""`keyturn confirm`: a person gives the proof of a consumer that cannot."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.cli.processes import terminal

from .conftest import CREDENTIAL, Home, Venue

_ROTATE = ("rotate", CREDENTIAL, "--reason", "quarterly rotation")
_WORD = ("--consumer", CREDENTIAL, "--by", "Ada Lovelace", "--reason", "its status page shows the new key")


@pytest.fixture
def parked(live: Home) -> Home:
    """Give a desk whose bot is not there, after a rotation that waited for it in vain."""
    live.edit("    kind: file\n    evidence: timed\n    path: bot-key.json\n", "    kind: client\n")
    live.edit("confirm_within: 2h", "confirm_within: 1s")
    assert live.run(*_ROTATE).code == 9
    return live


def test_the_command_that_a_parked_rotation_prints_leads_to_its_end(parked: Home, venue: Venue) -> None:
    [line] = parked.json("status")["credentials"]
    (printed,) = re.findall(r"keyturn (confirm .+? --reason \"...\")", line["todo"])
    command = shlex.split(printed.replace("YOUR NAME", "Ada Lovelace").replace("...", "its status page"))
    document = parked.json(*command)
    assert document["outcome"] == "completed"
    assert not venue.sim.is_live(venue.bot.key_ref)
    [proof] = parked.json("history", CREDENTIAL)["story"]["confirmations"]
    assert proof["evidence"] == "person"
    assert "Ada Lovelace: its status page" in proof["detail"]
    parked.run("verify-journal").ok()


def test_it_says_what_it_allows_and_asks_on_a_terminal(parked: Home, venue: Venue) -> None:
    result = terminal(parked.folder, "confirm", CREDENTIAL, *_WORD, types=[("[y/N]", "n")])
    said = " ".join(result.out.split())
    assert result.code == 3
    assert "the old key" in said
    assert "is revoked" in said
    assert "its calls fail" in said
    assert venue.sim.is_live(venue.bot.key_ref)
    assert parked.json("status")["credentials"][0]["state"] == "parked"
    assert terminal(parked.folder, "confirm", CREDENTIAL, *_WORD, "--yes").code == 0
    assert not venue.sim.is_live(venue.bot.key_ref)


def test_it_is_refused_for_whom_nobody_waits_for_and_where_nothing_is_open(parked: Home) -> None:
    other = parked.run("confirm", CREDENTIAL, *_WORD[2:], "--consumer", "other")
    assert other.code == 3
    assert f"It waits for {CREDENTIAL}." in other.err
    assert parked.run("confirm", "nobody", *_WORD).code == 3
    parked.run("confirm", CREDENTIAL, *_WORD).ok()
    again = parked.run("confirm", CREDENTIAL, *_WORD)
    assert again.code == 3
    assert "No rotation" in again.err


@pytest.mark.parametrize(
    "by", ["", "\x1b[2J", "x" * 64, "q7Zk2LxV9TnB4mWc8RpD"], ids=["empty", "control", "long", "secret"]
)
def test_who_says_so_is_a_name_and_no_secret(parked: Home, by: str) -> None:
    result = parked.run("confirm", CREDENTIAL, *_WORD[:2], "--by", by, *_WORD[4:])
    assert result.code == 2
    assert not by or by not in result.err
    assert parked.json("history", CREDENTIAL)["story"]["confirmations"] == []
