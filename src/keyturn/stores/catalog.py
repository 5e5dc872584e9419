"""Opens the store that an inventory entry describes; each kind is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keyturn.domain.inventory import AgeFilesStore, StoreEntry, VaultKv2Store
from keyturn.ports.store import SecretStore
from keyturn.stores.age_files_readers import NO_READERS, Readers
from keyturn.stores.formats import SINGLE, Formats


def open_store(
    name: str,
    entry: StoreEntry,
    base: Path,
    formats: Formats = SINGLE,
    readers: Mapping[str, Readers] = NO_READERS,
) -> SecretStore:
    """Open a store; nothing is contacted yet.

    Args:
        name: of the store in the inventory, for messages.
        entry: what the inventory says of it.
        base: the folder of the inventory, which relative paths start from.
        formats: how its documents look, by path.
        readers: who besides keyturn can read, by path; of age files alone, servers have policies.
    """
    if isinstance(entry, AgeFilesStore):
        from keyturn.stores.age_files import open_age_files

        return open_age_files(entry, base, formats, readers)
    if isinstance(entry, VaultKv2Store):
        from keyturn.stores.vault_kv2 import open_vault_kv2

        return open_vault_kv2(name, entry, base, formats)
    from keyturn.stores.aws import open_aws

    return open_aws(name, entry, formats)
