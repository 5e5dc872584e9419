"""How a stored key looks to the bot that reads it: written that way, and read back as the bot would.

A format turns a key into fields of a document and such a document into a key again. `Formats` knows which
path has which, and makes sure before a key is stored that every one of its readers would get it unchanged:
a bot that guesses types, or an .env that eats a character, must not find out after the promotion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from keyturn.domain import dotenv
from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import OWN_FIELDS, SINGLE_FIELDS, FileConsumer, FormatEntry
from keyturn.domain.material import SecretMaterial
from keyturn.stores import dotted
from keyturn.stores.freqtrade_variables import as_read, kind_of

if TYPE_CHECKING:
    from keyturn.domain.inventory import Inventory

Kind = Literal["field", "json", "env", "freqtrade", "hummingbot"]

_TEXT_FIELD = "env"
# freqtrade 2026.9 hands these to ccxt, from the file and from the environment alike. In a file `api_key`
# and `apiKey` go before `key`: what stands there would be used in place of ours (run 2026-11-21).
_FREQTRADE = {"api_key": "exchange.key", "secret": "exchange.secret", "passphrase": "exchange.password"}
_FREQTRADE_SHADOWS = ("exchange.api_key", "exchange.apiKey")
#: The names of hummingbot's connectors for a key, from each connector's `*_utils.py` (hummingbot 2.16 and
#: master, https://github.com/hummingbot/hummingbot/tree/master/hummingbot/connector, 2026-11-21).
HUMMINGBOT: Mapping[str, Mapping[str, str]] = {
    "bybit": {"api_key": "bybit_api_key", "secret": "bybit_api_secret"},
    "bybit_perpetual": {"api_key": "bybit_perpetual_api_key", "secret": "bybit_perpetual_secret_key"},
    "okx": {"api_key": "okx_api_key", "secret": "okx_secret_key", "passphrase": "okx_passphrase"},
    "okx_perpetual": {
        "api_key": "okx_perpetual_api_key",
        "secret": "okx_perpetual_secret_key",
        "passphrase": "okx_perpetual_passphrase",
    },
}


class UncarriedError(ValueError):
    """A format cannot carry a key. The text names the field, never a value."""


class UnreadableError(ValueError):
    """A document is not of the format. The text names the field, never a value."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a key into a document.

    `names` maps keyturn's fields to the document's, with a dot for each level down; for `env` to the
    variables in the field `text_field`. `fixed` holds fields that are always there.
    """

    kind: Kind = "field"
    names: Mapping[str, str] = field(default_factory=dict)
    text_field: str | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)

    def render(self, material: SecretMaterial) -> dict[str, Any]:
        """Write a key as the fields of a document.

        Raises:
            UncarriedError: the key has a field that the format has no name for, or a value that
                the format cannot hold.
        """
        values = material.reveal()
        if self.kind == "field":
            return dict(values)
        if nameless := sorted(values.keys() - self.names.keys()):
            raise UncarriedError(f"there is no name for its field {nameless[0]}")
        named = {name: values[key] for key, name in self.names.items() if key in values}
        if self.text_field is not None:
            try:
                return {self.text_field: dotenv.lines(named)}
            except ValueError as error:
                raise UncarriedError(str(error)) from None
        document: dict[str, Any] = dict(self.fixed)
        for name, value in named.items():
            dotted.put(document, name, value)
        return document

    def parse(self, document: Mapping[str, Any]) -> SecretMaterial:
        """Read a key as the bot would.

        Raises:
            UnreadableError: a field is missing, or the bot would take it for something else than text.
        """
        if self.kind == "field":
            found: dict[str, Any] = {k: document[k] for k in OWN_FIELDS if k in document}
        elif self.text_field is not None:
            text = document.get(self.text_field)
            named = dotenv.parse(text) if isinstance(text, str) else {}
            found = {k: as_read(name, named[name]) for k, name in self.names.items() if name in named}
        else:
            found = {k: v for k, name in self.names.items() if (v := dotted.get(document, name)) is not None}
            for shadow in self._shadows():
                if (value := dotted.get(document, shadow)) is not None:
                    found["api_key"] = value
        for key in ("api_key", "secret"):
            if key not in found:
                raise UnreadableError(f"it has no {self._called(key)}")
        for key, value in found.items():
            if not isinstance(value, str):
                raise UnreadableError(f"its {self._called(key)} is read as {kind_of(value)}")
        return SecretMaterial.of(found)

    def place(self, others: Mapping[str, Any], material: SecretMaterial) -> dict[str, Any]:
        """Write a key among the other fields of a document; an .env's other lines are kept, too.

        Raises:
            UncarriedError: as of `render`; or what stands there leaves no room for the key.
        """
        kept, ours = self.rest(others), self.render(material)
        if self.text_field is None:
            for name in self.names.values():
                _ensure_room(kept, name)
            return dotted.merged(kept, ours)
        text = kept.get(self.text_field)
        if text is None:
            return {**kept, **ours}
        if not isinstance(text, str):
            raise UncarriedError(f"field {self.text_field} is there and is no text")
        kept[self.text_field] = text.removesuffix("\n") + "\n" + ours[self.text_field]
        with suppress(UnreadableError):
            if self.parse(kept) == material:
                return kept
        # Such as a quote that is never closed: it takes in what follows.
        raise UncarriedError(f"the other lines of field {self.text_field} hide the key's")

    def rest(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Give a document without what is the key's in it."""
        kept = dotted.copied(document)
        if self.text_field is not None:
            text = kept.get(self.text_field)
            if isinstance(text, str):
                kept[self.text_field] = dotenv.without(text, frozenset(self.names.values()))
                if not kept[self.text_field].strip():
                    del kept[self.text_field]
            return kept
        if self.kind == "field":
            ours: tuple[str, ...] = OWN_FIELDS
        else:
            ours = (*self.names.values(), *self.fixed, *self._shadows())
        for name in ours:
            dotted.drop(kept, name)
        return kept

    def check(self, material: SecretMaterial) -> None:
        """Make sure that the bot would read this very key.

        Raises:
            UncarriedError: it would not.
        """
        document = json.loads(json.dumps(self.render(material)))
        try:
            read = self.parse(document) if self.kind != "field" else material
        except UnreadableError as error:
            raise UncarriedError(str(error)) from None
        if read != material:
            raise UncarriedError("it would read another value")

    def to_json(self) -> dict[str, Any] | None:
        """Describe the format beside the document; None for single fields."""
        if self.kind == "field":
            return None
        described: dict[str, Any] = {"kind": self.kind, "names": dict(self.names)}
        described |= {"text_field": self.text_field} if self.text_field is not None else {}
        return described | ({"fixed": dict(self.fixed)} if self.fixed else {})

    @staticmethod
    def from_json(described: Mapping[str, Any] | None) -> Format:
        """Read what `to_json` wrote.

        Raises:
            LookupError, TypeError, ValueError: it is damaged.
        """
        if described is None:
            return FIELDS
        text_field = described.get("text_field")
        return Format(
            described["kind"],
            {str(k): str(v) for k, v in dict(described["names"]).items()},
            None if text_field is None else str(text_field),
            {str(k): str(v) for k, v in dict(described.get("fixed") or {}).items()},
        )

    def _shadows(self) -> tuple[str, ...]:
        return _FREQTRADE_SHADOWS if self.kind == "freqtrade" else ()

    def _called(self, key: str) -> str:
        return f"field {self.names.get(key, key)}"


