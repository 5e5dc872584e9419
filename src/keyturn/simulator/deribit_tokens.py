"""Keep the tokens that a simulated Deribit gave out; the sources are named in :mod:`.deribit_auth`."""

from __future__ import annotations

from dataclasses import dataclass, field

from keyturn.simulator.state import SimKey

_MOST_SESSIONS = 16


@dataclass(frozen=True, slots=True)
class Token:
    """What one answer of ``public/auth`` lets its holder do."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    key: SimKey
    rights: frozenset[str]
    #: ``session:...`` or ``connection``.
    bound_to: str
    expires_ms: int


class Tokens:
    """The tokens that were given out; a key has so many sessions at most."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, Token]] = {}
        self._by_text: dict[str, Token] = {}

    def put(self, token: Token) -> None:
        """Remember a token; it takes the place of one of the same session."""
        sessions = self._sessions.setdefault(token.key.ref, {})
        ended = sessions.pop(token.bound_to, None)
        if ended is None and len(sessions) >= _MOST_SESSIONS:
            ended = sessions.pop(next(iter(sessions)))
        if ended is not None:
            self._by_text.pop(ended.access, None)
            self._by_text.pop(ended.refresh, None)
        sessions[token.bound_to] = token
        self._by_text[token.access] = self._by_text[token.refresh] = token

    def by_access(self, text: str) -> Token | None:
        """Find the token that a caller shows."""
        token = self._by_text.get(text)
        return token if token is not None and token.access == text else None

    def by_refresh(self, text: str) -> Token | None:
        """Find the token whose successor a caller asks for."""
        token = self._by_text.get(text)
        return token if token is not None and token.refresh == text else None
