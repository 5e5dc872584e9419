"""The seal of what a bot says of a key: only who holds the key's secret can make it, or check it.

    sealing key = HMAC-SHA256(the key's secret, "keyturn <purpose> v1")
    seal        = HMAC-SHA256(sealing key, the message's bytes), in small hexadecimal digits

The secret is taken in UTF-8, without white space at its ends, where formats and people add some. It is HMAC
alone, which every standard library has, so that a service in any language makes a seal in two lines. HKDF
would add nothing: the exchange draws the secret at random, and one key is derived for each purpose. No call
at a venue begins like the texts here, so no signature of one is a sealing key, or the other way round.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta

#: A seal's instant may be this far from what keyturn's clock says. A bot whose clock is further off makes no
#: signed call either: venues allow between one and sixty seconds.
CLOCK_ALLOWANCE = timedelta(seconds=60)


def sealing_key(secret: str, purpose: str) -> bytes:
    """Derive the key that seals one kind of message.

    Args:
        secret: of the exchange's key: the signing secret, or the private key in PEM.
        purpose: the kind of message; a seal of one kind is none of another.
    """
    return hmac.digest(secret.strip().encode(), f"keyturn {purpose} v1".encode(), hashlib.sha256)


def seal(secret: str, purpose: str, message: bytes) -> str:
    """Seal a message."""
    return hmac.new(sealing_key(secret, purpose), message, hashlib.sha256).hexdigest()


def is_sealed(secret: str, purpose: str, message: bytes, given: str) -> bool:
    """Tell whether a seal is that of the holder of this secret, in constant time."""
    return hmac.compare_digest(seal(secret, purpose, message).encode(), given.encode())
