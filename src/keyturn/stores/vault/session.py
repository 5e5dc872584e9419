"""A login that lasts: calls with a token that is renewed in time, and drawn anew when it is dead."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from keyturn.bodies import seconds
from keyturn.domain.errors import StoreError
from keyturn.stores.vault.faults import denied
from keyturn.stores.vault.login import Grant, Login
from keyturn.stores.vault.transport import Answer, ListedAdapter

# Renewed when two thirds of the lease are over, as Vault's own agent does; a few per cent earlier or
# later, so that a fleet that started at once does not renew at once.
_DUE, _SPREAD = 2 / 3, 0.05
# A renewal that grants less than this part of the first lease has met the token's maximum: it would be
# asked again ever faster and then die (seen with OpenBao 2.6.2, 2026-11-21).
_WORTH_RENEWING = 0.5
# A token within this time of its end may die on the way.
_LAST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Token:
    grant: Grant
    #: The lease of the login, which renewals are measured against.
    full: float
    due: float
    ends: float


class Session:
    """Makes calls with a valid token. Safe for many threads.

    Args:
        name: of the store, for messages.
        adapter: the way to the server.
        login: logs in.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        name: str,
        adapter: ListedAdapter,
        login: Login,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._adapter = adapter
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._token: _Token | None = None

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        changes: bool = False,
    ) -> Answer:
        """Make a call to `/v1/<path>`; log in again once if the token turns out to be dead.

        Raises:
            StoreError: as of the adapter and the login. Answers of other statuses are given back.
        """
        token = self._valid()
        answer = self._send(token, method, path, body, params, changes)
        if answer.status != 403 or self._lives(token):
            return answer
        again = self._send(self._replaced(token), method, path, body, params, changes)
        return Answer(again.status, again.body, lost=answer.lost or again.lost, date=again.date)

    @property
    def place(self) -> int:
        """The address that the next call goes to first, by its number."""
        return self._adapter.preferred

    def leave(self, place: int, pause: float) -> None:
        """Go on at the next address than this, after a pause in seconds: it gave an old answer."""
        self._adapter.leave(place)
        self._adapter.pause(pause)

    def lookup(self) -> Answer:
        """Ask the server what it knows of our token."""
        return self._send(self._valid(), "get", "auth/token/lookup-self", None, None, changes=False)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._adapter.close()

    def _send(
        self,
        token: _Token,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        changes: bool,
    ) -> Answer:
        return self._adapter.call(
            method, f"/v1/{path}", token=token.grant.token, body=body, params=params, changes=changes
        )

    def _valid(self) -> _Token:
        token, now = self._token, self._clock()
        if token is not None and now < token.due:
            return token
        if token is not None and now < token.ends:
            # It still works: one thread renews, the others need not wait for it.
            if not self._lock.acquire(blocking=False):
                return token
        else:
            self._lock.acquire()
        try:
            if self._token is not token and self._token is not None:
                return self._token
            self._token = self._refreshed(token)
            return self._token
        finally:
            self._lock.release()

    def _refreshed(self, token: _Token | None) -> _Token:
        """Renew while that is worth it, else log in. Called with the lock held."""
        now = self._clock()
        if token is None or now >= token.ends:
            # Past its end by our clock it counts as dead, whether the server can be asked or not.
            return self._drawn()
        # A login that is refused now is told when the token that still lives has ended.
        with suppress(StoreError):
            renewed = self._renewed(token)
            if renewed is not None:
                return renewed
            if not self._login.by_token:
                return self._drawn()
        # Nothing better is to be had now: use it to its end, and look again halfway there.
        return _Token(token.grant, token.full, now + (token.ends - now) / 2, token.ends)

    def _renewed(self, token: _Token) -> _Token | None:
        if not token.grant.renewable:
            return None
        answer = self._adapter.call("post", "/v1/auth/token/renew-self", token=token.grant.token, body={})
        auth = answer.body.get("auth")
        if answer.status != 200 or not isinstance(auth, dict):
            return None
        lease = seconds(auth.get("lease_duration") or 0)
        if lease is None:
            return None
        if lease and lease < token.full * _WORTH_RENEWING and not self._login.by_token:
            return None
        grant = Grant(token.grant.token, lease, bool(auth.get("renewable")))
        return self._timed(grant, token.full)

    def _drawn(self) -> _Token:
        grant = self._login()
        return self._timed(grant, grant.lease)

    def _timed(self, grant: Grant, full: float) -> _Token:
        if not grant.lease:
            return _Token(grant, full, float("inf"), float("inf"))
        now = self._clock()
        share = _DUE + random.uniform(-_SPREAD, _SPREAD)  # noqa: S311 - it only spreads the load
        return _Token(grant, full, now + grant.lease * share, now + max(0.0, grant.lease - _LAST_SECONDS))

    def _lives(self, token: _Token) -> bool:
        """Ask whether a token that was refused is alive: the refusal's text does not tell."""
        if self._token is not token:
            return False
        answer = self._adapter.call("get", "/v1/auth/token/lookup-self", token=token.grant.token)
        return answer.status == 200

    def _replaced(self, dead: _Token) -> _Token:
        with self._lock:
            if self._token is dead or self._token is None:
                fresh = self._drawn()
                if self._login.by_token and fresh.grant.token == dead.grant.token:
                    raise denied(
                        f"The token of the store {self._name} is expired, revoked, or has no rights there.",
                        "Put a valid token where the inventory says, or log in by another method.",
                    )
                self._token = fresh
            return self._token
