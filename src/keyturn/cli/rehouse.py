"""Changes the few lines of an inventory that say where a credential lives, or what it may do; all else stays.

The file is a person's, with their comments. So lines are changed as text, and the result is held against
the inventory that was wanted: where the two differ in anything, nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from posixpath import normpath
from typing import Any

from keyturn.domain.errors import InventoryError, RefusedError
from keyturn.domain.inventory import (
    SINGLE_FIELDS,
    CredentialEntry,
    Inventory,
    MirrorAddress,
    StoreAddress,
)
from keyturn.domain.inventory_rules import check
from keyturn.domain.inventory_text import Loaded, parse_inventory
from keyturn.domain.inventory_yaml import read
from keyturn.domain.manifest import DriverManifest

_NOTE = "# the old place, until the move is finished"
_FIELD = re.compile(r"(?P<head>\s+[a-z_]+:\s*)(?P<value>[^#]*?)(?P<note>\s+#.*)?\n?")


#: The fields that say what a credential may do, and from where.
RIGHTS = ("permissions", "ip_allowlist", "accepts")


@dataclass(frozen=True, slots=True)
class Change:
    """A changed inventory."""

    text: str
    loaded: Loaded
    #: The changed lines, for a person.
    lines: tuple[str, ...]


def wanted(
    inventory: Inventory, name: str, place: StoreAddress, *, without: StoreAddress | None
) -> Inventory:
    """Give the inventory in which a credential lives at a place.

    Args:
        inventory: as it is.
        name: of the credential.
        place: where it shall live; the place that it leaves becomes a mirror.
        without: a mirror to leave out in any case.
    """
    entry, old = inventory.credentials[name], inventory.store_of(name)
    mirrors = [m for m in entry.mirrors if not _same(m, place) and not (without and _same(m, without))]
    if not _same(old, place):
        mirrors.append(MirrorAddress(store=old.store, path=old.path, format=entry.format))
    fields: dict[str, Any] = {"mirrors": tuple(mirrors)}
    if not _same(old, place):
        fields |= {"store": place.store, "path": place.path}
    return with_entry(inventory, name, entry.model_copy(update=fields))


def with_entry(inventory: Inventory, name: str, entry: CredentialEntry) -> Inventory:
    """Give the inventory with another entry for a credential."""
    return inventory.model_copy(update={"credentials": {**inventory.credentials, name: entry}})


def change(
    text: str,
    name: str,
    before: Inventory,
    after: Inventory,
    manifests: Mapping[str, DriverManifest],
    real_path: Callable[[str], str] = normpath,
    shown: Callable[[CredentialEntry], tuple[str, ...]] | None = None,
) -> Change:
    """Change the lines of a credential.

    Args:
        text: the file.
        name: of the credential.
        before: what the file says.
        after: what it shall say; differs in where the credential lives, or in what it may do.
        manifests: the venues that are known.
        real_path: gives the one name that a path of the inventory has on this machine.
        shown: gives the lines that a person may have to write; default: `told`.

    Raises:
        InventoryError: what was wanted breaks a rule.
        RefusedError: the file is written in a way that only a person can change safely.
    """
    entry, shown = after.credentials[name], shown or told
    try:
        lines = _edited(text, name, before.credentials[name], entry)
        changed = "".join(lines)
        loaded = parse_inventory(changed, manifests=manifests, real_path=real_path)
    except (_NotPlainError, InventoryError) as error:
        loaded, changed = None, ""
        findings = check(after, manifests, real_path=real_path)
        if isinstance(error, InventoryError) and any(not f.warning for f in findings):
            raise
    if loaded is None or loaded.inventory != after:
        raise RefusedError(
            f"The entry of {name} is not written in a way that keyturn can change without doubt.",
            now="The inventory was not changed.",
            todo="Change it by hand to: " + "; ".join(shown(entry)),
        )
    return Change(changed, loaded, shown(entry))


def told(entry: CredentialEntry) -> tuple[str, ...]:
    """Give the lines that say where a credential lives."""
    lines = [f"store: {entry.store}"] if entry.store else []
    lines.append(f"path: {entry.path}")
    return (*lines, f"mirrors: {_flow(entry.mirrors)}" if entry.mirrors else "(no mirrors)")


def told_rights(entry: CredentialEntry) -> tuple[str, ...]:
    """Give the lines that say what a credential may do, and from where."""
    return tuple(f"{field}: {_names(values)}" for field in RIGHTS if (values := getattr(entry, field)))


class _NotPlainError(Exception):
    """The text is not of the plain form that can be changed line by line."""


def _same(one: StoreAddress, other: StoreAddress) -> bool:
    return (one.store, one.path) == (other.store, other.path)


def _edited(text: str, name: str, before: CredentialEntry, after: CredentialEntry) -> list[str]:
    document = read(text)
    entry = document.value(("credentials", name))
    at = {field: number - 1 for field, number in document.lines.get(id(entry), {}).items()}
    lines = text.splitlines(keepends=True)
    if "path" not in at:
        raise _NotPlainError
    indent = _indent(lines[at["path"]])
    # From the bottom up, so that the line numbers above stay true.
    edits: list[tuple[int, int, list[str]]] = []
    if before.mirrors != after.mirrors:
        edits.append(_mirrors(lines, at, indent, after.mirrors))
    if before.path != after.path:
        edits.append((at["path"], at["path"] + 1, [_set(lines[at["path"]], "path", after.path)]))
    if after.store is not None and before.store != after.store:
        if "store" in at:
            edits.append((at["store"], at["store"] + 1, [_set(lines[at["store"]], "store", after.store)]))
        else:
            edits.append((at["path"], at["path"], [f"{indent}store: {after.store}\n"]))
    for field in RIGHTS:
        if getattr(before, field) != getattr(after, field):
            text = f"{indent}{field}: {_names(getattr(after, field))}"
            edits.append(_replaced(lines, at, indent, field, text))
    if before.no_ip_allowlist_reason and after.no_ip_allowlist_reason is None:
        edits.append(_replaced(lines, at, indent, "no_ip_allowlist_reason", None))
    for start, end, new in sorted(edits, reverse=True):
        if lines[start - 1 : start] and not lines[start - 1].endswith("\n"):
            lines[start - 1] += "\n"
        lines[start:end] = new
    return lines


def _mirrors(
    lines: list[str], at: dict[str | int, int], indent: str, mirrors: tuple[MirrorAddress, ...]
) -> tuple[int, int, list[str]]:
    """Give the lines to put in place of the credential's mirrors."""
    if "mirrors" not in at:
        if not mirrors:
            raise _NotPlainError
        end = at["path"] + 1
        return end, end, [f"{indent}mirrors: {_flow(mirrors)} {_NOTE}\n"]
    start, end, note = _extent(lines, at["mirrors"], indent)
    note = "" if _NOTE in note else note
    new = f"{indent}mirrors: {_flow(mirrors)}{note or f' {_NOTE}'}\n"
    return start, end, [new] if mirrors else []


