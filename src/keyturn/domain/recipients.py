"""Age recipients of the kind X25519, as text: 32 bytes in Bech32 under the prefix `age`."""

from __future__ import annotations

import re

# 52 characters hold the 32 bytes, six more their checksum (age-encryption.org/v1; BIP 173).
RECIPIENT_PATTERN = r"^age1[ac-hj-np-z02-9]{58}$"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_WANTED = "write the public key that age-keygen prints, age1 and 58 more letters and digits"


def declared_recipient(value: str) -> str:
    """Give a recipient that bots' keys can be encrypted for.

    A letter that was mistyped would be found when a new key is minted and cannot be stored; so it is here.

    Raises:
        ValueError: it is none, or not whole; the text quotes nothing, for it may be an identity.
    """
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError(f"this is an identity, and secret: draw another one, and {_WANTED}")
    if not value.startswith("age1") or value.startswith(("age1yubikey", "age1tag", "age1se")):
        raise ValueError(f"{_WANTED}; keys of ssh, plugins and pass-phrases are not taken")
    if not re.fullmatch(RECIPIENT_PATTERN, value) or _checksum(value) != 1:
        raise ValueError(f"a letter of this recipient is wrong or missing; {_WANTED}")
    return value


def _checksum(text: str) -> int:
    prefix, _, data = text.partition("1")
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    found = 1
    for value in values + [_ALPHABET.index(c) for c in data]:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            found ^= generator if top >> bit & 1 else 0
    return found
