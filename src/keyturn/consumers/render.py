"""Writes a key as JSON, into a freqtrade configuration, or as an env file that its readers read alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from keyturn.domain.dotenv import quoted
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.inventory import FormatEntry
from keyturn.domain.slots import Stored
from keyturn.stores.formats import UncarriedError, format_of

#: May be missing from a key without a word: most venues have none.
_OPTIONAL = "passphrase"


def render(stored: Stored, fields: Mapping[str, str], form: Literal["json", "env"]) -> bytes:
    """Write the fields of a key.

    Args:
        stored: the key.
        fields: keyturn's field -> the name in the file. Fields are those of the material, and
            `fingerprint`, by which the reader can tell which key it runs on.
        form: the file's format.

    Raises:
        ConsumerError: `MISCONFIGURED`: a field that the key does not have, or a value that an env file
            cannot carry. No value is quoted.
    """
    values = stored.material.reveal()
    if stored.info.meta is not None:
        values["fingerprint"] = stored.info.meta.fingerprint
    missing = [field for field in fields if field not in values and field != _OPTIONAL]
    if missing:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            f"The key has no field {', '.join(missing)}.",
            now="The file was not touched.",
            todo=f"Use of {', '.join(sorted(values))} in `fields`.",
        )
    chosen = {name: values[field] for field, name in fields.items() if field in values}
    if form == "json":
        return json.dumps(chosen, indent=2).encode() + b"\n"
    return "".join(f"{name}={_quoted(name, value)}\n" for name, value in chosen.items()).encode()


def into_freqtrade(stored: Stored, before: bytes) -> bytes:
    """Write a key into a freqtrade configuration, as the bot reads it; all else in the file is kept.

    Args:
        stored: the key.
        before: the file as it is.

    Raises:
        ConsumerError: `MISCONFIGURED`: the file is not plain JSON, or the key has a field that freqtrade
            has no place for. No value is quoted.
    """
    document = _object(before)
    if document is None:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            "The freqtrade configuration is not a JSON object, or has comments, which would be lost.",
            now="The file was not touched.",
            todo="Let keyturn write a file of its own, and start freqtrade with it as one more --config.",
        )
    try:
        placed = format_of(FormatEntry(kind="freqtrade")).place(document, stored.material)
    except UncarriedError as error:
        raise ConsumerError(
            ConsumerFault.MISCONFIGURED,
            f"The key does not fit freqtrade's configuration: {error}.",
            now="The file was not touched.",
            todo="Use another `format` for this consumer.",
        ) from None
    return json.dumps(placed, indent=4, ensure_ascii=False).encode() + b"\n"


def _object(text: bytes) -> dict[str, Any] | None:
    # A frame of its own that raises nothing: the decoder's exceptions carry the text, which has the key.
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _quoted(name: str, value: str) -> str:
    if (written := quoted(value)) is not None:
        return written
    raise ConsumerError(
        ConsumerFault.MISCONFIGURED,
        f"The value of {name} holds characters that an env file cannot carry to every reader.",
        now="The file was not touched.",
        todo="Use `format: json` for this consumer.",
    )