def _replaced(
    lines: list[str], at: dict[str | int, int], indent: str, field: str, text: str | None
) -> tuple[int, int, list[str]]:
    """Give the lines to put in place of a field, or above the path where there is none; None removes it."""
    if field not in at:
        return at["path"], at["path"], [f"{text}\n"] if text else []
    start, end, note = _extent(lines, at[field], indent)
    return start, end, [f"{text}{note}\n"] if text else []


def _extent(lines: list[str], start: int, indent: str) -> tuple[int, int, str]:
    """Find the lines of a field, and the comment on the first of them."""
    match = _FIELD.fullmatch(lines[start])
    if match is None:
        raise _NotPlainError
    end = start + 1
    if not match["value"]:
        while end < len(lines) and _belongs(lines[end], indent):
            end += 1
        kept = [line for line in lines[start + 1 : end] if line.lstrip().startswith("#")]
        if kept:  # a person's words between the items: where they belong is for them to say
            raise _NotPlainError
    return start, end, match["note"] or ""


def _belongs(line: str, indent: str) -> bool:
    """Tell whether a line goes on with the block list of a field with this indentation."""
    own = _indent(line)
    return bool(line.strip()) and (
        len(own) > len(indent) or (own == indent and line.lstrip().startswith("- "))
    )


def _set(line: str, field: str, value: str) -> str:
    match = _FIELD.fullmatch(line)
    if match is None or not match["value"] or match["head"].strip() != f"{field}:":
        raise _NotPlainError
    return f"{match['head']}{value}{match['note'] or ''}\n"


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _names(values: Iterable[str]) -> str:
    """Write names and addresses in one line; a colon needs quotes there."""
    return f"[{', '.join(json.dumps(v) if ':' in v else str(v) for v in sorted(values))}]"


def _flow(mirrors: tuple[MirrorAddress, ...]) -> str:
    """Write mirrors in one line; what names and paths may hold needs no quotes."""
    items = []
    for mirror in mirrors:
        fields = [f"store: {mirror.store}", f"path: {mirror.path}"]
        if mirror.format != SINGLE_FIELDS:
            described = mirror.format.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
            fields.append(f"format: {json.dumps(described)}")
        items.append("{" + ", ".join(fields) + "}")
    return f"[{', '.join(items)}]"
