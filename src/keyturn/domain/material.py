"""Secret material: the one type that may hold an exchange secret.

It prints as stars, refuses to be pickled, copied into JSON or hashed, and gives its value up only
through `reveal()`, which adapters call in the frame that needs it (invariant 9).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NoReturn

_HIDDEN = "SecretMaterial(***)"


def _flat(values: Mapping[str, str]) -> bytes:
    return repr(sorted(values.items())).encode()


class SecretMaterial:
    """The values that sign calls at an exchange: API key, secret, and a passphrase where there is one.

    Args:
        api_key: the public key id as the venue expects it in a request.
        secret: the signing secret, or a private key in PEM.
        passphrase: venues that ask for one (OKX, KuCoin, Bitget).
        extra: further values that travel with the key, by name; kept, never interpreted.
    """

    __slots__ = ("_values",)

    def __init__(
        self,
        api_key: str,
        secret: str,
        passphrase: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        values = dict(extra or {})
        values["api_key"] = api_key
        values["secret"] = secret
        if passphrase is not None:
            values["passphrase"] = passphrase
        self._values = values

    @classmethod
    def of(cls, values: Mapping[str, str]) -> SecretMaterial:
        """Build from the mapping that `reveal` gives.

        Raises:
            KeyError: `api_key` or `secret` is missing; the text names the field, never a value.
        """
        rest = {k: v for k, v in values.items() if k not in {"api_key", "secret", "passphrase"}}
        return cls(values["api_key"], values["secret"], values.get("passphrase"), rest)

    def reveal(self) -> dict[str, str]:
        """Give the values as a new mapping. For adapters only, and for as short as possible."""
        return dict(self._values)

    @property
    def key_ref(self) -> str:
        """The exchange's public key id. It is not secret, but logs use fingerprints."""
        return self._values["api_key"]

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretMaterial):
            return NotImplemented
        # One constant-time comparison over everything, so that timing tells nothing.
        return hmac.compare_digest(_flat(self._values), _flat(other._values))

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("secret material is never pickled or copied")
