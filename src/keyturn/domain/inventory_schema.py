"""The JSON Schema of the inventory, for editors, and what it says about one place in a file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from keyturn.domain.inventory import (
    CLOCK_PATTERN,
    FIELD_PATTERN,
    GROUP_PATTERN,
    NAME_PATTERN,
    PATH_PATTERN,
    PROXY_PATTERN,
    URL_PATTERN,
    USER_PATTERN,
    Inventory,
    format_duration,
)
from keyturn.domain.inventory_secrets import Path

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: What to write where a pattern does not match.
PATTERN_HINTS = {
    NAME_PATTERN: "write lower-case letters, digits, `.`, `_` and `-`, 63 at most",
    PATH_PATTERN: "write plain segments joined by `/`, such as bots/mm-bybit",
    URL_PATTERN: "write https://HOST/..., without user or password",
    PROXY_PATTERN: "write http://HOST:PORT of an HTTP proxy, without user or password; SOCKS cannot be used",
    CLOCK_PATTERN: "write a time of day as 02:00 or 23:30",
    FIELD_PATTERN: "write the name of a field: letters, digits, `_`, `.` and `-`",
    GROUP_PATTERN: "write the name of a group, such as bots, or its number in quotes",
    USER_PATTERN: "write the name of a user of this machine, or its number in quotes",
    r"^0?[0-7]{3}$": 'write three octal digits in quotes, such as "0600"',
    r"^(SIG)?[A-Z0-9]+$": "write the name of a signal, such as SIGHUP",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "write the name of an environment variable, such as KEYTURN_AGE_KEY",
}


class _Generator(GenerateJsonSchema):
    """Writes durations the way the inventory does."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def schema() -> dict[str, Any]:
    """Give the JSON Schema of `keyturn.yaml`."""
    generated = Inventory.model_json_schema(schema_generator=_Generator)
    for section in generated["properties"].values():
        if "patternProperties" in section:
            # An entry whose name does not match would otherwise pass unseen.
            section["additionalProperties"] = False
    return {"$schema": _DIALECT, **generated, "title": "keyturn inventory"}


@cache
def _schema() -> dict[str, Any]:
    return schema()


def schema_at(path: Path, data: Any) -> dict[str, Any]:
    """Give the part of the schema that speaks of a place in the data; empty where none does."""
    here: dict[str, Any] = _schema()
    for part in path:
        here = _step(_settle(here, data), part)
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            data = None
    return _settle(here, data)


def fields_at(path: Path, data: Any) -> tuple[str, ...]:
    """Give the names of the fields that the place may have."""
    return tuple(schema_at(path, data).get("properties", ()))


def hint_at(path: Path, data: Any) -> str:
    """Say what to write at a place, beginning with a verb."""
    here = schema_at(path, data)
    if "const" in here:
        return f"write {here['const']}"
    if "enum" in here:
        return f"write one of: {', '.join(here['enum'])}"
    if here.get("pattern") in PATTERN_HINTS:
        return PATTERN_HINTS[here["pattern"]]
    if "examples" in here:
        return f"write it as {' or '.join(here['examples'])}"
    return {
        "string": "write text",
        "array": "write a list: [one, two]",
        "object": f"write fields under it: {', '.join(fields_at(path, data)) or 'name: value'}",
    }.get(here.get("type", ""), "see `keyturn schema`")


def _step(here: dict[str, Any], part: str | int) -> dict[str, Any]:
    if isinstance(part, int):
        found = here.get("items", {})
    else:
        # The names of a section's entries have one pattern.
        entries = next(iter(here.get("patternProperties", {}).values()), here.get("additionalProperties"))
        found = here.get("properties", {}).get(part, entries)
    return found if isinstance(found, dict) else {}


def _settle(here: dict[str, Any], data: Any) -> dict[str, Any]:
    """Follow references, leave `null` out, and choose the kind that the data names."""
    while True:
        if "$ref" in here:
            target = _schema()["$defs"][here["$ref"].rpartition("/")[2]]
            here = {**target, **{k: v for k, v in here.items() if k != "$ref"}}
        elif choices := list(_choices(here)):
            rest = {k: v for k, v in here.items() if k not in {"anyOf", "oneOf", "discriminator"}}
            here = {**rest, **_choose(choices, here, data)}
        else:
            return here


def _choices(here: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for choice in here.get("anyOf", here.get("oneOf", ())):
        if choice.get("type") != "null":
            yield choice


def _choose(choices: list[dict[str, Any]], here: dict[str, Any], data: Any) -> dict[str, Any]:
    mapping = here.get("discriminator", {}).get("mapping")
    if mapping is None:
        return choices[0]
    kind = data.get("kind") if isinstance(data, dict) else None
    if isinstance(kind, str) and kind in mapping:
        return {"$ref": mapping[kind]}
    return {"type": "object", "properties": {"kind": {"enum": sorted(mapping)}}}
