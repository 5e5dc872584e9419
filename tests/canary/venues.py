"""The simulated exchanges of this suite: every secret that they issue begins with the canary.

An account can be spoiled: its next new key is made, and the answer that shows its secret is one that the
driver does not expect (a refusal with the whole body, a page of HTML, a body that is cut, ...).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from aiohttp import web

from keyturn.client import webhook
from keyturn.domain.labels import fingerprint
from keyturn.simulator import SimBybit, SimDeribit, SimExchange, SimOkx
from keyturn.simulator.state import SimAccount, SimKey
from keyturn.simulator.wire import Call, Reply, alphanumeric

T = TypeVar("T")


def _with(change: Callable[[dict[str, Any], str], Any]) -> Callable[[Reply], Reply]:
    def spoil(reply: Reply) -> Reply:
        body = reply.encode().decode()
        return Reply(change(json.loads(body), body), 200)

    return spoil


#: Ways in which an answer with a secret comes back other than documented.
SPOILED: dict[str, Callable[[Reply], Reply]] = {
    "unknown code": _with(
        lambda _, text: {
            "retCode": 99999,
            "retMsg": text,
            "code": "99999",
            "msg": text,
            "error": {"code": 99999, "message": text, "data": text},
        }
    ),
    "bad key": _with(
        lambda _, text: {
            "retCode": 10003,
            "retMsg": text,
            "code": "50111",
            "msg": text,
            "error": {"code": 13004, "message": text},
        }
    ),
    "page": lambda reply: Reply(b"<html>" + reply.encode() + b"</html>", 200, content_type="text/html"),
    "cut": lambda reply: Reply(reply.encode()[:-3], 200),
    "list": _with(lambda body, _: [body]),
    "other names": lambda reply: Reply(
        reply.encode().replace(b"secret", b"sekret").replace(b"piKey", b"pi"), 200
    ),
    "server error": lambda reply: Reply(reply.encode(), 500),
    "gateway": lambda reply: Reply(reply.encode(), 502, content_type="text/plain"),
    # Not 403: that is a ban, for which all credentials of the account would wait.
    "refused": lambda reply: Reply(reply.encode(), 401),
    "moved": lambda reply: Reply(reply.encode(), 302),
}
#: Those that differ from venue to venue: each driver has its own way to read them.
IN_ITS_WORDS = {"unknown code", "bad key", "list", "other names"}


class _Marked(SimExchange):
    """Mixed into a simulated exchange."""

    canary: str
    spoiled: dict[str, str]
    _minted: str | None = None

    def new_secret(self) -> str:
        return self.canary + alphanumeric(20)

    def mint(self, call: Call, account: SimAccount, *args: Any, **kwargs: Any) -> SimKey:
        self._minted = account.name
        return super().mint(call, account, *args, **kwargs)

    def answer(self, call: Call) -> Reply:
        self._minted = None
        reply = super().answer(call)
        kind = self.spoiled.pop(self._minted, None) if self._minted else None
        return SPOILED[kind](reply) if kind else reply

    def secrets(self) -> list[str]:
        """Every secret and passphrase that there ever was."""
        return [
            text
            for account in self.accounts.values()
            for key in (*account.keys.values(), *account.buried)
            for text in (key.secret.value, key.passphrase)
            if text
        ]


class Bybit(_Marked, SimBybit):
    """Bybit."""


class Okx(_Marked, SimOkx):
    """OKX."""

    def new_passphrase(self) -> str:
        return f"{self.canary}-aA1{alphanumeric(6)}"


class Deribit(_Marked, SimDeribit):
    """Deribit."""


class Street:
    """The three exchanges and a service that takes notices, served by a thread of this process."""

    def __init__(self, canary: str, hmac_key: str) -> None:
        self.exchanges: dict[str, _Marked] = {
            "bybit": Bybit(),
            "okx": Okx(),
            "deribit": Deribit(key_limit=1000),
        }
        for exchange in self.exchanges.values():
            exchange.canary, exchange.spoiled = canary, {}
        #: Every notice as it came: headers and body.
        self.notices: list[bytes] = []
        self.hook_url = ""
        #: Of the journal, by which fingerprints are made; the service behind the hook knows the keys by them.
        self.salt = b""
        self._hmac_key = hmac_key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for exchange in self.exchanges.values():
            self._do(exchange.start())
        self.hook_url = self._do(self._serve())
        return self

    def __exit__(self, *_: object) -> None:
        for exchange in self.exchanges.values():
            self._do(exchange.stop())
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self) -> str:
        self._runner = web.ServerRunner(web.Server(self._take, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    def _secret_of(self, print_: str) -> str:
        """Be the bot behind the hook, which holds the key that it is told of."""
        return next(
            key.secret.value
            for venue, exchange in self.exchanges.items()
            for account in exchange.accounts.values()
            for key in account.keys.values()
            if fingerprint(self.salt, venue, key.ref) == print_
        )

    async def _take(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.notices.append(request.raw_path.encode() + repr(request.raw_headers).encode() + body)
        notice = webhook.verify(body, request.headers.get(webhook.HEADER), self._hmac_key)
        secret = self._secret_of(notice.fingerprint)
        answer, headers = webhook.sign_ack(notice, self._hmac_key, secret=secret)
        return web.Response(body=answer, headers=headers)
