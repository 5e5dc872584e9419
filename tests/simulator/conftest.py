"""Callers that sign as the exchanges' documentation says, written without ccxt and without the simulator."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from keyturn.simulator import IssuedKey, SimBybit, SimDeribit, SimOkx


@dataclass
class Answer:
    status: int
    body: Any

    @property
    def code(self) -> int:
        """The exchange's own code, 0 when it said yes."""
        if not isinstance(self.body, dict):
            return -1
        for name in ("retCode", "code"):
            if name in self.body:
                return int(self.body[name])
        return int(self.body.get("error", {}).get("code", 0))


def _sha256(secret: str, text: str) -> bytes:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()


@dataclass
class Caller:
    """A client of one exchange; the fields let a test break one thing at a time."""

    base_url: str
    key: IssuedKey
    http: aiohttp.ClientSession
    skew_ms: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    tamper_body: bytes = b""
    tamper_query: str = ""
    forwarded_for: str = ""

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    async def send(self, method: str, target: str, body: str, headers: dict[str, str]) -> Answer:
        headers = {**headers, **self.headers}
        for name in self.drop:
            headers.pop(name, None)
        if self.forwarded_for:
            headers["X-Forwarded-For"] = self.forwarded_for
        async with self.http.request(
            method,
            URL(self.base_url + target + self.tamper_query, encoded=True),
            data=(body.encode() + self.tamper_body) or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=5),
        ) as response:
            raw = await response.read()
            try:
                return Answer(response.status, json.loads(raw))
            except ValueError:
                return Answer(response.status, raw)


class BybitCaller(Caller):
    recv_window: int = 5000

    async def get(self, path: str, **params: Any) -> Answer:
        query = urlencode(params)
        return await self.send(
            "GET", path + (f"?{query}" if query else ""), "", self._headers(query, self.recv_window)
        )

    async def post(self, path: str, **params: Any) -> Answer:
        body = json.dumps(params)
        return await self.send("POST", path, body, self._headers(body, self.recv_window))

    def _headers(self, payload: str, window: int) -> dict[str, str]:
        stamp = self.now()
        return {
            "X-BAPI-API-KEY": self.key.key_ref,
            "X-BAPI-TIMESTAMP": str(stamp),
            "X-BAPI-RECV-WINDOW": str(window),
            "X-BAPI-SIGN": _sha256(self.key.secret, f"{stamp}{self.key.key_ref}{window}{payload}").hex(),
            "Content-Type": "application/json",
        }


class OkxCaller(Caller):
    async def get(self, path: str, **params: Any) -> Answer:
        target = path + (f"?{urlencode(params)}" if params else "")
        return await self.send("GET", target, "", self._headers("GET", target, ""))

    async def post(self, path: str, **params: Any) -> Answer:
        body = json.dumps(params)
        return await self.send("POST", path, body, self._headers("POST", path, body))

    def _headers(self, method: str, target: str, body: str) -> dict[str, str]:
        moment = datetime.fromtimestamp(self.now() / 1000, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        sign = base64.b64encode(_sha256(self.key.secret, stamp + method + target + body)).decode()
        return {
            "OK-ACCESS-KEY": self.key.key_ref,
            "OK-ACCESS-SIGN": sign,
            "OK-ACCESS-TIMESTAMP": stamp,
            "OK-ACCESS-PASSPHRASE": self.key.passphrase,
            "Content-Type": "application/json",
        }


class DeribitCaller(Caller):
    _nonces = itertools.count(1)
    nonce: str = ""

    async def get(self, method: str, **params: Any) -> Answer:
        target = f"/api/v2/private/{method}" + (f"?{urlencode(params)}" if params else "")
        return await self.send("GET", target, "", self._headers("GET", target, ""))

    async def rpc(self, method: str, **params: Any) -> Answer:
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": f"private/{method}", "params": params})
        return await self.send("POST", "/api/v2", body, self._headers("POST", "/api/v2", body))

    def _headers(self, method: str, target: str, body: str) -> dict[str, str]:
        stamp, nonce = self.now(), self.nonce or f"n{next(self._nonces)}"
        text = f"{stamp}\n{nonce}\n{method}\n{target}\n{body}\n"
        sign = _sha256(self.key.secret, text).hex()
        credentials = f"id={self.key.key_ref},ts={stamp},nonce={nonce},sig={sign}"
        return {"Authorization": f"deri-hmac-sha256 {credentials}"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        # aiohttp repeats a GET by itself when a connection breaks; a test must see the break.
        session._retry_connection = False
        yield session


@dataclass
class World:
    """One exchange with a master key, a bot's account, and a way to call as any key."""

    sim: Any
    master: IssuedKey
    caller: type[Caller]
    http: aiohttp.ClientSession

    def calls(self, key: IssuedKey, /, **changes: Any) -> Any:
        caller = self.caller(self.sim.base_url, key, self.http)
        for name, value in changes.items():
            setattr(caller, name, value)
        return caller

    @property
    def manager(self) -> Any:
        return self.calls(self.master)


@pytest.fixture
async def bybit(http: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with SimBybit(trust_forwarded=True) as sim:
        sim.add_account("main", uid="1001")
        sim.add_account("bot", parent="main", uid="2002", key_limit=30)
        master = sim.add_key("main", ["Wallet.SubMemberTransfer"])
        yield World(sim, master, BybitCaller, http)


@pytest.fixture
async def okx(http: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with SimOkx(trust_forwarded=True) as sim:
        sim.add_account("main", uid="1001")
        sim.add_account("bot", parent="main", uid="2002")
        master = sim.add_key("main", ["read_only", "trade"], ips=["127.0.0.1"])
        yield World(sim, master, OkxCaller, http)


@pytest.fixture
async def deribit(http: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with SimDeribit(trust_forwarded=True) as sim:
        sim.add_account("main", uid="1001")
        master = sim.add_key("main", ["account:read_write"], label="manager")
        yield World(sim, master, DeribitCaller, http)


@pytest.fixture
def worlds(bybit: World, okx: World, deribit: World) -> dict[str, World]:
    return {"bybit": bybit, "okx": okx, "deribit": deribit}
