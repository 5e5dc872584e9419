"""What goes to stdout and stderr: text for people, or exactly one JSON document for programs.

Text from outside (an exchange's message, a consumer's name) may carry terminal escape sequences;
nothing that could move a cursor or set a title gets through.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from keyturn.domain.printable import escaped, printable

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
# Below this a wrapped last column is a tower of words.
_NARROWEST_COLUMN = 24


def plain(text: object) -> str:
    """Give the text with every control character but tab and line end shown as a question mark."""
    return printable(str(text))


def colours(stream: TextIO) -> bool:
    """Whether the stream is a terminal whose owner has not asked for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def settle_streams() -> None:
    """Give this process the three standard streams, and let them write every character in some way.

    Where the caller has closed one, Python has none; and a file that was opened later would take its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stand_in = Path(os.devnull).open(mode, errors="backslashreplace")  # noqa: SIM115 - to the end
            setattr(sys, name, stand_in)
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Out:
    """Writes the result of one command.

    Args:
        as_json: one JSON document on stdout and no text.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        #: The one document was begun.
        self.documented = False
        #: Stdout takes nothing (any more). Work goes on; there is only nobody to tell. By this name the
        #: stand-in of `settle_streams` is known; a stdout sent to the null device has another.
        self.closed = getattr(sys.stdout, "name", "") == os.devnull
        self._colours = colours(sys.stdout)

    def paint(self, style: str, text: str) -> str:
        """Colour a text for stdout, if it is for a terminal."""
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if self._colours and style else text

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line for people; nothing in JSON mode."""
        if not self.as_json:
            self._write(self.paint(style, plain(text)) + "\n")

    def document(self, document: Any) -> None:
        """Write the JSON document; nothing in text mode."""
        if self.as_json:
            # JSON has an escape of its own for what the stream has no character for.
            utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
            text = escaped(json.dumps(document, indent=2, ensure_ascii=not utf8, default=_encode))
            self.documented = True
            self._write(text + "\n")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Write a table for people; the last column takes what room is left, and wraps on a terminal.

        Args:
            heads: one for each column.
            rows: cells, as many as there are heads.
            styles: one for each row; empty: none.
        """
        if self.as_json:
            return
        cells = [[plain(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        room = 0
        if sys.stdout.isatty():
            left = shutil.get_terminal_size().columns - sum(w + 2 for w in widths[:-1])
            room = max(left, _NARROWEST_COLUMN)
        text = [self.paint("bold", _row(heads, widths, 0))]
        for index, row in enumerate(cells):
            style = styles[index] if styles else ""
            text.append(self.paint(style, _row(row, widths, room)))
        self._write("\n".join(text) + "\n")

    def _write(self, text: str) -> None:
        """Write, at once.

        Raises:
            OSError: for another reason than that nobody reads any more.
        """
        if self.closed:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            self.closed = True
            # The interpreter flushes once more when it ends; that must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                raise


def complain(text: str) -> None:
    """Write to stderr; a stderr that is closed is no reason to stop."""
    try:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()
    except OSError:
        return


def _row(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    head = "".join(cell.ljust(width) + "  " for cell, width in zip(cells[:-1], widths, strict=False))
    last = cells[-1]
    if not room or len(last) <= room:
        return (head + last).rstrip()
    return head + ("\n" + " " * len(head)).join(textwrap.wrap(last, room))


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")


def moment(at: datetime) -> str:
    """Write a time for programs: ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(at: datetime | None) -> str:
    """Write a time for people: UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if at else "-"


def span(length: timedelta) -> str:
    """Write a length of time for people, in its two largest units."""
    seconds = abs(length.total_seconds())
    if seconds < 1:
        return "now"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        whole, seconds = divmod(seconds, size)
        if whole:
            parts.append(f"{int(whole)}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])
