"""What a bot needs to know from the inventory: its store, its mailbox.

A bot reads with rights of its own, which are to read its current key and no more. The inventory that it
shares with keyturn may name keyturn's own login; `for_a_bot` says which one a bot takes instead.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from keyturn.client.mailbox import Mailbox
from keyturn.client.source import Source
from keyturn.domain.errors import InventoryError
from keyturn.domain.evidence import place_mark
from keyturn.domain.inventory import (
    AgeFilesStore,
    AwsParameterStore,
    AwsSecretsManagerStore,
    ClientConsumer,
    Inventory,
    SecretRef,
    StoreEntry,
    VaultKv2Store,
    VaultToken,
)
from keyturn.domain.inventory_findings import choose_from
from keyturn.domain.inventory_yaml import MOST_BYTES, read
from keyturn.domain.slots import Slot, Stored
from keyturn.files import read_file
from keyturn.stores.formats import Formats, formats_of

#: Seconds between two questions to a server whether the key has changed. Two a second and bot are little
#: for Vault (one read of metadata) and within AWS's quotas for a fleet of hundreds; a notice does not wait.
REMOTE_INTERVAL = 0.5
#: The variables that give a bot its Vault token, before anything that the inventory says.
TOKEN_VARIABLES = ("KEYTURN_VAULT_TOKEN", "VAULT_TOKEN")


class ReadableStore(Protocol):
    """What every store has for bots. Methods block."""

    def signature(self, path: str) -> object:
        """Give something that compares unequal once current may have changed."""
        ...

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; None when it is empty."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSource:
    """One path of a store."""

    store: ReadableStore
    path: str
    #: Which place it is, as a notice about a move names it; empty where nobody can know.
    place: str = ""
    #: Seconds to leave between two questions whether the key has changed; 0: as often as one likes.
    pace: float = 0.0

    def signature(self) -> object:
        """Ask the store for the sign of a change."""
        return self.store.signature(self.path)

    def read(self, slot: Slot) -> Stored | None:
        """Open a slot."""
        return self.store.read_sync(self.path, slot)


def read_inventory(file: str | Path | None) -> tuple[Inventory, Path]:
    """Read the inventory, as far as a bot needs it: its form is checked, its policies are not.

    A bot must not be kept from starting by a rule about somebody else's key; `keyturn check` tells those.

    Returns:
        The inventory, and the folder that its paths are relative to.

    Raises:
        InventoryError: there is no such file, or it is not an inventory; or none was named.
    """
    if file is None:
        raise InventoryError(
            "Neither a bundle nor an inventory was given.",
            todo='Pass bundle="FOLDER", made by `keyturn client-bundle`, or inventory="keyturn.yaml".',
        )
    path = Path(file).absolute()
    try:
        text = read_file(path, MOST_BYTES, links=True).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(
            f"The inventory {path} cannot be read ({type(error).__name__}).",
            todo="Pass the path of keyturn.yaml, readable for the bot's user, in UTF-8.",
        ) from None
    document = read(text)
    # What the YAML reader refused is out of `data`; a file with such findings is nobody's inventory.
    if document.complete and all(finding.warning for finding in document.findings):
        with suppress(ValidationError):
            return Inventory.model_validate(document.data), path.parent
    raise InventoryError(
        f"{path} is not a usable inventory.",
        now="The bot has no key.",
        todo="`keyturn check` tells every line that is wrong.",
    )


def source_of(inventory: Inventory, base: Path, credential: str, *, pace: float = REMOTE_INTERVAL) -> Source:
    """Find where a credential is stored.

    Args:
        inventory: read and checked.
        base: its folder.
        credential: the name in it.
        pace: seconds between two questions to a server whether the key has changed.

    Raises:
        InventoryError: there is no such credential, or no store for it.
        StoreError: `MISCONFIGURED`: what the store needs is not installed.
    """
    try:
        address = inventory.store_of(credential)
        entry = inventory.stores[address.store]
    except KeyError:
        raise InventoryError(
            f"The inventory has no credential {credential!r} with a store.",
            now="The bot has no key.",
            todo=f"In the call of attach, {choose_from(inventory.credentials, credential)}.",
        ) from None
    formats = formats_of(inventory, address.store)
    return open_source(address.store, for_a_bot(entry), base, formats, address.path, pace=pace)


def for_a_bot(entry: StoreEntry) -> StoreEntry:
    """Give a store's entry with the login that a bot uses in place of keyturn's.

    Vault: a token from the environment, else `consumer_auth`, else `auth`. AWS: whatever boto3 finds on
    the bot's machine; the profile and the role of the entry are keyturn's.
    """
    if isinstance(entry, VaultKv2Store):
        token = next((name for name in TOKEN_VARIABLES if os.environ.get(name)), None)
        given = VaultToken(method="token", token=SecretRef(env=token)) if token else None
        return entry.model_copy(update={"auth": given or entry.consumer_auth or entry.auth})
    if isinstance(entry, AwsSecretsManagerStore | AwsParameterStore):
        return entry.model_copy(update={"assume_role": None, "external_id": None, "profile": None})
    return entry


def open_source(
    name: str,
    entry: StoreEntry,
    base: Path,
    formats: Formats,
    path: str,
    *,
    pace: float = REMOTE_INTERVAL,
    own_identity: bool = False,
) -> Source:
    """Open a path of a store, to read it.

    Args:
        name: of the store in the inventory.
        entry: with the bot's own login.
        base: the folder that relative paths start from.
        formats: how its documents look.
        path: of the credential.
        pace: seconds between two questions to a server whether the key has changed.
        own_identity: the age identity is the bot's own, and not the store's.
    """
    place = place_mark(name, path)
    if isinstance(entry, AgeFilesStore):
        from keyturn.stores.age_files import open_age_files

        return StoreSource(open_age_files(entry, base, for_a_bot=own_identity), path, place)
    if isinstance(entry, VaultKv2Store):
        from keyturn.stores.vault_kv2 import open_vault_kv2

        return StoreSource(open_vault_kv2(name, entry, base, formats), path, place, pace)
    from keyturn.stores.aws import open_aws

    return StoreSource(open_aws(name, entry, formats), path, place, pace)


def mailbox_of(
    inventory: Inventory, base: Path, credential: str, consumer: str | None
) -> tuple[str, Mailbox]:
    """Find the mailbox of a bot.

    Args:
        inventory: read and checked.
        base: its folder.
        credential: a name that `source_of` found.
        consumer: the bot's name; None for the only `client` consumer that the credential has.

    Raises:
        InventoryError: the name is not a `client` consumer of this credential, or none could be chosen.
    """
    of_kind = {
        name: entry
        for name in inventory.credentials[credential].consumers
        if isinstance(entry := inventory.consumers.get(name), ClientConsumer)
    }
    name = consumer if consumer is not None else next(iter(of_kind), "") if len(of_kind) == 1 else ""
    if name not in of_kind:
        first = f"Add a client consumer to the entry of {credential} in the inventory."
        known = f"Pass consumer=NAME: {choose_from(of_kind, name)}." if of_kind else first
        raise InventoryError(
            f"{name!r} is not a client consumer of {credential!r}."
            if name
            else f"Which client consumer of {credential!r} this bot is cannot be told from the inventory.",
            now="Nobody would wait for what this bot confirms.",
            todo=known,
        )
    return name, Mailbox(base / of_kind[name].mailbox / name)
