"""Who besides this user can change what keyturn goes by on this machine; for `keyturn doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.access import who_writes

if TYPE_CHECKING:
    from keyturn.ports.store import Finding
    from keyturn.settings import LoadedInventory

_IS_CODE = (
    ". The inventory is code: it names commands, URLs and rights, and whoever can write it or its folder acts"
    " as this user"
)


def who_can_write(loaded: LoadedInventory) -> list[Finding]:
    """Look at the inventory, where this process started, the journal and the files of secrets."""
    found = [who_writes(f"inventory {loaded.path}", loaded.path, loaded.base, more=_IS_CODE)]
    if (here := _started_in()) is not None and here != loaded.base:
        found.append(who_writes(f"working directory {here}", here))
    return [*found, *_journal(loaded), *_secrets(loaded), *_folders(loaded)]


def _started_in() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return None


def _journal(loaded: LoadedInventory) -> Iterator[Finding]:
    from keyturn.wiring import journal_file

    if (file := journal_file(loaded)) is not None:
        # SQLite opens files beside it.
        yield who_writes(f"journal {file}", file, Path(os.path.realpath(file)).parent)


def _secrets(loaded: LoadedInventory) -> Iterator[Finding]:
    from keyturn.domain.inventory_references import secret_refs

    files = {loaded.resolve(ref.file): None for _, ref in secret_refs(loaded.inventory) if ref.file}
    for file in files:
        yield who_writes(f"secret file {file}", file)


def _folders(loaded: LoadedInventory) -> Iterator[Finding]:
    from keyturn.cli.template import RUNTIME
    from keyturn.domain.inventory import AgeFilesStore

    for name, store in loaded.inventory.stores.items():
        if isinstance(store, AgeFilesStore):
            folder = loaded.resolve(store.path)
            yield who_writes(f"store {name}: {folder}", folder)
    if (runtime := loaded.base / RUNTIME).exists():
        # Prefect's settings and database, which name what its worker runs.
        yield who_writes(f"Prefect's folder {runtime}", runtime)
