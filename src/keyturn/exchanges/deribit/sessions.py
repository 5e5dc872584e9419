"""Remember what a token of `public/auth` said that its key may do, for as long as the token lives.

Each `public/auth` opens a session, and a key has 16 ("Connection management", read 2026-11-28); a new key is
asked once a second until the venue has come to know it. So what one token says is taken for its life.

The scope alone is kept, never the token: it would be one more secret, and it says less than a signature. A
token may outlive its key, or be older than a change of the key's rights, and so:

* Every call that needs a key is signed by the key itself. Whether it lives is never told by a token.
* A remembered scope is given only where such a call follows, and is forgotten when the venue refuses a call
  of the key, when the key gets other rights through this driver, and when it is revoked.
* It is given to the holder of the same secret alone.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from keyturn.exchanges.deribit import scope
from keyturn.ports.exchange import Caller

# Tokens of published answers live for 900 seconds; the documentation's example says a year. Nobody is told
# when a person changes a key's rights in the web console, so no answer is believed for longer than that.
_LONGEST_SECONDS = 900.0
# A token that ends while a call is on its way is of no use.
_MARGIN_SECONDS = 60.0
# An account has 8 keys ("Authentication" page); these are those of a few that are minted one after another.
_MOST_KEYS = 32


@dataclass(frozen=True, slots=True)
class _Seen:
    grants: frozenset[str]
    ends_at: float
    #: A digest under a key of this process: who asks is compared, and nothing of the secret is kept.
    holder: bytes = field(repr=False)


class Sessions:
    """What keys may do, by the tokens that live.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pepper = secrets.token_bytes(32)
        self._seen: dict[str, _Seen] = {}

    def grants(self, caller: Caller) -> frozenset[str] | None:
        """Give what the caller's living token says that it may do; None: it has to ask for one."""
        seen = self._seen.get(caller.material.key_ref)
        if seen is None or self._clock() >= seen.ends_at:
            return None
        return seen.grants if hmac.compare_digest(seen.holder, self._digest(caller)) else None

    def remember(self, caller: Caller, grants: frozenset[str], life_seconds: float) -> None:
        """Remember what a new token says, unless the key may not make the call that has to follow."""
        self.forget(caller.material.key_ref)
        life = min(life_seconds, _LONGEST_SECONDS) - _MARGIN_SECONDS
        if life <= 0 or not scope.reads_account(grants):
            return
        if len(self._seen) >= _MOST_KEYS:
            self.forget(next(iter(self._seen)))
        self._seen[caller.material.key_ref] = _Seen(grants, self._clock() + life, self._digest(caller))

    def forget(self, key_ref: str) -> None:
        """Forget a key: it was refused, or is gone."""
        self._seen.pop(key_ref, None)

    def changed(self, key_ref: str, grants: frozenset[str]) -> None:
        """Forget a key that was given other rights than its token speaks of."""
        seen = self._seen.get(key_ref)
        if seen is not None and seen.grants != grants:
            self.forget(key_ref)

    def _digest(self, caller: Caller) -> bytes:
        return hmac.digest(self._pepper, caller.material.reveal()["secret"].encode(), "sha256")
