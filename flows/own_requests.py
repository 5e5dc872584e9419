"""Only requests that are meant for this server reach Prefect: by its own name, and from no foreign page.

A page of another origin may send a browser's request to 127.0.0.1 (the answer alone is kept from it), and a
name of its own that it has moved to 127.0.0.1 makes it the same origin (DNS rebinding). Prefect looks at
neither the Host header nor the Origin (3.8.8, read 2026-11-28).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# RFC 9110: the request was directed at a server that does not answer for that name.
_MISDIRECTED, _FORBIDDEN = 421, 403
_FOREIGN_NAME = "This server does not answer by that name. Open it by the URL that it was started with.\n"
_FOREIGN_PAGE = "This server answers no page of another origin.\n"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")
# A page that shows the UI inside of itself could guide a person's clicks.
_UNFRAMED = (b"x-frame-options", b"DENY")


class OwnRequests:
    """An ASGI application that refuses what comes by a foreign name or from a foreign page.

    Args:
        app: gets everything else.
        hosts: names of this server, without ports.
        origins: pages that may call it besides its own.
    """

    def __init__(self, app: App, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app, self._hosts, self._origins = app, hosts, origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif (refused := self._refusal(scope)) is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, *refused)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        said: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in scope["headers"]:
            if name in said:
                said[name].append(value.decode("latin-1").lower())
        hosts, origins = said[b"host"], said[b"origin"]
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            return _MISDIRECTED, _FOREIGN_NAME
        # Behind a proxy with TLS the scheme is another; who serves a name serves both.
        if any(o not in self._origins and o.partition("://")[2] != hosts[0] for o in origins):
            return _FORBIDDEN, _FOREIGN_PAGE
        return None


def _name(host: str) -> str:
    """Give a Host header's name without its port; empty for one that is none."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else ""


def _unframed(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), _UNFRAMED]
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
