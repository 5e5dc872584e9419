"""`KEYTURN_LOG`: what an operator greps and a collector reads, on stderr, beside what a command says."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from .conftest import CREDENTIAL, Home, Venue

_WHY = ("--reason", "quarterly rotation")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("keyturn")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_json_on_demand_is_one_document_a_line_beside_the_commands_own(
    live: Home, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYTURN_LOG", "json")
    result = live.run("rotate", CREDENTIAL, *_WHY, "--json").ok()
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert {line["rotation"] for line in lines} == {result.document["rotation"]["id"]}
    assert [line["event"] for line in lines][:2] == ["opened", "attempt_claimed"]
    assert [line["state"] for line in lines][-1] == "completed"
    assert all(line["level"] == "INFO" and line["logger"] == "keyturn.engine" for line in lines)
    [new] = venue.live_keys()
    assert not [ref for ref in (new, venue.bot.key_ref, "quarterly rotation") if ref in result.err]


def test_text_on_demand_is_a_line_an_event(live: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYTURN_LOG", "text")
    result = live.run("rotate", CREDENTIAL, *_WHY).ok()
    line = re.compile(rf"\S+Z? INFO keyturn\.engine {CREDENTIAL} \w+: \w+ \([\w >-]+\)")
    assert len(result.err.splitlines()) > 8
    assert [said for said in result.err.splitlines() if not line.fullmatch(said)] == []


def test_a_format_that_there_is_not_is_refused_before_anything_is_done(
    live: Home, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = len(venue.sim.calls())
    monkeypatch.setenv("KEYTURN_LOG", "xml")
    result = live.run("rotate", CREDENTIAL, *_WHY)
    assert result.code == 12
    assert "KEYTURN_LOG" in result.err
    assert "text or json" in result.err
    assert len(venue.sim.calls()) == calls
