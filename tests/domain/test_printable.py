"""No text from outside steers a terminal: not in an error, not in a document for programs."""

from __future__ import annotations

import json

import pytest

from keyturn.cli.output import Out
from keyturn.domain.errors import (
    ConsumerError,
    ConsumerFault,
    ExchangeError,
    ExchangeFault,
    JournalError,
    JournalFault,
    RefusedError,
    StoreError,
    StoreFault,
)

STEERS = "\x1b[2J\x9b2J\x07\r\x08\u202etxt.exe\u2066"
ERRORS = (
    lambda text: ExchangeError(ExchangeFault.REJECTED, text, now=text, todo=text),
    lambda text: StoreError(StoreFault.DENIED, text, now=text, todo=text),
    lambda text: ConsumerError(ConsumerFault.REFUSED, text, now=text, todo=text),
    lambda text: JournalError(JournalFault.CONFLICT, text, now=text, todo=text),
    lambda text: RefusedError(text, now=text, todo=text),
)


def shows(text: str) -> set[str]:
    return {character for character in text if character in STEERS and not character.isalnum()} - {*"[."}


@pytest.mark.parametrize("build", ERRORS)
def test_an_error_shows_no_character_that_steers(build) -> None:
    error = build(f"it said {STEERS} to us")
    for text in (str(error), error.what, error.now, error.todo, error.diagnostics()):
        assert text.count("it said") >= 1
        assert not shows(text)


def test_a_document_for_programs_escapes_them_and_loses_nothing(capsys) -> None:
    Out(as_json=True).document({"label": STEERS, "plain": "k\u00fcche"})
    text = capsys.readouterr().out
    assert not shows(text)
    assert json.loads(text) == {"label": STEERS, "plain": "k\u00fcche"}
