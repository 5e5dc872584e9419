"""Names that a person typed: found in the inventory, or refused without repeating what may be a secret.

`keyturn put` asks for a key; whoever pastes it behind the command instead must not find it again in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from keyturn.domain.errors import RefusedError
from keyturn.domain.inventory_secrets import may_be_shown, sentence_holds_secret

if TYPE_CHECKING:
    from keyturn.settings import LoadedInventory

_UNSHOWN = "(not repeated)"
_PASTED = (
    "If that was a key or a secret: it is in the shell's history and was in the list of processes, so revoke"
    " it. keyturn put NAME asks for the key by itself."
)
_OPTION = re.compile(r"--[a-z]{2,12}(?:-[a-z]{2,12})*|-[a-z]")


def known_name(
    loaded: LoadedInventory, kind: str, name: str, names: Iterable[str], todo: str, *, now: str = ""
) -> None:
    """Check a name of any section of the inventory.

    Raises:
        RefusedError: there is none of that kind.
    """
    from difflib import get_close_matches

    known = list(names)
    if name in known:
        return
    near = get_close_matches(name, known, n=3)
    what = f"{kind} {name}" if may_be_shown(name) else f"{kind} of that name {_UNSHOWN}"
    if near:
        todo = f"Did you mean {' or '.join(near)}?"
    raise RefusedError(
        f"There is no {what} in the inventory {loaded.path}.",
        now=now or "Nothing was changed.",
        todo=todo if may_be_shown(name) else f"{todo} {_PASTED}",
    )


def unrepeated(text: str, typed: Iterable[str]) -> str:
    """Take out of an error's text what was typed and looks like a secret."""
    return _without(text, filter(sentence_holds_secret, typed))


def without_values(text: str, typed: Iterable[str]) -> str:
    """Take out of a message all that was typed, but what can be a name or an option.

    For command lines that were not understood: nobody knows what an argument was meant to be.
    """
    return _without(text, (each for each in _values(typed) if not may_be_shown(each)))


def _values(typed: Iterable[str]) -> Iterator[str]:
    for argument in typed:
        option, _, value = argument.partition("=")
        yield value if _OPTION.fullmatch(option) else argument.lstrip("-")


def _without(text: str, unfit: Iterable[str]) -> str:
    for each in sorted(unfit, key=len, reverse=True):
        if each:
            text = text.replace(each, _UNSHOWN)
    return text
