"""Turn the text of `keyturn.yaml` into an inventory, or into everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import normpath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory import Inventory, declared_ip
from keyturn.domain.inventory_findings import Finding, choose_from, shown
from keyturn.domain.inventory_rules import SECTIONS, check
from keyturn.domain.inventory_schema import fields_at, hint_at, schema_at
from keyturn.domain.inventory_secrets import REFERENCES_ONLY, Path
from keyturn.domain.inventory_types import URL_ERROR
from keyturn.domain.inventory_yaml import BROKEN, Document, read
from keyturn.domain.manifest import DriverManifest


@dataclass(frozen=True, slots=True)
class Loaded:
    """An inventory that keeps every rule, and what a person should still look at."""

    inventory: Inventory
    #: One sentence each, with file, line and field.
    warnings: tuple[str, ...]


def parse_inventory(
    text: str,
    name: str = "keyturn.yaml",
    *,
    manifests: Mapping[str, DriverManifest],
    real_path: Callable[[str], str] = normpath,
    check_again: str = "keyturn check",
) -> Loaded:
    """Read an inventory and hold it to the rules.

    Args:
        text: the file.
        name: what messages call the file.
        manifests: the venues that are known, by code.
        real_path: gives the one name that a path of the inventory has on this machine.
        check_again: the command that reads this file.

    Raises:
        InventoryError: `problems` has every finding, by line; none quotes the value of a field.
    """
    document = read(text)
    findings = list(document.findings)
    inventory = None
    if document.complete:
        findings += _top(document)
        if isinstance(document.data, dict):
            inventory, found = _validate(document, manifests, real_path)
            findings += found
    if inventory is None or not all(f.warning for f in findings):
        problems = _told(document, name, (f for f in findings if not f.warning))
        raise InventoryError(
            f"{name} cannot be used: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            problems=problems,
            now="Nothing was changed.",
            todo=f"Mend these lines, then: {check_again}",
        )
    return Loaded(inventory, _told(document, name, findings))


def _told(document: Document, name: str, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Write the findings by line; where there is a secret, that is all that is said of the place."""
    secrets = {f.path for f in document.findings if f.write == REFERENCES_ONLY}
    told = {
        (line, finding.sentence(name, line)): None
        for finding in findings
        if finding.path not in secrets or finding.write == REFERENCES_ONLY
        for line in [finding.line or document.line(finding.path)]
    }
    return tuple(sentence for _, sentence in sorted(told))


def _top(document: Document) -> Iterator[Finding]:
    if document.data is None:
        yield Finding((), "the file is empty", "write an inventory, or let `keyturn init` begin one", line=1)
    elif not isinstance(document.data, dict) and document.data is not BROKEN:
        yield Finding(
            (), "the file does not begin with a field", "write `version: 1` and the sections", line=1
        )


def _validate(
    document: Document, manifests: Mapping[str, DriverManifest], real_path: Callable[[str], str]
) -> tuple[Inventory | None, list[Finding]]:
    """Hold the data to the models, and what is sound of it to the rules."""
    # A section with nothing under it is an empty one.
    data = {k: v for k, v in document.data.items() if v is not None}
    declared = {s: frozenset(v) if isinstance(v := data.get(s, {}), dict) else None for s in SECTIONS}
    try:
        inventory = Inventory.model_validate(data)
    except ValidationError as e:
        errors = e.errors(include_url=False, include_input=False)
    else:
        return inventory, check(inventory, manifests, declared, real_path)
    findings = [f for error in errors if (f := _translate(error, document)) is not None]
    try:
        sound = Inventory.model_validate(_without(data, errors))
    except ValidationError:
        return None, findings
    return sound, [*findings, *check(sound, manifests, declared, real_path)]


def _without(data: dict[str, Any], errors: list[ErrorDetails]) -> dict[str, Any]:
    """Give the data without the entries that have errors."""
    kept: dict[str, Any] = {"version": 1, "stores": {}, "accounts": {}}
    broken = {error["loc"][:2] if error["loc"][0] in SECTIONS else error["loc"][:1] for error in errors}
    for key, value in data.items():
        if (key,) in broken:
            continue
        kept[key] = value
        if key in SECTIONS:
            kept[key] = {name: entry for name, entry in value.items() if (key, name) not in broken}
    return kept


