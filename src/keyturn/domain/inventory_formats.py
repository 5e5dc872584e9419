"""The rules about formats: a document that a bot could not read is refused before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from keyturn.domain.inventory import AgeFilesStore, AwsSecretsManagerStore, CredentialEntry, FormatEntry
from keyturn.domain.inventory_book import Book, refuse
from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import REFERENCES_ONLY, Path, looks_random

_NAMED = {"json", "env"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Beside the key's fields a store keeps its own notes in a field of this name.
RESERVED = "keyturn"


def formats_are_for_stores_that_have_them(book: Book) -> Iterator[Finding]:
    """Age files have one form, which bots do not read by themselves; one store splits."""
    for path, name, _, entry in _formats(book):
        store = book.inventory.stores.get(name or "")
        if entry.kind == "split" and store and not isinstance(store, AwsSecretsManagerStore):
            yield refuse(
                path,
                f"{name} keeps all fields in one place",
                "leave it out, or use a store of kind aws_secrets_manager",
            )
        elif entry.kind != "field" and isinstance(store, AgeFilesStore):
            yield refuse(
                path,
                f"the files of {name} are encrypted, and no bot reads them in the format {entry.kind}",
                "leave it out: a bot reads the key by keyturn.client, or a `file` consumer writes it out",
            )


def formats_are_whole(book: Book) -> Iterator[Finding]:
    """Each format has what it needs and nothing that it ignores."""
    for path, _, credential, entry in _formats(book):
        if entry.kind in _NAMED or (entry.kind == "split" and entry.fields):
            yield from _names(path, entry, passphrase=_has_passphrase(book, credential))
        elif entry.fields:
            yield refuse((*path, "fields"), f"{entry.kind} has names of its own", "leave it out")
        if entry.text_field is not None and entry.kind != "env":
            yield refuse((*path, "text_field"), "for `kind: env` alone", "leave it out")
        if entry.text_field == RESERVED:
            yield refuse((*path, "text_field"), "keyturn keeps its own notes there", "write another name")
        yield from _connector(book, path, credential, entry)


def _names(path: Path, entry: FormatEntry, *, passphrase: bool) -> Iterator[Finding]:
    needed = ["api_key", "secret", *(["passphrase"] if passphrase else [])]
    given = {str(key): name for key, name in entry.fields.items()}
    if missing := [key for key in needed if key not in given]:
        example = ", ".join(f"{key}: NAME" for key in needed)
        yield refuse(
            (*path, "fields"), f"has no name for {' and '.join(missing)}", f"write fields: {{{example}}}"
        )
    before: list[str] = []
    for key, name in given.items():
        at = (*path, "fields", key)
        if looks_random(name):
            yield refuse(at, "this looks like a secret", REFERENCES_ONLY)
        elif entry.kind == "env" and not _VARIABLE.fullmatch(name):
            yield refuse(
                at, "not the name of a variable", "write letters, digits and `_`, such as BYBIT_API_KEY"
            )
        elif name.split(".")[0] == RESERVED and entry.kind == "json":
            yield refuse(at, "keyturn keeps its own notes there", "write another name")
        elif not all(name.split(".")):
            yield refuse(at, "a level without a name", "write names joined by single dots")
        elif any(name == other or (entry.kind != "split" and _inside(name, other)) for other in before):
            yield refuse(at, "another field has this name, or is inside it", "write a name of its own")
        before.append(name)


def _inside(name: str, other: str) -> bool:
    return name.startswith(f"{other}.") or other.startswith(f"{name}.")


def _connector(book: Book, path: Path, credential: CredentialEntry, entry: FormatEntry) -> Iterator[Finding]:
    at = (*path, "connector")
    if entry.kind != "hummingbot":
        if entry.connector is not None:
            yield refuse(at, "for `kind: hummingbot` alone", "leave it out")
        return
    if entry.connector is None:
        yield refuse(
            at, "is missing", "write `connector:` with hummingbot's name for it, such as bybit_perpetual"
        )
        return
    account = book.account(credential)
    if account and entry.connector.split("_")[0] != account.exchange:
        yield refuse(at, f"the key is one of {account.exchange}", "write a connector of that exchange")


def _has_passphrase(book: Book, credential: CredentialEntry) -> bool:
    manifest = book.manifest(credential)
    return bool(manifest and manifest.needs_passphrase)


def _formats(book: Book) -> Iterator[tuple[Path, str | None, CredentialEntry, FormatEntry]]:
    for path, _, entry in book.credentials():
        yield (*path, "format"), book.store(entry), entry, entry.format
        for index, mirror in enumerate(entry.mirrors):
            yield (*path, "mirrors", index, "format"), mirror.store, entry, mirror.format
