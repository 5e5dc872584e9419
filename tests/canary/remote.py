"""Vault and AWS for this suite: logins and tokens are canaries too, and gates give every kind of bad answer.

A gate is an address of its own in front of a server. The worst of them quote the whole request, headers
and body, in what they answer, and AWS's own errors do quote parts of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import pytest
from aiohttp import web

from keyturn.simulator.vault import VaultSimulator, _Role
from keyturn.simulator.vault_kv import KvMount
from keyturn.simulator.vault_rights import Token

T = TypeVar("T")

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/keyturn"
#: Name of a healthy store -> its fields in the inventory.
REMOTE = ("vault", "aws", "params")
#: What a gate does to every request that comes to it.
GATES = (
    *("refused", "cut-before", "cut-after", "half", "page", "moved"),
    *("400", "403", "404", "429", "500", "503"),
    # These let reads through.
    *("cut-before-writes", "cut-after-writes", "page-writes", "403-writes", "500-writes"),
)
_READS = ("Get", "Describe", "List")
_STS_SECRETS = re.compile(rb"<(SecretAccessKey|SessionToken)>([^<]*)<")


class Remote:
    """The servers, and the gates before them; served by a thread of this process and one child."""

    def __init__(self, login: str, apart: Path) -> None:
        self.login, self._apart = login, apart
        self.vault = VaultSimulator(root=f"{login}-root")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = ExitStack()
        #: Server -> gate -> address.
        self.gates: dict[str, dict[str, str]] = {"vault": {}, "aws": {}}
        self.role_id = ""
        #: How often the role of AWS was assumed.
        self.assumed = 0

    def __enter__(self) -> Self:
        self._stack.enter_context(self.vault)
        self._set_up_vault()
        self._thread.start()
        self._stack.callback(self._stop)
        upstream = {"vault": self.vault.address, "aws": self._moto()}
        self._do(self._open(upstream))
        self._write_aws_credentials()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        """Give what boto3 needs to find its credentials: the name of a file."""
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(self._apart / "aws-credentials"),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @contextmanager
    def credentials(self) -> Iterator[None]:
        """Give this process what the children have."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment().items():
                patch.setenv(name, value)
            yield

    def entries(self, gates: Sequence[str]) -> dict[str, dict[str, object]]:
        """Give the entries of the inventory: each store behind these gates; without a name it is healthy."""
        found = {}
        for gate in gates:
            end = f"-{gate}" if gate else ""
            patience = "2s" if gate else "20s"
            aws = {"region": REGION, "endpoint_url": self.gates["aws"][gate], "timeout": patience}
            found[f"vault{end}"] = {
                "kind": "vault_kv2",
                "addresses": [self.gates["vault"][gate]],
                "auth": {
                    "method": "approle",
                    "role_id": self.role_id,
                    "secret_id": {"file": str(self._apart / "secret-id")},
                },
                "timeout": patience,
            }
            # Behind a gate nobody could assume the role.
            role = {} if gate else {"assume_role": ROLE}
            found[f"aws{end}"] = {"kind": "aws_secrets_manager", **aws, **role}
            found[f"params{end}"] = {"kind": "aws_parameter_store", **aws}
        return found

    def _set_up_vault(self) -> None:
        add = self.vault.rights.add

        def marked(token: Token) -> Token:
            token.text = f"{self.login}-{secrets.token_hex(6)}"
            return add(token)

        self.vault.rights.add = marked  # type: ignore[method-assign]
        self.vault.mounts["secret"] = KvMount(2)
        role = _Role(frozenset({"root"}), 3600.0, 0.0, "service", 0)
        role.secret_ids[f"{self.login}-secret-id"] = -1
        self.vault.roles["approle"] = {"keyturn": role}
        self.role_id = role.role_id
        file = self._apart / "secret-id"
        file.touch(mode=0o600)
        file.write_text(f"{self.login}-secret-id")

    def _write_aws_credentials(self) -> None:
        lines = (
            "[default]",
            "aws_access_key_id = not-a-real-id",
            f"aws_secret_access_key = {self.login}-aws",
            f"aws_session_token = {self.login}-session",
        )
        (self._apart / "aws-credentials").write_text("\n".join(lines) + "\n")

    def _moto(self) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.serve_moto"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        return f"http://127.0.0.1:{process.stdout.readline().strip()}"

    # -- gates -------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _stop(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _open(self, upstream: dict[str, str]) -> None:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runners = []
        for server, address in upstream.items():
            for gate in ("", *GATES):
                self.gates[server][gate] = await self._gate(server, address, gate)

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        await self._client.close()

    async def _gate(self, server: str, upstream: str, gate: str) -> str:
        if gate == "refused":
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                return f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            kind = gate.removesuffix("-writes")
            # Behind a gate of Vault's one can log in, so that it is the calls that meet it.
            well = not gate or request.raw_path.startswith("/v1/auth/")
            well = well or (kind != gate and _only_reads(request))
            if well or kind in {"cut-after", "half"}:
                answer = await self._forward(upstream, request, body)
                if well:
                    return answer
                _cut(request, answer.body if kind == "half" else None)
                return answer
            if kind == "cut-before":
                _cut(request, None)
            said = f"{request.raw_headers!r} {body.decode(errors='replace')}"
            return _bad_answer(server, kind, said)

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _forward(self, upstream: str, request: web.BaseRequest, body: bytes) -> web.Response:
        async with self._client.request(
            request.method,
            upstream + request.raw_path,
            data=body,
            headers={k: v for k, v in request.headers.items() if k.lower() != "host"},
            allow_redirects=False,
        ) as answer:
            content = _STS_SECRETS.sub(self._mark, await answer.read())
            kept = {k: v for k, v in answer.headers.items() if k.lower() in {"content-type", "date"}}
            return web.Response(status=answer.status, body=content, headers=kept)

    def _mark(self, found: re.Match[bytes]) -> bytes:
        """Make the credentials of an assumed role canaries; the emulator checks no signature."""
        self.assumed += 1
        return b"<" + found[1] + f">{self.login}-{secrets.token_hex(6)}<".encode()


def _only_reads(request: web.BaseRequest) -> bool:
    operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    return operation.startswith(_READS) or request.method == "GET"


def _cut(request: web.BaseRequest, body: Any) -> None:
    """End the connection, after half of the answer if there is one."""
    transport = request.transport
    assert transport is not None
    if body:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        transport.write(head.encode() + bytes(body)[: len(body) // 2])
    transport.close() if body else transport.abort()


def _bad_answer(server: str, gate: str, said: str) -> web.Response:
    if gate == "page":
        return web.Response(text=f"<html>{said}</html>", content_type="text/html")
    if gate == "moved":
        where = aiohttp.client.URL("http://127.0.0.1:9/").with_query(said=said[:2000])
        return web.Response(status=307, headers={"Location": str(where)}, text=said)
    if not gate.isdigit():
        return web.Response(status=500)
    codes = {"400": "ValidationException", "403": "AccessDeniedException", "429": "ThrottlingException"}
    aws = {"__type": codes.get(gate, "InternalServiceError"), "message": said, "Message": said}
    body = {"errors": [said], "data": {"said": said}} if server == "vault" else aws
    return web.Response(status=int(gate), text=json.dumps(body), content_type="application/x-amz-json-1.1")
