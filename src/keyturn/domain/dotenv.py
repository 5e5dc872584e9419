"""The lines of a .env file, written so that a shell and python-dotenv read the same value back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

# Needs no quotes anywhere.
_PLAIN = re.compile(r"[A-Za-z0-9_./+=:@%,-]+")
# What quoting cannot carry to every reader: a shell keeps a backslash in single quotes and python-dotenv
# does not; python-dotenv expands `${` in any quotes; the other control characters survive in neither.
_UNCARRIED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u2029\\]|\$\{")
_NO_DOUBLE_QUOTES = re.compile(r"[\"$`!]")
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(?:'([^']*)'|\"([^\"]*)\"|([^\s'\"]*))\n?")
# What any reader may take for an assignment: python-dotenv allows spaces and a quoted name.
_ASSIGNS = re.compile(r"\s*(?:export\s+)*'?([A-Za-z_][A-Za-z0-9_.-]*)'?\s*=")


def quoted(value: str) -> str | None:
    """Quote a value if it needs it; None where no quotes carry it to every reader."""
    if _PLAIN.fullmatch(value):
        return value
    if not _UNCARRIED.search(value):
        if "'" not in value:
            return f"'{value}'"
        if not _NO_DOUBLE_QUOTES.search(value):
            return f'"{value}"'
    return None


def lines(values: Mapping[str, str]) -> str:
    """Write variables.

    Raises:
        ValueError: a value cannot be carried; the text names the variable.
    """
    text = ""
    for name, value in values.items():
        if (written := quoted(value)) is None:
            raise ValueError(f"the value of {name} holds characters that a .env file cannot carry")
        text += f"{name}={written}\n"
    return text


def parse(text: str) -> dict[str, str]:
    """Read what `lines` writes, and what a person wrote in the same plain way.

    Empty lines, comments and `export` are passed over; a line of another form is, too.
    """
    return {
        match[1]: next(v for v in match.groups()[1:] if v is not None)
        for match, _ in _statements(text)
        if match
    }


def without(text: str, names: Collection[str]) -> str:
    """Give a text without the lines of some variables; all else is kept to the letter."""
    kept = ""
    for _, raw in _statements(text):
        assigned = _ASSIGNS.match(raw)
        kept += "" if assigned and assigned[1] in names else raw
    return kept


def _statements(text: str) -> Iterator[tuple[re.Match[str] | None, str]]:
    """Take a text apart: each assignment, or None for a line of another form, with all of its text."""
    at = 0
    while at < len(text):
        begin = at
        while text.startswith("export ", at):
            at += len("export ")
        if match := _LINE.match(text, at):
            at = match.end()
        if not (match and match[0].endswith("\n")):
            at = text.find("\n", at) + 1 or len(text)
        yield match, text[begin:at]
