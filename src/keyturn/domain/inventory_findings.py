"""What can be wrong with an inventory, as data: place, what is wrong, what to write.

A finding never quotes the value of a field: a secret that was pasted into the wrong place must not
travel on in an error message. Names are quoted when they look like names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from keyturn.domain.inventory_secrets import Path, looks_random, looks_secret

_QUOTABLE = re.compile(r"[A-Za-z0-9_<~][A-Za-z0-9_.<~ -]{0,62}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth a warning."""

    path: Path
    wrong: str
    #: Begins with a verb: what to write.
    write: str
    #: Set where the path does not tell it: a text that is not YAML, the second of two equal names.
    line: int | None = None
    #: A warning lets the inventory load.
    warning: bool = False

    def sentence(self, name: str, line: int) -> str:
        """Tell file, line, field, what is wrong and what to write."""
        field = f" {shown_path(self.path)}:" if self.path else ""
        return f"{name}:{line}:{field} {self.wrong}; {self.write}"


def shown(name: object) -> str:
    """Quote a name of the file, or say that there is one when it does not look like a name."""
    text = str(name)
    if _QUOTABLE.fullmatch(text) and not looks_secret(text) and not looks_random(text):
        return text
    return "<unprintable>"


def shown_path(path: Path) -> str:
    """Write a path the way people do: `credentials.mm.permissions[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text


def listed(names: Iterable[object]) -> str:
    """Join names into a sentence."""
    return ", ".join(shown(n) for n in names)


def choose_from(known: Iterable[str], wanted: object = "") -> str:
    """Say what to write instead of a name that is not known: the nearest, or all there are."""
    names = sorted(known)
    by_lower = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(str(wanted).lower(), by_lower, n=1, cutoff=0.6)
    if nearest:
        return f"write {by_lower[nearest[0]]}"
    if not names:
        return "there is none yet: add it first"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"write one of: {', '.join(names[:12])}{more}"
