"""Recognise secrets that were pasted into an inventory, by name and by form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from keyturn.domain.inventory_types import NAME_PATTERN

#: Names of sections, entries and fields, and indexes of lists, from the top down.
Path = tuple[str | int, ...]

REFERENCES_ONLY = "references only: write {env: NAME} or {file: PATH}, and put the secret there"

# What a secret looks like, whatever the field is called.
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"  # PEM
    r"|AGE-SECRET-KEY-"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ"  # a JSON web token
    r"|\bhv[sb]\.[A-Za-z0-9_-]{20}"  # a Vault token
    r"|\bAKIA[0-9A-Z]{16}\b"  # an AWS access key
    r"|://[^/\s:@]*:[^/\s]+@"  # a URL with a password
    r"|\bhttps?://[^/\s@]+@"  # a URL with a token for its user
    r"|(?i:\bbearer\s+[a-z0-9._~+/-]{16})"
    r"|(?i:[?&](?:access_?token|token|secret|password|api_?key|key|signature)=[^&\s])"
    # An argument of a command; a path is how such an argument should look.
    r"|(?i:^--?(?:password|passphrase|secret|token|api-?key)=[^/\s])",
    re.MULTILINE,
)
# One of these is in everything that matches; to look for them costs a hundredth of the expression.
_TRACES = ("-----begin", "age-secret-key-", "eyj", "hvs.", "hvb.", "akia", "@", "bearer", "=")
_NAME = re.compile(r"secret|passw|passphrase|token|api_?-?key|private_?-?key|mnemonic|seed", re.IGNORECASE)
# Secrets of exchanges are 24 letters and digits or more, without a break; chosen names have breaks.
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=]{24,}")

# Of a sentence: addresses may have anything in their paths; what is in their queries `looks_secret` judges.
_URL = re.compile(r"\bhttps?://\S+")
_WORD_ENDS = re.compile(r"[^A-Za-z0-9_+/-]+")
_RUN_ENDS = re.compile(r"[_+/-]+")
_NAME_BREAKS = re.compile(r"[._-]")
_SHORTEST_WORD, _SHORTEST_RUN = 16, 8
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# Of a commit, a digest or a container. No exchange that keyturn knows gives secrets in small hex digits.
_HASH = re.compile(r"[0-9a-f]{,23}|[0-9a-f]{40}|[0-9a-f]{64}")
_DIGITS_APART = re.compile(r"[0-9][^0-9]+[0-9]")
# Of neighbours in what is drawn three in five differ in kind (small, capital, digit); in names far fewer.
_DRAWN_CHANGES = 0.4


def names_a_secret(field: str) -> bool:
    """Tell whether a field of this name is there to hold a secret."""
    return _NAME.search(field) is not None


def looks_secret(text: str) -> bool:
    """Tell whether there is something in the text that has the form of a known kind of secret."""
    lower = text.lower()
    return any(trace in lower for trace in _TRACES) and _VALUE.search(text) is not None


def looks_random(value: str) -> bool:
    """Tell whether a value looks drawn rather than chosen: long, letters and digits, no break."""
    return _RANDOM.fullmatch(value) is not None


def sentence_holds_secret(text: str) -> bool:
    """Tell whether something in a sentence looks like a secret: of a known kind, or a word that is drawn.

    Ticket numbers, UUIDs, commits (40 small hex digits), digests (64) and addresses of pages pass.
    """
    return looks_secret(text) or any(map(_is_drawn, _WORD_ENDS.split(_URL.sub(" ", text))))


def may_be_shown(name: str) -> bool:
    """Tell whether what stands where a name belongs can be a name: of that form, and not drawn.

    Else it may be a secret that somebody pasted there, and no message repeats it.
    """
    if re.fullmatch(NAME_PATTERN, name) is None or _UUID.fullmatch(name) or sentence_holds_secret(name):
        return False
    runs = _NAME_BREAKS.split(name)
    return not any(len(run) >= _SHORTEST_WORD and _DIGITS_APART.search(run) for run in runs)


def _is_drawn(word: str) -> bool:
    if len(word) < _SHORTEST_WORD or _UUID.fullmatch(word) or _HASH.fullmatch(word):
        return False
    if looks_random(word) and _DIGITS_APART.search(word) and "/" not in word:
        return True
    runs = _RUN_ENDS.split(word)
    if max(map(len, runs)) < _SHORTEST_RUN or {_kind(c) for run in runs for c in run} != {"a", "A", "0"}:
        return False
    pairs = [_kind(a) != _kind(b) for run in runs for a, b in pairwise(run)]
    return sum(pairs) >= _DRAWN_CHANGES * len(pairs)


def _kind(character: str) -> str:
    return "0" if character.isdigit() else "a" if character.islower() else "A"


def secret_places(data: Any) -> Iterator[tuple[Path, str]]:
    """Give the place of every secret in the data, and how it was recognised; never the value."""
    seen: set[int] = set()
    todo: list[tuple[Path, Any]] = [((), data)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict | list):
            if id(value) not in seen:
                seen.add(id(value))
                items = value.items() if isinstance(value, dict) else enumerate(value)
                todo.extend(((*path, key), item) for key, item in items)
                if isinstance(value, dict):
                    yield from (
                        ((*path, k), "this name has the form of a secret") for k in value if looks_secret(k)
                    )
        elif isinstance(value, str) and looks_secret(value):
            yield path, "this value has the form of a secret"
        elif value is not None and _names_a_secret(path, value) and not _maps_field_names(path):
            yield path, "a field of this name holds a secret"


def _names_a_secret(path: Path, value: Any) -> bool:
    names = [part for part in path if isinstance(part, str)]
    return bool(names) and names_a_secret(names[-1]) and not _names_a_file(names[-1], value)


def _names_a_file(field: str, value: Any) -> bool:
    """Whether this is a file that holds a secret: `token_file: /run/secrets/vault/token`."""
    return field.endswith("_file") and isinstance(value, str) and "/" in value and not looks_random(value)


def _maps_field_names(path: Path) -> bool:
    """Whether this is the name of a field in a file or a document: `fields: {secret: apiSecret}`."""
    if path[0] == "consumers":
        return len(path) == 4 and path[2] == "fields"
    return path[0] == "credentials" and len(path) > 4 and path[-3:-1] == ("format", "fields")
