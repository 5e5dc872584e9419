"""Text from outside, made harmless where it is shown: it may be read, and steers nothing.

An exchange's code, a server's host name, a key's label: a terminal takes some characters for orders (move the
cursor, set the title, write from right to left), and so may whoever reads a log.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Give the text with every control character but tab and line end shown as a question mark."""
    return _CONTROL.sub("?", text)


def escaped(text: str) -> str:
    """Give JSON with every control character as an escape; its writers leave out those beyond ASCII."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
