"""What freqtrade makes of the variables of its environment: it guesses the type of most."""

from __future__ import annotations

import json

# https://github.com/freqtrade/freqtrade/blob/develop/freqtrade/configuration/environment_vars.py, 2026-11-21
_PREFIX = "FREQTRADE__"
_AS_THEY_ARE = frozenset({"CHAT_ID", "PASSWORD"})


def as_read(variable: str, value: str) -> object:
    """Read a variable as its reader does: freqtrade guesses the type of its own, others take the text."""
    name = variable.rpartition("__")[2]
    if not variable.startswith(_PREFIX) or name in _AS_THEY_ARE:
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    if value.lower() in {"t", "true", "f", "false"}:
        return value.lower().startswith("t")
    try:
        guessed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return guessed if isinstance(guessed, list) else value


def kind_of(value: object) -> str:
    """Say what something other than text is."""
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a list or an object"
