"""The key at one moment, for code of the bot's that signs by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from keyturn.client.holder import Loaded


class Credential:
    """Key, secret and passphrase of one version. Prints as stars, and is never pickled.

        key, secret, passphrase = attachment.credential()

    Take it anew for each signature: a version that was kept is the old one after a swap.
    """

    __slots__ = ("loaded",)

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    @property
    def key(self) -> str:
        """The exchange's public key id, as it stands in a request."""
        return self.loaded.material.key_ref

    @property
    def secret(self) -> str:
        """What signs."""
        return self.loaded.material.reveal()["secret"]

    @property
    def passphrase(self) -> str | None:
        """What some venues ask for beside them; None where there is none."""
        return self.loaded.material.reveal().get("passphrase")

    @property
    def fingerprint(self) -> str:
        """How keyturn's logs and commands name the key."""
        return self.loaded.fingerprint

    def __iter__(self) -> Iterator[str | None]:
        yield from (self.key, self.secret, self.passphrase)

    def __repr__(self) -> str:
        return f"Credential({self.fingerprint or 'put without keyturn'}, ***)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential is never pickled or copied; call Attachment.credential() anew")
