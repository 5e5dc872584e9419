"""Read what servers answer within bounds: bytes on the way, bytes after unpacking, and one meaning.

An exchange, a store, a webhook and every proxy before them may be hostile or broken. A small body can
unpack to gigabytes, one can go on for ever, and JSON can be read in more ways than one. No HTTP library
bounds all of that, so the adapters take the bytes as they come and read them here.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import Any

#: Bytes of an exchange's answer. The longest that keyturn asks for, fifty keys or an account's summary, are
#: under 50 kB; a page of an error is, too.
VENUE_LIMIT = 1 << 20
#: Bytes of a store's answer. Vault's integrated storage takes entries of 1 MiB (its `max_entry_size`), AWS
#: secrets of 64 KiB; escaped as JSON in JSON a text grows to at most twice, and there is the rest of a page.
STORE_LIMIT = 4 << 20
#: Bytes of a webhook's answer: an acknowledgement is under 500.
WEBHOOK_LIMIT = 16_384

#: What reading a parsed answer raises when it is not in its server's form.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

# Digits of a time to wait: as many as the milliseconds of today have, and more than is ever waited.
_WAIT_DIGITS = 13
_GZIP, _ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
_WINDOWS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class BodyError(ValueError):
    """A body is longer than it may be, or cannot be read. The text quotes nothing of it."""


class Body:
    """One answer's body, gathered as it comes; memory stays under twice the limit.

    Args:
        limit: bytes, of what comes and of what it unpacks to.
        encoding: the answer's Content-Encoding.

    Raises:
        BodyError: an encoding that nobody asked for.
    """

    __slots__ = ("_came", "_gathered", "_limit", "_unpacker")

    def __init__(self, limit: int, encoding: str = "") -> None:
        self._limit = limit
        self._came = 0
        self._gathered = bytearray()
        name = encoding.strip().lower()
        self._unpacker: zlib._Decompress | None = None
        if name and name != "identity":
            if name not in _WINDOWS:
                raise BodyError("the answer is packed in a way that was not asked for")
            self._unpacker = zlib.decompressobj(_WINDOWS[name])

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            BodyError: the body is too long, or cannot be unpacked.
        """
        self._came += len(chunk)
        if self._came > self._limit:
            raise BodyError("the answer is too long")
        if self._unpacker is not None:
            room = self._limit - len(self._gathered) + 1
            try:
                chunk = self._unpacker.decompress(chunk, room)
            except zlib.error:
                raise BodyError("the answer cannot be unpacked") from None
        self._gathered += chunk
        if len(self._gathered) > self._limit:
            raise BodyError("the answer is too long, unpacked")

    def whole(self) -> bytes:
        """Give the body when all of it has come.

        Raises:
            BodyError: it is packed, and not whole or not alone.
        """
        packed = self._unpacker if self._came else None
        if packed is not None and (not packed.eof or packed.unused_data):
            raise BodyError("the answer cannot be unpacked")
        return bytes(self._gathered)


def read_json(content: bytes) -> Any:
    """Read JSON that has one meaning, whoever reads it (RFC 8259, sections 4 and 8.1).

    Raises:
        BodyError: it is no UTF-8 or no JSON, names a member twice, holds what is no number or no
            character, or is nested too deep.
    """
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
        if _SURROGATE.search(text):
            # Half a character: no file, terminal or store takes it.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        value = None
    else:
        return value
    # Outside of the handler: what json and codecs raise quotes the body, which may hold a secret.
    raise BodyError("the answer is no JSON with one meaning")


def seconds(value: Any) -> float | None:
    """Read how long to wait, as a number or as digits; None where it says nothing of use."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() and len(value) <= _WAIT_DIGITS else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(min(value, 10**_WAIT_DIGITS))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