#: Single fields by keyturn's own names.
FIELDS = Format()
_ANY_KEY = SecretMaterial("any key", "any secret")


def format_of(entry: FormatEntry) -> Format:
    """Give the format that an inventory entry describes."""
    if entry.kind == "field" or entry.kind == "split":
        return FIELDS
    if entry.kind == "freqtrade":
        return Format("freqtrade", _FREQTRADE)
    if entry.kind == "hummingbot":
        connector = entry.connector or ""
        return Format("hummingbot", HUMMINGBOT[connector], fixed={"connector": connector})
    names = {str(key): name for key, name in entry.fields.items()}
    return Format(entry.kind, names, (entry.text_field or _TEXT_FIELD) if entry.kind == "env" else None)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What a `file` consumer writes: into freqtrade's configuration, or the fields that it names alone."""

    consumer: str
    entry: FileConsumer

    @property
    def kind(self) -> str:
        """Name the format for a message."""
        return f"{self.entry.format} of the file of {self.consumer}"

    def check(self, material: SecretMaterial) -> None:
        """Make sure that the file's reader would get what it is given unchanged.

        Raises:
            UncarriedError: it would not, or the key lacks a field.
        """
        if self.entry.format == "freqtrade":
            format_of(FormatEntry(kind="freqtrade")).check(material)
            return
        values = material.reveal()
        # The fingerprint is keyturn's own, and most venues have no passphrase.
        if lacks := sorted(self.entry.fields.keys() - values.keys() - {"fingerprint", "passphrase"}):
            raise UncarriedError(f"it has no field {lacks[0]}")
        if self.entry.format == "json":
            return
        named = {name: values[key] for key, name in self.entry.fields.items() if key in values}
        try:
            dotenv.lines(named)
        except ValueError as error:
            raise UncarriedError(str(error)) from None
        for name, value in named.items():
            if not isinstance(read := as_read(name, value), str):
                raise UncarriedError(f"its field {name} is read as {kind_of(read)}")


