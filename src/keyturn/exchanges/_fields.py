"""Read one field of a venue's answer: what it must be, or an error that ends in "this is not an answer"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# The beginning of time at each venue, and a year that none of today's keys sees: sums of times beyond it
# leave what Python can hold.
_EPOCH, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
# Codes, numbers and names of accounts, public parts of keys, words for rights: the longest that a venue
# documents is an UUID of 36 characters.
_LONGEST_NAME = 128
# Shorter than any that a venue gives (Bybit 36, OKX 32, Deribit 43 characters), longer than a placeholder.
_SHORTEST_SECRET = 16
# Of the sixteen and more characters of a drawn secret at least this many differ; `xxxx...` is a mask.
_LEAST_VARIETY = 4


def mapping(value: Any) -> Mapping[str, Any]:
    """Read an object.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def items(value: Any) -> list[Any]:
    """Read a list.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def rows(value: Any) -> list[Mapping[str, Any]]:
    """Read a list of objects.

    Raises:
        TypeError: it is none.
    """
    return [mapping(row) for row in items(value)]


def words(value: Any) -> list[str]:
    """Read a list of names.

    Raises:
        TypeError, ValueError: it is none.
    """
    return [name(word) for word in items(value)]


def name(value: Any) -> str:
    """Read a code, a number of an account, the public part of a key, a word for a right: visible ASCII.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("no name")
    word = str(value)
    if not 0 < len(word) <= _LONGEST_NAME or not _is_plain(word):
        raise ValueError("no name")
    return word


def optional_name(value: Any) -> str | None:
    """Read a name that a venue leaves away, empty or null where there is none.

    Raises:
        TypeError, ValueError: it is there, and none.
    """
    return None if value is None or value == "" else name(value)


def text(value: Any) -> str:
    """Read what a person wrote, or nothing; what would steer a terminal is shown as a question mark.

    Raises:
        TypeError: it is no text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


def flag(value: Any) -> bool:
    """Read a truth value, which is a number in some answers.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise ValueError("no truth value")


def secret(value: Any) -> str:
    """Read a secret that was just made: the whole of it, not an empty or a masked one.

    Raises:
        TypeError, ValueError: it is none that could sign.
    """
    if not isinstance(value, str):
        raise TypeError("no secret")
    masked = "*" in value or len(set(value)) < _LEAST_VARIETY
    if masked or len(value) < _SHORTEST_SECRET or not _is_plain(value):
        raise ValueError("no secret")
    return value


def millis(value: Any) -> datetime:
    """Read milliseconds since the epoch, as a number or as digits.

    Raises:
        TypeError, ValueError: it is no time of an exchange's.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("no time")
    number = int(value)
    if not 0 <= number < _LAST.timestamp() * 1000:
        raise ValueError("no time")
    return datetime.fromtimestamp(number / 1000, UTC)


def iso(value: Any) -> datetime | None:
    """Read an ISO time; None where it is missing, or the beginning of time, which says "never".

    Raises:
        TypeError, ValueError: it is no time, or one without a zone.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise TypeError("no time")
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    if at == _EPOCH:
        return None
    if not _EPOCH < at < _LAST:
        raise ValueError("no time")
    return at.astimezone(UTC)


def _is_plain(value: str) -> bool:
    """Tell whether a text is of visible ASCII alone, as headers take it."""
    return value.isascii() and value.isprintable() and " " not in value
