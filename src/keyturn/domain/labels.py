"""Names that make a key recognisable as ours: rotation ids, attempts, labels, fingerprints."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

# Crockford's base 32 in lower case: no letter that a person mistakes for another.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Ten characters are 50 bits: a fleet of 2,000 keys turned monthly for 30 years draws 720,000 ids, which
# meet with a chance of 1 in 4,000; the journal's primary key refuses the one that would.
# Longer does not fit: Deribit allows 16 characters for `kt_<id>_<nn>`.
_ID_LENGTH = 10
_LABEL = re.compile(rf"^kt[-_]([{_ALPHABET}]{{{_ID_LENGTH}}})[-_]([1-9][0-9]?)\Z")
# A rotation that failed to mint this often needs a person, and two digits are what the label has room for.
MAX_ATTEMPTS = 99


def new_rotation_id() -> str:
    """Draw a rotation id."""
    return "".join(_ALPHABET[byte & 31] for byte in secrets.token_bytes(_ID_LENGTH))


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """The numbered try of a rotation: label at the exchange, token in the store, id in the journal."""

    rotation_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.rotation_id}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Attempt:
        """Read what `str` wrote.

        Raises:
            ValueError: the text is not an attempt.
        """
        rotation_id, _, number = text.rpartition("-")
        return cls(rotation_id, int(number))

    def label(self, separator: str = "-") -> str:
        """Give the label for the exchange: `kt-<rotation>-<attempt>`.

        Args:
            separator: `_` for venues whose names take letters, digits and underscores only.
        """
        return separator.join(("kt", self.rotation_id, str(self.number)))


def parse_label(text: str) -> Attempt | None:
    """Recognise a label of ours, or return None for anybody else's."""
    match = _LABEL.match(text or "")
    return Attempt(match[1], int(match[2])) if match else None


def fingerprint(salt: bytes, exchange: str, key_ref: str) -> str:
    """Give the short keyed hash that logs, artifacts and Prefect may show for a key.

    Args:
        salt: the journal's salt, so that fingerprints of two installations cannot be matched.
        exchange: the venue's code.
        key_ref: the exchange's public key id.
    """
    digest = hmac.new(salt, f"{exchange}\0{key_ref}".encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest[:5], "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(35, -1, -5))