@dataclass(frozen=True, slots=True)
class Formats:
    """The formats of one store, by path.

    Args:
        at: of each path that has one of its own.
        also: of the other places that get the key of a path later: its mirrors, files of its consumers.
        split: of each path whose fields stand in secrets of their own, too: keyturn's field -> the name.
    """

    at: Mapping[str, Format] = field(default_factory=dict)
    also: Mapping[str, tuple[Format | FileFormat, ...]] = field(default_factory=dict)
    split: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, path: str) -> Format:
        """Give the format of a path."""
        return self.at.get(path, FIELDS)

    def apart(self, path: str) -> Mapping[str, str]:
        """Give the names of the secrets that hold one field of a path each; most paths have none."""
        return self.split.get(path, {})

    def check(self, path: str, material: SecretMaterial) -> None:
        """Make sure that every reader of what is stored at a path would get this very key.

        Raises:
            StoreError: `UNFIT` when one would not; another key may fit.
        """
        for each in (self.of(path), *self.also.get(path, ())):
            try:
                each.check(material)
            except UncarriedError as error:
                problem, kind = str(error), each.kind
                break
        else:
            return
        raise StoreError(
            StoreFault.UNFIT,
            f"The key for {path} cannot be kept in the format {kind}: {problem}.",
            now="Nothing was written.",
            todo="Another key may fit; if none does, choose another `format` for it, such as json.",
        )

    def check_room(self, path: str, others: Mapping[str, Any]) -> None:
        """Make sure, before a key is made, that one can stand beside what else is at a path.

        Raises:
            StoreError: `MISCONFIGURED`; no other key would fit either.
        """
        problem = ""
        try:
            self.of(path).place(others, _ANY_KEY)
        except UncarriedError as error:
            problem = str(error)
        if problem:
            raise no_room(path, problem)


def no_room(path: str, problem: str) -> StoreError:
    """Say that what somebody put at a path leaves no place for the key."""
    return StoreError(
        StoreFault.MISCONFIGURED,
        f"No key can be written beside what else stands at {path}: {problem}.",
        now="Nothing was written.",
        todo="Move what is in the way to another field, or choose another `format` for the credential.",
    )


#: Of a store in which every path has single fields.
SINGLE = Formats()


def formats_of(inventory: Inventory, store: str) -> Formats:
    """Gather the formats of a store from the inventory."""
    at: dict[str, Format] = {}
    also: dict[str, tuple[Format | FileFormat, ...]] = {}
    split: dict[str, Mapping[str, str]] = {}

    def note(path: str, entry: FormatEntry) -> None:
        if entry.kind == "split":
            split[path] = _split(entry)
        elif entry != SINGLE_FIELDS:
            at[path] = format_of(entry)

    for name, entry in inventory.credentials.items():
        for mirror in entry.mirrors:
            if mirror.store == store:
                note(mirror.path, mirror.format)
        if (entry.store or inventory.defaults.store) != store:
            continue
        path = inventory.store_of(name).path
        note(path, entry.format)
        mirrors = (f for m in entry.mirrors if (f := format_of(m.format)) is not FIELDS)
        consumers = {n: inventory.consumers.get(n) for n in entry.consumers}
        files = (FileFormat(n, c) for n, c in consumers.items() if isinstance(c, FileConsumer))
        also[path] = (*mirrors, *files)
    return Formats(at, also, split)


def _split(entry: FormatEntry) -> dict[str, str]:
    return {str(key): name for key, name in entry.fields.items()} or {name: name for name in OWN_FIELDS}


def _ensure_room(document: Mapping[str, Any], name: str) -> None:
    *above, _ = name.split(".")
    for number in range(1, len(above) + 1):
        higher = ".".join(above[:number])
        if not isinstance(dotted.get(document, higher), Mapping | None):
            raise UncarriedError(f"field {higher} is there and has no room for {name}")
