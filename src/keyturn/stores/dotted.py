"""Documents of several levels, whose fields are named with a dot for each level down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def get(document: Mapping[str, Any], name: str) -> Any:
    """Give the field of a name with a dot for each level down; None where there is none."""
    here: Any = document
    for part in name.split("."):
        if not isinstance(here, Mapping):
            return None
        here = here.get(part)
    return here


def put(document: dict[str, Any], name: str, value: str) -> None:
    """Put a field, and the levels above it that are not there."""
    *above, last = name.split(".")
    for part in above:
        document = document.setdefault(part, {})
    document[last] = value


def drop(document: dict[str, Any], name: str) -> None:
    """Take a field away, and the levels above it that are empty then."""
    first, _, rest = name.partition(".")
    if not rest:
        document.pop(first, None)
    elif isinstance(inner := document.get(first), dict):
        drop(inner, rest)
        if not inner:
            del document[first]


def copied(document: Mapping[str, Any]) -> dict[str, Any]:
    """Copy all levels, so that no change reaches the original."""
    return {k: copied(v) if isinstance(v, Mapping) else v for k, v in document.items()}


def merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Put one document over another, level by level; `one` is changed."""
    for key, value in other.items():
        here = one.get(key)
        both = isinstance(here, dict) and isinstance(value, Mapping)
        one[key] = merged(here, value) if both else value  # type: ignore[arg-type]
    return one
