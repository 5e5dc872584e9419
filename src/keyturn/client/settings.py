"""What a bot needs to know from the inventory: its store, its mailbox."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from keyturn.client.mailbox import Mailbox
from keyturn.client.source import Source
from keyturn.domain.errors import InventoryError
from keyturn.domain.inventory import ClientConsumer, Inventory
from keyturn.domain.inventory_yaml import read
from keyturn.domain.slots import Slot, Stored
from keyturn.stores.age_files import AgeFilesStore, open_age_files


@dataclass(frozen=True, slots=True)
class AgeFilesSource:
    """One path of an `age_files` store."""

    store: AgeFilesStore
    path: str

    def signature(self) -> object:
        """Look at the slots' file, not into it."""
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
            "Neither an inventory nor a source was given.", todo='Pass inventory="keyturn.yaml".'
        )
    path = Path(file).absolute()
    try:
        text = path.read_text(encoding="utf-8")
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


def source_of(inventory: Inventory, base: Path, credential: str) -> Source:
    """Find where a credential is stored.

    Args:
        inventory: read and checked.
        base: its folder.
        credential: the name in it.

    Raises:
        InventoryError: there is no such credential, or no store for it.
    """
    try:
        address = inventory.store_of(credential)
        entry = inventory.stores[address.store]
    except KeyError:
        raise InventoryError(
            f"The inventory has no credential {credential!r} with a store.",
            todo=f"Use one of: {', '.join(sorted(inventory.credentials)) or '(none is declared)'}.",
        ) from None
    return AgeFilesSource(open_age_files(entry, base), address.path)


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
        known = ", ".join(sorted(of_kind)) or "none"
        raise InventoryError(
            f"{name!r} is not a client consumer of {credential!r}."
            if name
            else f"Which client consumer of {credential!r} this bot is cannot be told from the inventory.",
            now="Nobody would wait for what this bot confirms.",
            todo=f"Pass consumer=NAME; declared for this credential: {known}.",
        )
    return name, Mailbox(base / of_kind[name].mailbox / name)