def _translate(error: ErrorDetails, document: Document) -> Finding | None:
    """Say in our words what pydantic found; None where the YAML reader has said it."""
    path = _path(error["loc"], document)
    value = document.value(path)
    if value is BROKEN:
        return None
    kind = error["type"]
    if kind == "too_short" and value:
        return None  # not so: its entries are wrong, and each of them is told
    if kind == "extra_forbidden":
        fields = fields_at(path[:-1], document.data)
        return Finding(path, "no such field", choose_from(fields, path[-1]))
    if kind == "missing":
        return Finding(path, "is missing", _example(path, document))
    if kind == "union_tag_not_found":
        path = (*path, "kind") if isinstance(value, dict) else path
        return Finding(
            path, "is missing" if isinstance(value, dict) else _is(value), _example(path, document)
        )
    if kind == "union_tag_invalid":
        path = (*path, "kind")
        kinds = schema_at(path, document.data).get("enum", ())
        return Finding(path, "no such kind", choose_from(kinds, document.value(path)))
    if error["loc"][-1] == "[key]":
        return Finding(path, "not a name that keyturn takes", hint_at(("defaults", "store"), None))
    if kind == URL_ERROR:
        return Finding(path, error["ctx"]["wrong"], error["ctx"]["write"])
    if kind == "value_error":
        return _own_error(error, path, value)
    return Finding(path, *_wrong_value(kind, path, value, document))


def _path(loc: tuple[str | int, ...], document: Document) -> Path:
    """Leave out what pydantic adds to a place: the kind of a consumer, and `[key]`."""
    path = tuple(part for part in loc if part != "[key]")
    if len(path) > 2:
        entry = document.value(path[:2])
        if isinstance(entry, dict) and path[2] == entry.get("kind") and "discriminator" in _union(path[0]):
            return (*path[:2], *path[3:])
    return path


def _union(section: str | int) -> Any:
    """Give the schema of a section's entries, before a kind is chosen."""
    return next(iter(schema_at((section,), {}).get("patternProperties", {}).values()), {})


def _example(path: Path, document: Document) -> str:
    hint = hint_at(path, document.data)
    example = hint.removeprefix("write ")
    if hint.startswith("write one of: "):
        return f"write `{shown(path[-1])}:` with one of: {hint.removeprefix('write one of: ')}"
    return f"write `{shown(path[-1])}:` with {example}"


def _own_error(error: ErrorDetails, path: Path, value: Any) -> Finding:
    if path[-1] == "ip_allowlist":
        index = next((i for i, entry in enumerate(value) if not _is_address(entry)), 0)
        return Finding(
            (*path, index),
            "neither an address nor a network",
            "write 203.0.113.7 or 203.0.113.0/24, the network without host bits",
        )
    return Finding(path, "cannot be read", str(error.get("ctx", {}).get("error", "see `keyturn schema`")))


def _is_address(entry: str) -> bool:
    try:
        declared_ip(entry)
    except ValueError:
        return False
    return True


def _wrong_value(kind: str, path: Path, value: Any, document: Document) -> tuple[str, str]:
    """Say what is wrong with a value of a known field, and what to write."""
    here = schema_at(path, document.data)
    hint = hint_at(path, document.data)
    if "env" in here.get("properties", {}):
        return "a secret does not belong here", REFERENCES_ONLY
    if kind == "string_type" and isinstance(value, bool | int | float):
        return _is(value), f'write it in quotes: {shown(path[-1])}: "..."'
    if kind == "string_too_short" and value:
        return "too short", f"write {here.get('minLength')} characters or more"
    if kind == "string_too_short":
        return "empty", hint
    if kind == "string_too_long":
        return "too long", f"write {here.get('maxLength')} characters at most"
    if kind == "too_short":
        return "an empty list", f"write one entry or more: {hint_at((*path, 0), document.data)}"
    if "enum" in here:
        return "not a value that keyturn takes", choose_from(here["enum"], value)
    if kind in {"literal_error", "string_pattern_mismatch"}:
        return "not a value that keyturn takes", hint
    return _is(value), hint


def _is(value: Any) -> str:
    """Say of which type a value is; never the value."""
    if value is None:
        return "has no value"
    if isinstance(value, bool):
        return "is true or false"
    if isinstance(value, int | float):
        return "is a number"
    if isinstance(value, str):
        return "is text"
    return "is a list" if isinstance(value, list) else "has fields of its own"
