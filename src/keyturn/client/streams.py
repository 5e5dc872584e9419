"""Moves the private websocket streams of a ccxt.pro exchange to a new key, unseen by the bot.

ccxt.pro logs in once per connection, with the key of that moment, and holds the connection in
`exchange.clients` by its address. After a swap the connection is taken out of there, so that the next
`watch_*` opens another and logs in anew; the `watch_*` calls that wait on it are started again; and the old
one stays open a little longer, so that what it still delivers reaches the exchange's caches.
Requests that were sent over it (orders) are left to be answered: they are never repeated.
(ccxt 4.5.90, read 2026-11-21.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Literal

from keyturn.client.hooked import base_of, stream_names
from keyturn.client.refusal import is_refused_key

#: What 51 of ccxt.pro's venues name the subscription that stands for "logged in".
_LOGIN_HASHES = frozenset({"authenticated", "authenticate", "auth"})
#: What ccxt.pro keeps in `options` of a login made by an earlier key.
_TOKENS = frozenset(
    {
        "listenKey",
        "listenKeyUrl",
        "lastAuthenticatedTime",
        "listenKeyExpiryTimestamp",
        "wsSessionToken",
        "wsToken",
        "wsTokenTimestamp",
        "utaToken",
        "utaTokenLastUpdate",
    }
)
#: Seconds that the old connection stays open: enough for a login and a subscription anywhere on earth.
LINGER = 5.0
#: Seconds after which a bot that has not opened its private stream again is taken to need it no more.
PATIENCE = 30.0

_STARTED: ContextVar[int | None] = ContextVar("keyturn_watch", default=None)
#: The addresses that the login under way has asked a connection for.
_LOGIN: ContextVar[set[str] | None] = ContextVar("keyturn_login", default=None)

#: One private connection: its address, or where ccxt.pro keeps the token that is in its address.
Mark = str | tuple[str, str]

PrivateStream = Literal["none", "logged_in", "not_reopened"]


class _RenewedError(Exception):
    """The connection that a `watch_*` call waited on was exchanged for another."""


class Streams:
    """The websocket side of one async exchange. Used on its event loop only.

    Args:
        exchange: the ccxt.pro object.
        freshen: told of the refusal of a `watch_*` call that began with the given version; tells whether
            another one is set now.
        version: sets the current version on the exchange, and names it.
    """

    def __init__(
        self,
        exchange: Any,
        freshen: Callable[[str, Exception], Awaitable[bool]],
        version: Callable[[], str],
    ) -> None:
        self.exchange = exchange
        self._freshen = freshen
        self._version = version
        self._generation = 0
        self._watched: set[tuple[str, str]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._renewed_at = 0.0
        self._owed: set[Mark] = set()
        self._failed: set[str] = set()

    def status(self) -> PrivateStream | None:
        """Tell what became of the private streams since the swap; None while that is open for one of them."""
        if self._failed:
            return None
        if not self._renewed_at:
            return "none"
        if not self._owed:
            return "logged_in"
        if time.monotonic() - self._renewed_at < PATIENCE:
            return None
        return "not_reopened"

    def hooks(self, original: Callable[[str], Any]) -> dict[str, Callable[..., Any]]:
        """Give what the calls pass through, by the method's name.

        Args:
            original: gives the method without hooks.
        """
        around: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
            "watch": self._recording,
            "watch_multiple": self._recording,
            "client": self._naming,
            "authenticate": self._noting,
        }
        names = stream_names(base_of(self.exchange))
        return {name: around.get(name, self._restarting)(original(name)) for name in names}

    def renew(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Retire the connections that an earlier key logged in. Called right after the swap, on the loop."""
        tokens = _drop_tokens(self.exchange.options)
        clients = self.exchange.clients or {}
        marks = {url: _mark_of(url, client, tokens) for url, client in clients.items()}
        private = [url for url, mark in marks.items() if mark is not None]
        self._owed, self._failed = {mark for mark in marks.values() if mark is not None}, set()
        self._renewed_at = 0.0
        if not private or loop is None:
            return
        self._renewed_at = time.monotonic()
        self._generation += 1
        for url in private:
            client = clients.pop(url)
            # ccxt's own callbacks drop whatever connection has this address: that is the new one by then.
            client.on_close_callback = client.on_error_callback = lambda *_: None
            for message_hash in [h for h in client.futures if (url, h) in self._watched]:
                future = client.futures.pop(message_hash)
                future.add_done_callback(lambda f: f.cancelled() or f.exception())
                future.reject(_RenewedError())
            task = loop.create_task(_retire(client))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._watched = {pair for pair in self._watched if pair[0] not in private}

    def _restarting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def watch(*args: Any, **kwargs: Any) -> Any:
            if _STARTED.get() is not None:
                return await original(*args, **kwargs)
            again = True
            while True:
                version, token = self._version(), _STARTED.set(self._generation)
                try:
                    return await original(*args, **kwargs)
                except _RenewedError:
                    continue
                except Exception as error:
                    if not again or not await self._freshen(version, error):
                        raise
                    again = False
                finally:
                    _STARTED.reset(token)

        return watch

    def _recording(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def watch(url: str, hashes: str | list[str], *args: Any, **kwargs: Any) -> Any:
            started = _STARTED.get()
            if started is not None:
                if started != self._generation:
                    # This call logged in on the connection before: it must not subscribe on the new one.
                    raise _RenewedError
                for message_hash in [hashes] if isinstance(hashes, str) else hashes:
                    self._watched.add((url, message_hash))
            return original(url, hashes, *args, **kwargs)

        return watch

    def _naming(self, original: Callable[[str], Any]) -> Callable[[str], Any]:
        def client(url: str) -> Any:
            login = _LOGIN.get()
            if login is not None:
                login.add(url)
            return original(url)

        return client

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def authenticate(*args: Any, **kwargs: Any) -> Any:
            self._version()
            generation, urls = self._generation, set[str]()
            token = _LOGIN.set(urls)
            try:
                answer = await original(*args, **kwargs)
            except _RenewedError:
                raise
            except Exception as error:
                # Where no stream is owed, one that could not be reached says nothing about the key.
                if generation == self._generation and (self._owed or is_refused_key(error, self.exchange)):
                    self._failed |= urls or {""}
                raise
            finally:
                _LOGIN.reset(token)
            if generation == self._generation:
                self._owed -= urls | _tokens_in(self.exchange.options).keys()
                self._failed -= urls | {""}
            return answer

        return authenticate


def _places(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"": options, **{name: value for name, value in options.items() if isinstance(value, dict)}}


def _tokens_in(options: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Give the tokens of the logins, by which the addresses are known, and where each is kept."""
    return {
        (name, key): value
        for name, place in _places(options).items()
        for key in _TOKENS & place.keys()
        if isinstance(value := place[key], str) and value
    }


def _drop_tokens(options: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Forget the logins of the key before; give back their tokens."""
    dropped = _tokens_in(options)
    for place in _places(options).values():
        for key in _TOKENS & place.keys():
            del place[key]
    return dropped


def _mark_of(url: str, client: Any, tokens: dict[tuple[str, str], str]) -> Mark | None:
    """Tell by what a private connection is known again after its next login; None for a public one."""
    place = next((place for place, token in tokens.items() if token in url), None)
    known = _LOGIN_HASHES & (client.subscriptions.keys() | client.futures.keys())
    return place or (url if known else None)


async def _retire(client: Any) -> None:
    await asyncio.sleep(LINGER)
    if client.futures:
        # Requests that are still unanswered end as they would when the venue closes the connection.
        from ccxt import NetworkError

        for future in client.futures.values():
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
        client.reject(NetworkError("the connection was renewed for a new key"))
    await client.close()
