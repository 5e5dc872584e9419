"""Forward plain HTTP on loopback and say where it came from, as an egress proxy with an address of its own.

``async with EgressProxy(forwarded_for="203.0.113.7") as proxy`` listens at ``proxy.url``. A simulated
exchange with ``trust_forwarded`` then sees calls from 203.0.113.7 (an address that RFC 5737 keeps for
documentation).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, web
from multidict import CIMultiDict
from yarl import URL

# RFC 9110 7.6.1: these concern one connection only. The length is set anew.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
    }
)


class EgressProxy:
    """A forward proxy that reaches loopback only; ``calls`` counts what it passed on."""

    def __init__(self, *, forwarded_for: str, port: int = 0) -> None:
        self.forwarded_for = forwarded_for
        self.calls = 0
        self._port = port
        self._runner: web.ServerRunner | None = None
        self._session: ClientSession | None = None

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=None)
        )
        # aiohttp repeats a GET by itself when a connection breaks; a proxy must not make one call into two.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public switch (aiohttp 3.14)
        self._runner = web.ServerRunner(web.Server(self._forward, access_log=None), shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._session is None or not request.raw_path.startswith("http://"):
            return web.Response(status=501, text="this proxy forwards plain http only")
        target = URL(request.raw_path, encoded=True)
        if not _is_loopback(target.host or ""):
            return web.Response(status=403, text="this proxy reaches loopback only")
        self.calls += 1
        headers = _passed_on(request.headers)
        headers["X-Forwarded-For"] = self.forwarded_for
        body = await request.read()
        try:
            async with self._session.request(
                request.method, target, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                content = await answer.read()
                return web.Response(body=content, status=answer.status, headers=_passed_on(answer.headers))
        except ClientError:
            # What was cut behind the proxy is cut before it, too.
            if request.transport is not None:
                request.transport.abort()
            return web.Response()


def _passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept = CIMultiDict[str]()
    for name, value in headers.items():
        if name.lower() not in _HOP_BY_HOP:
            kept.add(name, value)
    return kept


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
