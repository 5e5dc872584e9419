"""The rules about what a person writes freely, commands above all: no secret is pasted into it.

A bot's command is worth more than a weak password that stays unseen: only what is clear is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from keyturn.domain.inventory import ClientConsumer, FileConsumer
from keyturn.domain.inventory_book import Book, refuse
from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import looks_random

_READ_IT = "let the command read it from a file or an environment variable of its own"

# What parts an argument: `A=b` (not the padding of base64), `Header: b`, `user:b`, the words of a text.
_BREAK = re.compile(r"=(?=[^=])|[\s:,;&?'\"]+")
# Digests and ids of containers are so, and are named in commands on purpose.
_DIGEST = re.compile(r"[0-9a-f]+")
# A chosen name counts in one place, as in TradingBot02Service; in what is drawn digits are all over.
_DIGITS_APART = re.compile(r"[0-9][^0-9]+[0-9]")

_OPTION = re.compile(
    r"--?(?:password|passwd|passphrase|secret|token|api-?key|(?:api|client)-secret|(?:access|auth)-token)",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"[A-Z0-9_]*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY)=(.+)", re.DOTALL)
# A path, another option, a placeholder, `env:NAME` and its like, a switch: where a secret is, or none.
_NO_VALUE = re.compile(r"[-.~$%@{<].*|.*/.*|[a-z0-9]+:.*|0|1|true|false|yes|no|", re.DOTALL | re.IGNORECASE)
# Tools of clouds and containers take the name of a secret: `podman run --secret mm-bybit`.
_CHOSEN = re.compile(r"[a-z]+[0-9]*(?:[-_.][a-z]+[0-9]*)*|[a-z]+=.*", re.DOTALL)
_CURL_USER = frozenset({"-u", "--user", "-U", "--proxy-user"})


def commands_hold_no_secret(book: Book) -> Iterator[Finding]:
    """A command's arguments are in every list of processes, and the inventory is in version control."""
    for name, consumer in book.inventory.consumers.items():
        if isinstance(consumer, FileConsumer):
            for field in ("run", "confirm"):
                for index in _secret_arguments(getattr(consumer, field)):
                    path = ("consumers", name, field, index)
                    yield refuse(path, "this looks like a secret", _READ_IT)


def names_are_no_secrets(book: Book) -> Iterator[Finding]:
    """A sub-account and a mailbox have names that somebody chose."""
    for path, _, entry in book.credentials():
        if entry.subaccount is not None and _is_drawn(entry.subaccount):
            yield refuse(
                (*path, "subaccount"),
                "this looks like a secret",
                "write the sub-account's name or number, as the venue shows it",
            )
    for name, consumer in book.inventory.consumers.items():
        if isinstance(consumer, ClientConsumer) and _is_drawn(consumer.mailbox):
            yield refuse(
                ("consumers", name, "mailbox"), "this looks like a secret", "write the path of a folder"
            )


def _secret_arguments(arguments: Sequence[str]) -> Iterator[int]:
    """Give the indexes of the arguments that are, or have in them, a secret."""
    is_curl = any(argument.rpartition("/")[2] == "curl" for argument in arguments)
    for index, argument in enumerate(arguments):
        before = arguments[index - 1] if index else ""
        variable = _VARIABLE.fullmatch(argument)
        if (
            any(map(_is_drawn, _BREAK.split(argument)))
            or (_OPTION.fullmatch(before) and _is_given(before, argument))
            or (variable and _is_given("", variable[1]))
            or (is_curl and before in _CURL_USER and _has_password(argument))
        ):
            yield index


def _is_drawn(text: str) -> bool:
    """Tell whether a text is surely drawn: no path, no digest, no name."""
    if "/" in text and not ("+" in text or text.endswith("=")):
        return False
    return looks_random(text) and not _DIGEST.fullmatch(text) and _DIGITS_APART.search(text) is not None


def _is_given(option: str, value: str) -> bool:
    """Tell whether what follows an option for a secret is that secret, not where it is."""
    named = option.lower().endswith("-secret") and _CHOSEN.fullmatch(value)
    return not named and _NO_VALUE.fullmatch(value) is None


def _has_password(user: str) -> bool:
    _, _, password = user.partition(":")
    return _NO_VALUE.fullmatch(password) is None
