"""Search whatever a run left behind for its secrets, in every form that a text takes on its way somewhere.

A secret is a needle; each needle has many forms (base64 in each of its three alignments, hex, ...). A place
is anything that gives bytes: a file, a column of a database, the environment of a process.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# A line of base64 as MIME wraps it is 76 characters long, so that a needle may stand on two lines; in JSON
# the line end is written as an escape.
_LINE_ENDS = (b"\\n", b"\\r", b"\r", b"\n")
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# gzip or zlib, whichever the header says (zlib's documentation of `wbits`).
_EITHER = 32 + zlib.MAX_WBITS


def _without_line_ends(data: bytes) -> bytes:
    for end in _LINE_ENDS:
        data = data.replace(end, b"")
    return data


def _may_lose(form: bytes) -> bool:
    """Whether a text may stand in data and not in what `_without_line_ends` makes of it.

    What is removed is then a part of it, or begins before it or ends behind it: `n` behind a backslash.
    """
    return form != _without_line_ends(form) or form.startswith((b"n", b"r")) or form.endswith(b"\\")


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A secret that was found."""

    place: str
    #: Which needle in which form; never the needle itself.
    form: str


def forms(text: str) -> dict[str, bytes]:
    """Give every form in which a text may stand somewhere, by name."""
    raw = text.encode()
    each = {
        "plain": raw,
        "lower case": text.lower().encode(),
        "upper case": text.upper().encode(),
        "reversed": raw[::-1],
        "URL-quoted": quote(text, safe="").encode(),
        "URL-quoted, every character": "".join(f"%{b:02X}" for b in raw).encode(),
        "URL-quoted, every character, lower case": "".join(f"%{b:02x}" for b in raw).encode(),
        "hex": raw.hex().encode(),
        "hex, upper case": raw.hex().upper().encode(),
        "JSON escapes": "".join(f"\\u{ord(c):04x}" for c in text).encode(),
        "JSON escapes, upper case": "".join(f"\\u{ord(c):04X}" for c in text).encode(),
        "byte escapes": "".join(f"\\x{b:02x}" for b in raw).encode(),
        "list of numbers": json.dumps(list(raw)).strip("[]").encode(),
        "UTF-16": text.encode("utf-16-le"),
    }
    for alignment in range(3):
        each[f"base64, alignment {alignment}"] = _inner_base64(raw, alignment)
        each[f"base64, alignment {alignment}, URL-safe"] = _inner_base64(raw, alignment).translate(
            bytes.maketrans(b"+/", b"-_")
        )
    # Two names may stand for the same bytes; one of them is enough.
    return {name: form for form, name in {form: name for name, form in reversed(each.items())}.items()}


def _inner_base64(raw: bytes, alignment: int) -> bytes:
    """Give the base64 characters that depend on `raw` alone when `alignment` bytes stand before it."""
    whole = base64.b64encode(b"\0" * alignment + raw)
    first = -(-alignment * 8 // 6)
    last = (alignment + len(raw)) * 8 // 6
    return whole[first:last]


class Search:
    """Looks for needles.

    Args:
        needles: name -> secret; the name goes into the hits.
    """

    def __init__(self, needles: Mapping[str, str]) -> None:
        if short := [name for name, text in needles.items() if len(text) < 12]:
            raise ValueError(f"too short to be told from chance: {short}")
        alike: dict[bytes, dict[bytes, str]] = {}
        for name, text in needles.items():
            for kind, form in forms(text).items():
                alike.setdefault(form.lower(), {})[form] = f"{name}: {kind}"
        #: Forms that are the same but for their case, and what they are called: one search tells that none is
        #: there. None in place of their lower case, where they are to be searched each.
        self._forms = [(None if any(map(_may_lose, each)) else lower, each) for lower, each in alike.items()]

    def data(self, place: str, data: bytes) -> Iterator[Hit]:
        """Search bytes: as they are, without line ends, and unpacked where they are compressed."""
        flat = _without_line_ends(data)
        lower = flat.lower()
        for any_case, each in self._forms:
            if any_case is None or any_case in lower:
                for form, name in each.items():
                    if form in flat or form in data:
                        yield Hit(place, name)
        if data.startswith(_COMPRESSED):
            try:
                yield from self.data(f"{place} (unpacked)", zlib.decompressobj(_EITHER).decompress(data))
            except zlib.error:
                return

    def file(self, path: Path, place: str = "") -> Iterator[Hit]:
        """Search a file: its name and what is in it."""
        place = place or str(path)
        yield from self.data(f"name of {place}", path.name.encode())
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # somebody tidied up meanwhile
            return
        yield from self.data(place, content)
        if content.startswith(b"SQLite format 3\0"):
            yield from self.database(path, place)

    def tree(self, folder: Path, *, but: Iterable[Path] = ()) -> Iterator[Hit]:
        """Search every file below a folder, links not followed; databases by column too."""
        excepted = {path.resolve() for path in but}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                yield from self.data(f"{path.relative_to(folder)} (link)", bytes(path.readlink()))
            elif path.is_file() and path.resolve() not in excepted:
                yield from self.file(path, str(path.relative_to(folder)))
            else:
                yield from self.data(f"name of {path.relative_to(folder)}", path.name.encode())

    def database(self, path: Path, place: str = "") -> Iterator[Hit]:
        """Search every column of every table, what still stands in the write-ahead log included.

        The bytes of the file are no substitute: a long text lies in them in pieces.
        """
        place = place or path.name
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.text_factory = bytes
            for table, column in columns(connection):
                where = f"{place}: {table}.{column}"
                rows = connection.execute(f'SELECT "{column}" FROM "{table}"')
                values = [v if isinstance(v, bytes) else str(v).encode() for (v,) in rows]
                # One search for the whole column: a hundred times as fast as one for each value.
                yield from self.data(where, b"\0".join([b"", *values]))
                for value in values:
                    if value.startswith(_COMPRESSED):
                        yield from self.data(where, value)


def columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """List every column of every table."""
    tables = [
        _text(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    return [
        (table, _text(row[1]))
        for table in tables
        for row in connection.execute(f'PRAGMA table_info("{table}")')
    ]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
