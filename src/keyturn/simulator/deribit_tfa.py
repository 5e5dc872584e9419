"""Demand and check Deribit's second factor.

Source: https://docs.deribit.com/articles/security-keys, read 2026-11-21.

A first call is answered with a challenge, as if it had succeeded; the second one repeats it with the
challenge and a TOTP code (RFC 6238: HMAC-SHA1, 30 seconds, 6 digits). A challenge holds for a minute, a
code works once.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections import deque

_CHALLENGE_MS = 60_000
_STEP_SECONDS = 30
# One step to either side, as every TOTP server allows for clocks that differ a little.
_STEPS = (0, -1, 1)


def totp(secret: str, at_seconds: float) -> str:
    """Return the six digits that an authenticator with this base32 secret shows at a moment."""
    padded = secret.upper() + "=" * (-len(secret) % 8)
    counter = int(at_seconds) // _STEP_SECONDS
    digest = hmac.digest(base64.b32decode(padded), counter.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 1_000_000:06d}"


class SecondFactor:
    """Challenges that were given out, and codes that were used."""

    def __init__(self) -> None:
        self._challenges: dict[str, tuple[str, int]] = {}
        self._used: deque[str] = deque(maxlen=64)

    def check(
        self, *, owner: str, totp_secret: str | None, params: dict[str, object], now_ms: int
    ) -> dict[str, object] | str | None:
        """Return a challenge to answer with, the reason of a refusal, or ``None`` when all is well.

        ``owner`` is who asks for what; a challenge is good for that alone. Without a ``totp_secret`` no code
        is ever right.
        """
        if "challenge" not in params and "authorization_data" not in params:
            return self._demand(owner, now_ms)
        code = str(params.get("authorization_data") or "")
        if not code:
            return "tfa_code_is_required"
        whose, given_ms = self._challenges.pop(str(params.get("challenge")), ("", 0))
        if whose != owner or now_ms - given_ms > _CHALLENGE_MS:
            return "challenge_timeout"
        right = totp_secret is not None and any(
            hmac.compare_digest(totp(totp_secret, now_ms / 1000 + step * _STEP_SECONDS), code)
            for step in _STEPS
        )
        if not right:
            return "tfa_code_not_matched"
        if f"{totp_secret} {code}" in self._used:
            return "used_tfa_code"
        self._used.append(f"{totp_secret} {code}")
        return None

    def _demand(self, owner: str, now_ms: int) -> dict[str, object]:
        challenge = base64.b64encode(secrets.token_bytes(32)).decode()
        self._challenges[challenge] = (owner, now_ms)
        return {
            "security_keys": [{"type": "tfa", "name": "tfa"}],
            "security_key_authorization_required": True,
            "rp_id": "127.0.0.1",
            "challenge": challenge,
        }
