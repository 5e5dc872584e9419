"""Hooks one ccxt exchange object up to the current credential, and knows when it is so no more."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keyturn.client import calls, copies, hooked, readings
from keyturn.client.holder import Holder, Loaded, log
from keyturn.client.messages import NoticeMessage
from keyturn.client.refusal import is_refused_key
from keyturn.client.streams import PrivateStream, Streams
from keyturn.domain.errors import RefusedError


class Link:
    """Keeps one exchange object on the holder's current version.

    Args:
        exchange: a ccxt exchange: sync, async or pro.
        holder: of the credential.
        loop: the event loop that an async exchange is used in; None to take the one that it reports.
        recipe: what attaches the object again when it comes out of a pickle; None for one that is then plain.

    Raises:
        RefusedError: the object is no ccxt exchange, or is attached already.
    """

    def __init__(
        self,
        exchange: Any,
        holder: Holder,
        loop: asyncio.AbstractEventLoop | None = None,
        recipe: copies.Recipe | None = None,
    ) -> None:
        _leave(exchange)
        self.exchange = exchange
        self.holder = holder
        self.recipe = recipe
        #: Whether it follows another object's attachment, being a copy of that object.
        self.is_copy = False
        #: False once it is detached, or the bot has set another key.
        self.active = False
        #: Whether the bot has set another key.
        self.is_on_own_key = False
        #: What a call on the object passes through, by the method's name.
        self.hooks: dict[str, Callable[..., Any]] = {}
        #: What the bot had put in the place of such methods before it attached the object.
        self.set_aside: dict[str, Any] = {}
        self._base = hooked.base_of(exchange)
        self._fields = hooked.key_fields(self._base)
        self.is_async = inspect.iscoroutinefunction(self._base.fetch2)  # type: ignore[attr-defined]
        has_streams = hooked.watches(self._base)
        self.streams = Streams(exchange, self._freshen, self._set_version) if has_streams else None
        self.callbacks: list[Callable[[str], None]] = []
        #: Keeps the watcher for as long as the exchange object lives; see there.
        self.watcher: Any = None
        #: Called at the next call, once.
        self.resume: Callable[[], None] | None = None
        self._loop = loop
        self._lock, self._stopping = threading.RLock(), threading.Lock()
        self._loaded: Loaded | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Leave nothing in a pickle that takes the object's dictionary along as it is."""
        return type(None), ()

    def hook(self) -> None:
        """Set the current key and put the hooks in."""
        for name in hooked.hooked_names(self._base):
            if name in self.exchange.__dict__:
                self.set_aside[name] = self.exchange.__dict__.pop(name)
        self.hooks = calls.hooks(self)
        if self.streams is not None:
            self.hooks |= self.streams.hooks(self.original)
        self.exchange.__class__ = hooked.hooked_class(self._base)
        self.exchange.__dict__[hooked.MARK] = self
        self.active = True
        self._apply()

    def unhook(self) -> None:
        """Take the hooks out; the exchange stays on the key that it has."""
        with self._lock:
            self._let_go()
            if self.exchange.__dict__.get(hooked.MARK) is self:
                del self.exchange.__dict__[hooked.MARK]
                self.exchange.__class__ = self._base

    def leave(self) -> None:
        """Take the hooks out, and have nobody watch the object or wait for it."""
        if self.watcher is not None:
            self.watcher.drop(self)
        self.unhook()

    def _let_go(self) -> None:
        self.active = False
        for name, value in self.set_aside.items():
            self.exchange.__dict__.setdefault(name, value)
        self.set_aside.clear()

    def original(self, name: str) -> Any:
        """Give a method of the object as it was before it was attached."""
        if name in self.set_aside:
            return self.set_aside[name]
        return getattr(self._base, name).__get__(self.exchange, self._base)

    def of_copy(self, exchange: Any) -> Link | None:
        """Have a copy of the object follow the same key, through hooks of its own.

        Returns:
            Its link; None, and the copy is a plain object, where this one is attached no more.
        """
        with self._lock:
            known: Link | None = exchange.__dict__.pop(hooked.MARK, None)
            if known is not None and known.exchange is exchange:
                exchange.__dict__[hooked.MARK] = known
                return known
            if not self.active:
                exchange.__class__ = hooked.base_of(exchange)
                return None
            link = Link(exchange, self.holder, self._loop, self.recipe)
            link.is_copy = True
            link.hook()
            if self.watcher is not None:
                self.watcher.objects.add(link, self.watcher)
            return link

    def plain_copy(self) -> Any:
        """Copy the object without the hooks, and without what the bot has put in their place."""
        base: Any = self._base
        twin = base.__new__(base)
        without = {hooked.MARK, *hooked.hooked_names(self._base)}
        twin.__dict__.update({k: v for k, v in self.exchange.__dict__.items() if k not in without})
        return twin

    def reading(self, ours: str) -> str | None:
        """Give a field of the key that calls are signed with.

        What one task or thread reads within a moment, each field once, is of one version.
        """
        return readings.read(self, self._loaded, ours) if self._loaded is not None else None

    def set_by_bot(self, place: hooked.KeyField, value: object) -> None:
        """Let the bot set a field of the key, and leave the object to it if the value is not ours."""
        with self._lock:
            place.store(self.exchange, value)
            known = [loaded.material.reveal() for loaded in (self._loaded, self.holder.current) if loaded]
            if place.ours in known[-1] and value not in [each.get(place.ours) for each in known]:
                self._stop()

    def _stop(self) -> None:
        """Leave the object to the bot, which has set another key: signing with ours would be wrong."""
        with self._stopping:
            if not self.active:
                return
            self._let_go()
            self.is_on_own_key = True
        if self.is_copy:
            # It may be of another account: nobody waits for it. The object itself is waited for.
            self.leave()
        log.warning(
            "%s of %s is attached no longer: the bot set another key on it. It is signed with that key,"
            " follows no rotation%s",
            "A copy of an exchange object" if self.is_copy else "The exchange object",
            self.holder.credential,
            "." if self.is_copy else " and confirms none. If this is meant, call detach() on its attachment.",
        )

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
            if (
                not self.active
                or not notice.is_about(current)
                or not (self._version == current.version or idle)
            ):
                return None
            return self.streams.status() if self.streams else "none"
        finally:
            self._lock.release()

    def after_fork(self, resume: Callable[[], None]) -> None:
        """Begin anew in a forked process: a thread that it lacks may hold the lock."""
        self._lock, self._stopping = threading.RLock(), threading.Lock()
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

    @contextmanager
    def applied(self) -> Iterator[Loaded | None]:
        """Hold the object on the current version, for the time that a call is signed.

        Gives what it is on; None where the bot has set another key.
        """
        with self._lock:
            yield self._apply()

    @property
    def _version(self) -> str:
        return self._loaded.version if self._loaded else ""

    def _apply_if_hooked(self) -> None:
        with self._lock:
            if self.active:
                self._apply()

    def _apply(self) -> Loaded | None:
        """Set the current version's values, all of them, if they are not set. No await in here.

        Returns:
            What the object is on now; None where the bot has set another key, which is left in place.
        """
        if self.resume is not None:
            resume, self.resume = self.resume, None
            resume()
        if not self.active:
            return None
        before, loaded = self._loaded, self.holder.current
        values = loaded.material.reveal()
        earlier = before.material.reveal() if before else {}
        for place in (f for f in self._fields if f.ours in values):
            # By the values: code of the bot's may have written them past every hook.
            stored = place.stored(self.exchange)
            if before and stored not in (values[place.ours], earlier.get(place.ours)):
                self._stop()
                return None
            if stored != values[place.ours]:
                place.store(self.exchange, values[place.ours])
        self._loaded = loaded
        if before and loaded.version != before.version:
            if self.streams is not None:
                self.streams.renew(self.loop)
            self._tell(loaded.fingerprint)
        return loaded

    def _set_version(self) -> str:
        """Set the current version before a login, which reads the fields itself, and name it."""
        self._apply_if_hooked()
        readings.forget()
        return self._version

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


def _leave(exchange: Any) -> None:
    """See that the object can be attached; one that followed another's attachment leaves that.

    Raises:
        RefusedError: it is no ccxt exchange, or is attached already.
    """
    if isinstance(exchange, type):
        raise RefusedError(
            f"{exchange.__name__} is the class of an exchange, and no exchange object.",
            now="Nothing was attached.",
            todo=f"Make an object of it first: exchange = {exchange.__name__}(); then attach(exchange, ...).",
        )
    if not all(hasattr(exchange, name) for name in ("fetch2", "sign", "apiKey")):
        raise RefusedError(
            f"A {type(exchange).__name__} is not a ccxt exchange.",
            now="Nothing was attached.",
            todo="Pass the exchange object, such as ccxt.bybit(); without ccxt use keyturn.client.current().",
        )
    link = exchange.__dict__.get(hooked.MARK)
    if link is None or link.exchange is not exchange:
        return
    if link.active and not link.is_copy:
        raise RefusedError(
            f"This exchange object is attached already, to {link.holder.credential}.",
            now="It stays so.",
            todo="Call detach() on the attachment that attach() gave, or attach another object.",
        )
    link.leave()
