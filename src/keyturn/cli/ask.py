"""What a command asks of a person: a yes, a reason."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection

import typer

from keyturn.domain.errors import KeyturnError, RefusedError

_LONGEST_REASON = 500
# As in the form in Prefect: a name, an e-mail address, a login.
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}")


class UsageError(KeyturnError):
    """The arguments do not make sense together."""

    exit_code = 2


def on_a_terminal() -> bool:
    """Whether a person can be asked: they type, and they see the question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def again(context: typer.Context, *more: str) -> str:
    """Give the command that runs now, as it was typed, and with more words."""
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            option = [parameter.opts[0]] if parameter.param_type_name == "option" else []
            words += option if each is True else [*option, str(each)]
    return shlex.join(["keyturn", context.command.name or "", *words, *more])


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that is hard to take back; without a terminal the command itself is the yes.

    Raises:
        RefusedError: the answer was not yes.
    """
    if yes or not on_a_terminal():
        return
    if not agrees(question):
        raise RefusedError("Not confirmed.", now="Nothing was changed.")


def agrees(question: str) -> bool:
    """Ask a person who is there; whatever is not a yes is a no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def give_up(credential: str, names: Collection[str], *, yes: bool) -> None:
    """Show what the new key of a credential would lack, and ask whether it may.

    Raises:
        RefusedError: the answer was not yes.
    """
    text = ", ".join(sorted(names))
    sys.stderr.write(f"The new key of {credential} lacks what the living key has: {text}\n")
    confirm("May it go without?", yes=yes)


def reason(given: str | None) -> str:
    """Bring a reason into the form in which the journal keeps it: one line of printable text.

    Raises:
        UsageError: there is none, it is too long, or it looks like a secret.
    """
    from keyturn.domain.inventory_secrets import sentence_holds_secret

    text = " ".join((given or "").split())
    if not text or not text.isprintable():
        raise UsageError(
            "A reason is needed." if not text else "The reason has characters that do not print.",
            now="Nothing was changed.",
            todo='Say why: --reason "quarterly rotation". It goes into the journal.',
        )
    if len(text) > _LONGEST_REASON:
        raise UsageError(
            f"The reason is longer than {_LONGEST_REASON} characters.",
            now="Nothing was changed.",
            todo="Say it in a sentence, and where the rest can be read.",
        )
    if sentence_holds_secret(text):
        raise UsageError(
            "The reason holds something that looks like a secret.",
            now="Nothing was changed; the reason was not recorded.",
            todo="Say why in words: the journal keeps it for ever.",
        )
    return text


def person(given: str) -> str:
    """Take who says something, for the journal.

    Raises:
        UsageError: it is no name, or looks like a secret.
    """
    from keyturn.domain.inventory_secrets import sentence_holds_secret

    text = " ".join(given.split())
    if _PERSON.fullmatch(text) and not sentence_holds_secret(text):
        return text
    raise UsageError(
        "What stands behind --by is no name.",
        now="Nothing was changed; it was not recorded.",
        todo='Say who has seen it: --by "Ada Lovelace" (letters, digits and ._@-, at most 63).',
    )
