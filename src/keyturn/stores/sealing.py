"""One version of a credential as an age file: encrypted for X25519 identities, JSON inside.

The first recipient is the store's own. Others, the *readers*, are those of bots: an age file does not tell
whose it is, so the JSON names them. How many there are the header tells to everybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from keyturn.bodies import UNREADABLE
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta
from keyturn.stores.ledger_text import meta_from_json, meta_to_json

FORMAT = 1

# A stanza of the header, of which each recipient has one (age-encryption.org/v1); what else rage puts there
# to keep readers tolerant is no stanza of this kind.
_STANZA = re.compile(rb"^-> X25519 ", re.MULTILINE)
_HEADER_END = b"\n--- "


class BadIdentityError(ValueError):
    """The key text holds no age identity that can be used."""


class BadRecipientError(ValueError):
    """A reader is no age recipient that can be used."""


class WrongKeyError(ValueError):
    """The file is encrypted for another identity."""


class DamagedError(ValueError):
    """The file is not whole, or holds something else than a credential."""


class Sealer:
    """Encrypts for the first identity of a key file, and decrypts with any of them.

    More than one identity is how the key of a store is changed: the new one on the first line, the
    old one below it until every credential has turned once.

    Args:
        key_text: what `age-keygen` wrote.

    Raises:
        BadIdentityError: there is no X25519 identity in it; the text of the error quotes nothing.
    """

    def __init__(self, key_text: str) -> None:
        # Imported here: listing and status need no cipher.
        from pyrage import IdentityError, x25519

        lines = [line.strip() for line in key_text.splitlines()]
        wanted = [line for line in lines if line and not line.startswith("#")]
        try:
            self._identities = [x25519.Identity.from_str(line) for line in wanted]
        except IdentityError:
            self._identities = []
        if not self._identities:
            raise BadIdentityError("no age identity of the kind X25519")
        public = [identity.to_public() for identity in self._identities]
        self._recipient = public[0]
        #: The public key that new versions are encrypted for.
        self.recipient = str(public[0])
        #: The public keys of all identities.
        self.recipients = frozenset(str(key) for key in public)

    def seal(self, material: SecretMaterial, meta: KeyMeta, readers: Iterable[str] = ()) -> bytes:
        """Encrypt a credential for the store, and for readers.

        Raises:
            BadRecipientError: a reader is no X25519 recipient.
        """
        from pyrage import encrypt

        wanted = sorted(set(readers))
        data = {"format": FORMAT, "material": material.reveal(), "meta": meta_to_json(meta)}
        if wanted:
            data["readers"] = wanted
        sealed: bytes = encrypt(json.dumps(data).encode(), [self._recipient, *map(_recipient, wanted)])
        return sealed

    def resealed(self, sealed: bytes, readers: frozenset[str]) -> bytes | None:
        """Encrypt a file anew for other readers; None when it is for these already.

        Raises:
            BadRecipientError, WrongKeyError, DamagedError.
        """
        if not readers and recipients_in(sealed) <= 1:
            return None
        material, meta, present = self._open(sealed)
        if present == readers and recipients_in(sealed) == 1 + len(readers):
            return None
        return self.seal(material, meta, readers)

    def readers(self, sealed: bytes) -> frozenset[str]:
        """Tell for whom besides the store a file is encrypted.

        Raises:
            WrongKeyError, DamagedError: it cannot be opened.
        """
        return self._open(sealed)[2]

    def open(self, sealed: bytes) -> tuple[SecretMaterial, KeyMeta]:
        """Decrypt a credential.

        Raises:
            WrongKeyError: it is for another identity.
            DamagedError: it is truncated, altered, or no credential.
        """
        material, meta, _ = self._open(sealed)
        return material, meta

    def _open(self, sealed: bytes) -> tuple[SecretMaterial, KeyMeta, frozenset[str]]:
        from pyrage import DecryptError, decrypt

        problem: str | None = None
        opened = None
        try:
            opened = _parse(decrypt(sealed, self._identities))
        except DecryptError as error:
            problem = str(error)
        if problem is not None and "No matching keys" in problem:
            raise WrongKeyError(problem)
        if opened is None:
            raise DamagedError(problem or "what was decrypted is not a credential")
        return opened


def recipients_in(sealed: bytes) -> int:
    """Count the recipients that an age file's header has; needs no key."""
    return len(_STANZA.findall(sealed.partition(_HEADER_END)[0]))


def check_readers(readers: Iterable[str]) -> None:
    """See that a file can be encrypted for them.

    Raises:
        BadRecipientError: it cannot.
    """
    for reader in readers:
        _recipient(reader)


def _recipient(text: str) -> Any:
    from pyrage import RecipientError, x25519

    try:
        return x25519.Recipient.from_str(text)
    except RecipientError:
        raise BadRecipientError(f"{text} is no age recipient of the kind X25519") from None


def _parse(plain: bytes) -> tuple[SecretMaterial, KeyMeta, frozenset[str]] | None:
    # Gives None instead of raising: a JSON error carries its document, and here that is the secret.
    try:
        data = json.loads(plain)
        values = data["material"]
        if data["format"] != FORMAT or not all(isinstance(v, str) for v in values.values()):
            return None
        return SecretMaterial.of(values), meta_from_json(data["meta"]), frozenset(data.get("readers", ()))
    except UNREADABLE:
        return None
