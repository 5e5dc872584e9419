"""One version of a credential as an age file: encrypted for an X25519 identity, JSON inside."""

from __future__ import annotations

import json

from keyturn.bodies import UNREADABLE
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta
from keyturn.stores.ledger_text import meta_from_json, meta_to_json

FORMAT = 1


class BadIdentityError(ValueError):
    """The key text holds no age identity that can be used."""


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

    def seal(self, material: SecretMaterial, meta: KeyMeta) -> bytes:
        """Encrypt a credential."""
        from pyrage import encrypt

        data = {"format": FORMAT, "material": material.reveal(), "meta": meta_to_json(meta)}
        sealed: bytes = encrypt(json.dumps(data).encode(), [self._recipient])
        return sealed

    def open(self, sealed: bytes) -> tuple[SecretMaterial, KeyMeta]:
        """Decrypt a credential.

        Raises:
            WrongKeyError: it is for another identity.
            DamagedError: it is truncated, altered, or no credential.
        """
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


def _parse(plain: bytes) -> tuple[SecretMaterial, KeyMeta] | None:
    # Gives None instead of raising: a JSON error carries its document, and here that is the secret.
    try:
        data = json.loads(plain)
        values = data["material"]
        if data["format"] != FORMAT or not all(isinstance(v, str) for v in values.values()):
            return None
        return SecretMaterial.of(values), meta_from_json(data["meta"])
    except UNREADABLE:
        return None
