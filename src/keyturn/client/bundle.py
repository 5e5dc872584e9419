"""What a bot's host has in place of the inventory: a folder that `keyturn client-bundle` made for one bot.

`keyturn-bot.json` says where the bot's keys and its mailbox are, and nothing of anybody else's. Beside it
lies what the bot opens its keys with: an age identity of its own, where a store is of files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field, ValidationError

from keyturn.client.mailbox import Mailbox
from keyturn.client.settings import (
    REMOTE_INTERVAL,
    for_a_bot,
    mailbox_of,
    open_source,
    read_inventory,
    source_of,
)
from keyturn.client.source import Source
from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory import (
    SINGLE_FIELDS,
    FormatEntry,
    Inventory,
    StoreAddress,
    StoreEntry,
)
from keyturn.domain.inventory_findings import choose_from
from keyturn.domain.inventory_types import Entry, Name, Text
from keyturn.domain.inventory_yaml import MOST_BYTES
from keyturn.files import read_file
from keyturn.stores.formats import FIELDS, Formats, format_of

SETTINGS = "keyturn-bot.json"
IDENTITY = "identity.txt"


class BundledCredential(StoreAddress):
    """One of the bot's keys."""

    exchange: Name
    format: FormatEntry = SINGLE_FIELDS


class BundleSettings(Entry):
    """The whole of `keyturn-bot.json`; relative paths start from its folder."""

    version: Literal[1] = 1
    consumer: Name = Field(description="The name under which the bot answers.")
    mailbox: Text | None = Field(None, description="Folder of the mailboxes; none for a bot that has none.")
    stores: dict[Name, StoreEntry]
    credentials: dict[Name, BundledCredential]


class Settings(Protocol):
    """Where a bot finds its keys and its mailbox."""

    def source(self, credential: str, pace: float = REMOTE_INTERVAL) -> Source:
        """Open the place of a credential.

        Raises:
            InventoryError: it is not known here.
            StoreError: `MISCONFIGURED`: what the store needs is not installed.
        """
        ...

    def mailbox(self, credential: str, consumer: str | None) -> tuple[str, Mailbox | None]:
        """Give the bot's name and its mailbox.

        Raises:
            InventoryError: the name is not one that uses the credential.
        """
        ...

    def exchange(self, credential: str) -> str:
        """Give the venue of a credential that `source` found; empty where it is not known."""
        ...


class FromInventory:
    """The settings in keyturn's own inventory, which the bot shares."""

    def __init__(self, inventory: Inventory, base: Path) -> None:
        self._inventory, self._base = inventory, base

    def source(self, credential: str, pace: float = REMOTE_INTERVAL) -> Source:
        """Open the place of a credential; see the protocol."""
        return source_of(self._inventory, self._base, credential, pace=pace)

    def mailbox(self, credential: str, consumer: str | None) -> tuple[str, Mailbox | None]:
        """Give the bot's name and its mailbox; see the protocol."""
        return mailbox_of(self._inventory, self._base, credential, consumer)

    def exchange(self, credential: str) -> str:
        """Give the venue of a credential; see the protocol."""
        account = self._inventory.accounts.get(self._inventory.credentials[credential].account)
        return account.exchange if account is not None else ""


class Bundle:
    """The settings of one bot, in a folder of its own."""

    def __init__(self, settings: BundleSettings, folder: Path) -> None:
        self._settings, self._folder = settings, folder

    def source(self, credential: str, pace: float = REMOTE_INTERVAL) -> Source:
        """Open the place of a credential; see the protocol."""
        known = self._credential(credential)
        entry, form = self._settings.stores.get(known.store), format_of(known.format)
        if entry is None:
            raise self._unusable()
        formats = Formats({} if form is FIELDS else {known.path: form}, {}, {})
        return open_source(
            known.store,
            for_a_bot(entry),
            self._folder,
            formats,
            known.path,
            pace=pace,
            own_identity=True,
        )

    def mailbox(self, credential: str, consumer: str | None) -> tuple[str, Mailbox | None]:
        """Give the bot's name and its mailbox; see the protocol."""
        self._credential(credential)
        name, folder = self._settings.consumer, self._settings.mailbox
        if consumer not in {None, name}:
            raise InventoryError(
                f"The bundle {self._folder} is for {name}, not for {consumer}.",
                now="Nobody would wait for what this bot confirms.",
                todo=f"Leave consumer out, or have a bundle made for it: keyturn client-bundle {consumer}",
            )
        return name, Mailbox(self._folder / folder / name) if folder is not None else None

    def exchange(self, credential: str) -> str:
        """Give the venue of a credential; see the protocol."""
        return self._credential(credential).exchange

    def _credential(self, name: str) -> BundledCredential:
        known = self._settings.credentials
        if name not in known:
            raise InventoryError(
                f"The bundle {self._folder} has no credential {name!r}.",
                now="The bot has no key.",
                todo=f"In the call of attach, {choose_from(known, name)}.",
            )
        return known[name]

    def _unusable(self) -> InventoryError:
        return unusable(self._folder / SETTINGS)


def unusable(file: Path) -> InventoryError:
    """Give the error for a settings file that is none."""
    return InventoryError(
        f"{file} is not a usable settings file.",
        now="The bot has no key.",
        todo="Have it made anew where keyturn runs (keyturn client-bundle), and bring it here.",
    )


def read_settings(place: str | Path | None) -> Settings:
    """Read what a bot needs to know: from an inventory, or from the folder of a bundle.

    Raises:
        InventoryError: it cannot be read, or none was named.
    """
    path = Path(place).absolute() if place is not None else None
    if path is None or not os.path.isdir(path):  # noqa: PTH112 - False, and no error, where none can pass
        return FromInventory(*read_inventory(path))
    file = path / SETTINGS
    try:
        return Bundle(BundleSettings.model_validate_json(read_file(file, MOST_BYTES, links=True)), path)
    except OSError as error:
        raise InventoryError(
            f"The settings file {file} cannot be read ({type(error).__name__}).",
            now="The bot has no key.",
            todo="Pass the folder that `keyturn client-bundle` made, readable for the bot's user.",
        ) from None
    except ValidationError:
        raise unusable(file) from None
