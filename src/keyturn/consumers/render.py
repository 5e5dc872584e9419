"""Writes a key as JSON or as an env file that a shell and python-dotenv read back alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from keyturn.domain.dotenv import quoted
from keyturn.domain.errors import ConsumerError, ConsumerFault
from keyturn.domain.slots import Stored

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


def _quoted(name: str, value: str) -> str:
    if (written := quoted(value)) is not None:
        return written
    raise ConsumerError(
        ConsumerFault.MISCONFIGURED,
        f"The value of {name} holds characters that an env file cannot carry to every reader.",
        now="The file was not touched.",
        todo="Use `format: json` for this consumer.",
    )
