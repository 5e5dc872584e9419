"""What every call on an attached exchange object passes through: signed with the current key, and noted.

Facts about ccxt 4.5.90 that this rests on (read in its source, 2026-11-21): every implicit and unified
REST method ends in `fetch2`, which waits for the rate limiter, calls `sign`, which never awaits, and then
sends. So `sign` is the one place where the key is looked at: giving key, secret and passphrase of one version
there, under a lock, means that no request carries a mixture and that a request in flight keeps its signature.
Every `sign` but four calls `check_required_credentials` for private paths only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyturn.client import readings
from keyturn.client.holder import Loaded
from keyturn.client.refusal import fault_of, is_refused_key

if TYPE_CHECKING:
    from keyturn.client.link import Link


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


def hooks(link: Link) -> dict[str, Callable[..., Any]]:
    """Give what the calls of an object pass through, by the method's name."""
    return {
        "sign": _sign(link),
        "check_required_credentials": _check(link),
        "fetch2": _fetch2_async(link) if link.is_async else _fetch2_sync(link),
    }


def _sign(link: Link) -> Callable[..., Any]:
    original = link.original("sign")

    def sign(*args: Any, **kwargs: Any) -> Any:
        with link.applied() as loaded:
            with readings.of(link, loaded):
                request = original(*args, **kwargs)
            call = _CALL.get()
            if call is not None:
                # The bot may have set fields of its own meanwhile: that proves nothing.
                call.loaded = loaded if link.active else None
                # The four venues whose `sign` checks nothing: a private path that names the key.
                if loaded and not call.signed and "public" not in str(args[1:2]).lower():
                    call.signed = _carries(request, loaded.material.key_ref)
            return request

    return sign


def _check(link: Link) -> Callable[..., Any]:
    original = link.original("check_required_credentials")

    def check(*args: Any, **kwargs: Any) -> Any:
        call = _CALL.get()
        if call is not None:
            call.signed = True
        return original(*args, **kwargs)

    return check


def _fetch2_sync(link: Link) -> Callable[..., Any]:
    original = link.original("fetch2")

    def once(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = _CALL.set(call)
        try:
            answer = original(*args, **kwargs)
        except Exception as error:
            _note(link, call, args, error)
            raise
        finally:
            _CALL.reset(token)
        _note(link, call, args)
        return answer

    def fetch2(*args: Any, **kwargs: Any) -> Any:
        call = _Call()
        try:
            return once(call, args, kwargs)
        except Exception as error:
            # The venue did not act on a caller whom it refused: repeating is safe for orders too.
            if not (
                call.signed and is_refused_key(error, link.exchange) and link.holder.superseded(call.version)
            ):
                raise
        return once(_Call(), args, kwargs)

    return fetch2


def _fetch2_async(link: Link) -> Callable[..., Any]:
    original = link.original("fetch2")

    async def once(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = _CALL.set(call)
        try:
            answer = await original(*args, **kwargs)
        except Exception as error:
            _note(link, call, args, error)
            raise
        finally:
            _CALL.reset(token)
        _note(link, call, args)
        return answer

    async def fetch2(*args: Any, **kwargs: Any) -> Any:
        call = _Call()
        try:
            return await once(call, args, kwargs)
        except Exception as error:
            if not (call.signed and is_refused_key(error, link.exchange)):
                raise
            # In a thread: opening the store must not hold up the bot's loop.
            if not await asyncio.to_thread(link.holder.superseded, call.version):
                raise
        return await once(_Call(), args, kwargs)

    return fetch2


def _note(link: Link, call: _Call, args: tuple[Any, ...], error: Exception | None = None) -> None:
    if not call.signed:
        return
    if error is None:
        link.holder.note_success(call.loaded, _describe(args))
    else:
        link.holder.note_refusal(call.loaded, _describe(args), fault_of(error, link.exchange))


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
