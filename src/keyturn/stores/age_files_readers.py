"""Who besides keyturn may open the files of an age store: each bot the current key of its own credential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.domain.slots import Slot
from keyturn.groups import number_of
from keyturn.stores.sealing import BadRecipientError, check_readers
from keyturn.stores.slots_pages import misconfigured

if TYPE_CHECKING:  # the models bring pydantic, which a bot's process does not need for this
    from keyturn.domain.inventory import Inventory


@dataclass(frozen=True, slots=True)
class Readers:
    """The age recipients that the files of one path are encrypted for, besides the store's own."""

    current: frozenset[str] = frozenset()
    #: Where a bot must try a key from its own address before it becomes current.
    pending: frozenset[str] = frozenset()
    #: The group whose members may see the files, where the bot is another user of this machine.
    group: str | None = None

    def of(self, slot: Slot) -> frozenset[str]:
        """Give those of a slot; what was current before is for nobody but the store."""
        return {Slot.CURRENT: self.current, Slot.PENDING: self.pending}.get(slot, frozenset())

    def gid(self, path: str) -> int | None:
        """Give the number of the group.

        Raises:
            StoreError: `MISCONFIGURED`: this machine has none of that name.
        """
        try:
            return None if self.group is None else number_of(self.group)
        except OSError:
            raise misconfigured(
                f"The group {self.group}, which is to see the files of {path}, is not on this machine.",
                f"groupadd {self.group}, or correct `group` of its consumer in the inventory.",
            ) from None


NOBODY = Readers()
NO_READERS: Mapping[str, Readers] = {}


def checked(path: str, among: Mapping[str, Readers]) -> Readers:
    """Give who may read a path.

    Raises:
        StoreError: `MISCONFIGURED`: nothing can be encrypted for one of them.
    """
    readers = among.get(path, NOBODY)
    try:
        check_readers(readers.current)
    except BadRecipientError as error:
        raise misconfigured(
            f"{path} cannot be encrypted for its bot: {error}.",
            "Correct `recipient` of its consumer: age-keygen prints it as `Public key`.",
        ) from None
    return readers


def readers_of(inventory: Inventory, store: str) -> Mapping[str, Readers]:
    """Gather the readers of a store by path; a path that is not named has none, as those of manager keys."""
    found: dict[str, Readers] = {}
    for name, entry in inventory.credentials.items():
        paths = [mirror.path for mirror in entry.mirrors if mirror.store == store]
        if (entry.store or inventory.defaults.store) == store:
            paths.append(entry.path)
        readers = _of_credential(inventory, name)
        if readers != NOBODY:
            found |= dict.fromkeys(paths, readers)
    return found


def _of_credential(inventory: Inventory, name: str) -> Readers:
    entry = inventory.credentials[name]
    consumers = [found for each in entry.consumers if (found := inventory.consumers.get(each))]
    recipients = [recipient for c in consumers if (recipient := getattr(c, "recipient", None))]
    groups = [group for c in consumers if (group := getattr(c, "group", None))]
    prober = inventory.prober_of(name)
    tried = getattr(inventory.consumers[prober], "recipient", None) if prober else None
    pending = frozenset([tried] if tried else [])
    return Readers(frozenset(recipients), pending, next(iter(groups), None))
