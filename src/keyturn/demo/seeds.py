"""The exchanges' books: made at random for the first demo, and read back from the store for the next ones.

A simulated exchange keeps its books in memory. What the next demo needs of them is in the age store, so it
is taken from there and goes to the exchange's process through a pipe: no file ever holds it in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from keyturn.demo.cast import ADDRESS, Part
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.exchanges import catalog
from keyturn.ports.store import SecretStore
from keyturn.simulator.seed import EXCHANGES


@dataclass(frozen=True, slots=True)
class Known:
    """A key that an exchange must have in its books."""

    material: SecretMaterial = field(repr=False)
    #: Deribit's number of it, where the store knows one.
    number: int | None = None
    label: str = ""


@dataclass(slots=True)
class Keys:
    """The keys of one part."""

    manager: Known
    #: Those of the bot that may be alive, the current one first.
    bot: list[Known]
    #: They are not in the store yet: a person would bring them.
    manager_is_new: bool
    bot_is_new: bool

    def secrets(self) -> Iterable[str]:
        """Give every secret value, for the search that must not find one."""
        for known in (self.manager, *self.bot):
            yield from secrets_of(known.material)


def secrets_of(material: SecretMaterial) -> list[str]:
    """Give the values that are secret: all but the key's public id."""
    return [value for name, value in material.reveal().items() if name != "api_key" and value]


async def known_keys(store: SecretStore, part: Part) -> Keys:
    """Read a part's keys from the store; make those that are not there.

    Raises:
        StoreError: the store cannot be read.
    """
    manager = await _stored(store, part, part.manager_path, [Slot.CURRENT])
    # Pending and previous too: they are there if an earlier demo was interrupted, and may be alive.
    bot = await _stored(store, part, part.path, [Slot.CURRENT, Slot.PENDING, Slot.PREVIOUS])
    return Keys(
        manager=manager[0] if manager else Known(_made_up(part)),
        bot=bot or [Known(_made_up(part))],
        manager_is_new=not manager,
        bot_is_new=not bot,
    )


async def _stored(store: SecretStore, part: Part, path: str, slots: Iterable[Slot]) -> list[Known]:
    found = []
    for slot in slots:
        stored = await store.read(path, slot)
        if stored is None or stored.info.meta is None:
            continue
        meta = stored.info.meta
        separator = catalog.manifests()[part.exchange].label.separator
        label = meta.attempt.label(separator) if meta.attempt else ""
        found.append(Known(stored.material, int(meta.handle) if meta.handle else None, label))
    return found


def _made_up(part: Part) -> SecretMaterial:
    """Make a key in the exchange's shape, as a person would fetch it from the console."""
    mint = EXCHANGES[part.exchange]()
    return SecretMaterial(mint.new_key_ref(), mint.new_secret(), mint.new_passphrase() or None)


def books_of(part: Part, keys: Keys, port: int) -> dict[str, object]:
    """Give what the exchange's process reads from its stdin; port 0 takes a free one."""
    accounts = [{"name": part.master, "uid": part.master_uid}]
    if part.owner != part.master:
        accounts.append({"name": part.owner, "uid": part.owner_uid, "parent": part.master})
    booked = [_booked(part.master, part.manager_rights, keys.manager)]
    booked += [_booked(part.owner, part.rights, known) for known in keys.bot]
    return {"exchange": part.exchange, "port": port, "accounts": accounts, "keys": booked}


def _booked(owner: str, rights: tuple[str, ...], known: Known) -> dict[str, object]:
    values = known.material.reveal()
    return {
        "owner": owner,
        "number": known.number,
        "key_ref": values["api_key"],
        "secret": values["secret"],
        "passphrase": values.get("passphrase"),
        "rights": list(rights),
        "addresses": [ADDRESS],
        "label": known.label,
    }
