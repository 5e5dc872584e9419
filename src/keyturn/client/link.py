"""Hooks one ccxt exchange object up to the current credential.

Facts about ccxt 4.5.90 that this rests on (read in its source, 2026-11-21): every implicit and unified
REST method ends in `fetch2`, which waits for the rate limiter, calls `sign`, which never awaits, and then
sends. So `sign` is the one place where the key is looked at: setting key, secret and passphrase there,
under a lock, means that no request carries a mixture and that a request in flight keeps its signature.
Every `sign` but four calls `check_required_credentials` for private paths only.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from keyturn.client.holder import Holder, Loaded, log
from keyturn.client.mailbox import NoticeMessage
from keyturn.client.refusal import is_refused_key
from keyturn.client.streams import PrivateStream, Streams
from keyturn.domain.errors import RefusedError

#: ccxt's names for the parts of a credential.
FIELDS = {"api_key": "apiKey", "secret": "secret", "passphrase": "password"}
_MARK = "_keyturn_link"


@dataclass(slots=True)
class _Call:
    """What is known about one pass through `fetch2`."""

    #: What it was signed with; None while it is not signed, or with another key than the holder's.
    loaded: Loaded | None = None
    signed: bool = False

    @property
    def version(self) -> str:
        """The version that it was signed with."""
        return self.loaded.version if self.loaded else ""


_CALL: ContextVar[_Call | None] = ContextVar("keyturn_call", default=None)


def _carries(request: object, api_key: str) -> bool:
    """Tell whether a request that `sign` built names the key."""
    if not isinstance(request, dict):
        return False
    headers = request.get("headers")
    values = [request.get("url"), request.get("body")]
    values += list(headers.values()) if isinstance(headers, dict) else []
    return any(isinstance(value, str) and api_key in value for value in values)


def _describe(args: tuple[Any, ...]) -> str:
    """Name a call by its HTTP method and path, without parameters."""
    path = str(args[0]) if args else "?"
    method = str(args[2]) if len(args) > 2 else "GET"
    return f"{method} {path}"[:200]


class Link:
    """Keeps one exchange object on the holder's current version.

    Args:
        exchange: a ccxt exchange: sync, async or pro.
        holder: of the credential.
        loop: the event loop that an async exchange is used in; None to take the one that it reports.

    Raises:
        RefusedError: the object is no ccxt exchange, or is attached already.
    """

    def __init__(self, exchange: Any, holder: Holder, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if not all(hasattr(exchange, name) for name in ("fetch2", "sign", "apiKey")):
            raise RefusedError(
                f"A {type(exchange).__name__} is not a ccxt exchange.",
                todo="Pass the exchange object, or use keyturn.client.current() without ccxt.",
            )
        if getattr(exchange, _MARK, None) is not None:
            raise RefusedError(
                "This exchange object is attached already.", todo="Detach it first, or attach another one."
            )
        self.exchange = exchange
        self.holder = holder
        self.is_async = inspect.iscoroutinefunction(type(exchange).fetch2)
        has_streams = self.is_async and hasattr(exchange, "watch")
        self.streams = Streams(exchange, self._freshen, self._set_version) if has_streams else None
        self.callbacks: list[Callable[[str], None]] = []
        #: Keeps the watcher for as long as the exchange object lives; see there.
        self.watcher: object = None
        #: Called at the next call, once.
        self.resume: Callable[[], None] | None = None
        self._loop = loop
        self._lock = threading.RLock()
        self._applied = ""
        self._hooked: list[str] = []

    def hook(self) -> None:
        """Set the current key and put the hooks in."""
        self._apply()
        sign = self.exchange.sign
        check = self.exchange.check_required_credentials

        def sign_with_current(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                loaded = self._apply()
                call = _CALL.get()
                if call is not None:
                    call.loaded = loaded
                request = sign(*args, **kwargs)
                # Another thread of the bot may have set fields of its own meanwhile: that proves nothing.
                if call is not None and self.exchange.apiKey != loaded.material.key_ref:
                    call.loaded = None
                # The four venues whose `sign` checks nothing: a private path that names the key.
                if call is not None and not call.signed and "public" not in str(args[1:2]).lower():
                    call.signed = _carries(request, loaded.material.key_ref)
                return request

        def check_and_note(*args: Any, **kwargs: Any) -> Any:
            call = _CALL.get()
            if call is not None:
                call.signed = True
            return check(*args, **kwargs)

        self._put("sign", sign_with_current)
        self._put("check_required_credentials", check_and_note)
        self._put("fetch2", self._fetch2_async() if self.is_async else self._fetch2_sync())
        self._put(_MARK, self)
        if self.streams is not None:
            self.streams.hook()

    def unhook(self) -> None:
        """Take the hooks out; the exchange stays on the key that it has."""
        with self._lock:
            for name in self._hooked:
                self.exchange.__dict__.pop(name, None)
            self._hooked.clear()
            if self.streams is not None:
                self.streams.unhook()

    def hooked_names(self) -> list[str]:
        """Name the attributes that a copy of the exchange must not carry."""
        return [*self._hooked, *(self.streams.hooked if self.streams else [])]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that an async exchange runs in, if it runs."""
        loop = self._loop or getattr(self.exchange, "asyncio_loop", None)
        return loop if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_running() else None

    def ready_for(self, notice: NoticeMessage) -> PrivateStream | None:
        """Tell what became of the private streams since this object came to a notice's key.

        Returns:
            None while it is on another key, or a stream is open.
        """
        # Not for long: who holds the lock may wait in a callback for the thread that asks here.
        if not self._lock.acquire(timeout=0.1):
            return None
        try:
            current = self.holder.current
            # An async object whose loop does not run has no stream, and swaps at its next call.
            idle = self.is_async and self.loop is None
            if not notice.is_about(current) or not (self._applied == current.version or idle):
                return None
            return self.streams.status() if self.streams else "none"
        finally:
            self._lock.release()

    def after_fork(self, resume: Callable[[], None]) -> None:
        """Begin anew in a forked process: a thread that it lacks may hold the lock."""
        self._lock = threading.RLock()
        self.resume = resume

    def swap_soon(self) -> None:
        """Bring the exchange to the current version without waiting for its next call. From any thread."""
        if not self.is_async:
            with self._lock:
                self._apply()
            return
        # An async exchange is touched on its own loop only. One that does not run yet swaps at its next call.
        loop = self.loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._apply_if_hooked)
            except RuntimeError:
                log.debug("the event loop of %s has closed", self.holder.credential)

    def _apply_if_hooked(self) -> None:
        with self._lock:
            if self._hooked:
                self._apply()

    def _apply(self) -> Loaded:
        """Set the current version's values, all of them, if they are not set. No await in here."""
        if self.resume is not None:
            resume, self.resume = self.resume, None
            resume()
        loaded = self.holder.current
        values = loaded.material.reveal()
        for ours, theirs in FIELDS.items():
            # By the values, for code of the bot's own may have set another key since.
            if ours in values and getattr(self.exchange, theirs) != values[ours]:
                setattr(self.exchange, theirs, values[ours])
        if loaded.version != self._applied:
            first, self._applied = not self._applied, loaded.version
            if not first:
                if self.streams is not None:
                    self.streams.renew(self.loop)
                self._tell(loaded.fingerprint)
        return loaded

    def _set_version(self) -> str:
        """Set the current version before a login, which reads the fields itself, and name it."""
        self._apply_if_hooked()
        return self._applied

    async def _freshen(self, version: str, error: Exception) -> bool:
        """After a login that was refused: tell whether there is another key by now, and set it."""
        if not is_refused_key(error, self.exchange) or not await asyncio.to_thread(
            self.holder.superseded, version
        ):
            return False
        self._apply_if_hooked()
        return True

    def _tell(self, fingerprint: str) -> None:
        for callback in self.callbacks:
            try:
                callback(fingerprint)
            except Exception as error:  # noqa: BLE001 - the bot's own code must not break the bot's call
                log.warning("an on_swap callback failed: %s", type(error).__name__)

    def _note(self, call: _Call, args: tuple[Any, ...]) -> None:
        if call.signed:
            self.holder.note_success(call.loaded, _describe(args))

    def _fetch2_sync(self) -> Callable[..., Any]:
        original = self.exchange.fetch2

        def once(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            token = _CALL.set(call)
            try:
                answer = original(*args, **kwargs)
            finally:
                _CALL.reset(token)
            self._note(call, args)
            return answer

        def fetch2(*args: Any, **kwargs: Any) -> Any:
            call = _Call()
            try:
                return once(call, args, kwargs)
            except Exception as error:
                # The venue did not act on a caller whom it refused: repeating is safe for orders too.
                if not (
                    call.signed
                    and is_refused_key(error, self.exchange)
                    and self.holder.superseded(call.version)
                ):
                    raise
            return once(_Call(), args, kwargs)

        return fetch2

    def _fetch2_async(self) -> Callable[..., Any]:
        original = self.exchange.fetch2

        async def once(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            token = _CALL.set(call)
            try:
                answer = await original(*args, **kwargs)
            finally:
                _CALL.reset(token)
            self._note(call, args)
            return answer

        async def fetch2(*args: Any, **kwargs: Any) -> Any:
            call = _Call()
            try:
                return await once(call, args, kwargs)
            except Exception as error:
                if not (call.signed and is_refused_key(error, self.exchange)):
                    raise
                # In a thread: opening the store must not hold up the bot's loop.
                if not await asyncio.to_thread(self.holder.superseded, call.version):
                    raise
            return await once(_Call(), args, kwargs)

        return fetch2

    def _put(self, name: str, value: object) -> None:
        # In the instance's own dictionary: the class, and every other exchange object, stay untouched.
        self.exchange.__dict__[name] = value
        self._hooked.append(name)
