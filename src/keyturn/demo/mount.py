"""The demo's own corner of a Vault: a mount, and a policy for its bots. Both are gone after it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from keyturn.demo.children import DemoError, until
from keyturn.domain.urls import BASE, url_fault

ADDRESS_VARIABLE, TOKEN_VARIABLE = "VAULT_ADDR", "VAULT_TOKEN"
_ANSWER = aiohttp.ClientTimeout(total=20)
# A mount of version 2 takes no call while it sets itself up; it needs well under a second.
_MOUNT_SECONDS = 30.0
# What a bot may: read the current key. Neither write, nor see pending, nor a manager key.
_BOT_POLICY = """\
path "{mount}/data/bots/+" {{ capabilities = ["read"] }}
path "{mount}/metadata/bots/+" {{ capabilities = ["read"] }}
"""


@dataclass(frozen=True, slots=True)
class Vault:
    """A server, and a token that may make mounts, policies and tokens."""

    address: str
    token: str = field(repr=False)
    namespace: str | None = None
    ca_file: str | None = None
    #: Made up anew, so that the demo can meet no secret of somebody else.
    mount: str = field(default_factory=lambda: f"keyturn-demo-{secrets.token_hex(4)}")

    @classmethod
    def of_the_environment(cls, address: str, token: str) -> Vault:
        """Give the one that Vault's own variables describe.

        Raises:
            DemoError: its address is none that keyturn calls.
        """
        if (fault := url_fault(address, BASE)) is not None:
            raise DemoError(
                f"The variable {ADDRESS_VARIABLE} names {fault.wrong}.",
                now="Nothing was sent there.",
                todo=f"In {ADDRESS_VARIABLE} {fault.write}; without it the demo starts a server of its own.",
            )
        return cls(
            address.rstrip("/"), token, os.environ.get("VAULT_NAMESPACE"), os.environ.get("VAULT_CACERT")
        )

    @property
    def entry(self) -> str:
        """Give what the inventory says of it. JSON is YAML, too."""
        fields = {
            "kind": "vault_kv2",
            "addresses": [self.address],
            "mount": self.mount,
            "namespace": self.namespace,
            "ca_file": str(Path(self.ca_file).absolute()) if self.ca_file else None,
            "auth": {"method": "token", "token": {"env": TOKEN_VARIABLE}},
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Make a call and give its answer.

        Raises:
            DemoError: it was refused, or nobody answers.
        """
        headers = {"X-Vault-Token": self.token} | (
            {"X-Vault-Namespace": self.namespace} if self.namespace else {}
        )
        tls = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else True
        problem = ""
        try:
            async with (
                aiohttp.ClientSession(timeout=_ANSWER, headers=headers) as http,
                http.request(
                    method, f"{self.address}/v1/{path}", json=body, ssl=tls, allow_redirects=False
                ) as response,
            ):
                if response.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
                    return dict(await response.json()) if response.status == HTTPStatus.OK else {}
                problem = f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = type(error).__name__
        raise DemoError(
            f"The Vault at {self.address} did not do {method} {path} ({problem}).",
            now="Nothing of it was changed but the demo's own mount and policy.",
            todo=f"The token must be allowed to make mounts, policies and tokens; without {ADDRESS_VARIABLE}"
            " the demo starts a server of its own.",
        )


@asynccontextmanager
async def mounted(vault: Vault) -> AsyncIterator[str]:
    """Have the mount for as long as the block lasts; give a token for the bots.

    Raises:
        DemoError: the server refused it.
    """
    policy = f"sys/policies/acl/{vault.mount}"
    await vault.call("POST", f"sys/mounts/{vault.mount}", {"type": "kv", "options": {"version": "2"}})
    accessor = ""
    try:
        await _set_up(vault)
        await vault.call("PUT", policy, {"policy": _BOT_POLICY.format(mount=vault.mount)})
        made = await vault.call("POST", "auth/token/create", {"policies": [vault.mount], "ttl": "1h"})
        accessor = made["auth"]["accessor"]
        yield str(made["auth"]["client_token"])
    finally:
        await asyncio.shield(_taken_away(vault, policy, accessor))


async def _set_up(vault: Vault) -> None:
    async def done() -> bool:
        with suppress(DemoError):
            await vault.call("GET", f"{vault.mount}/config")
            return True
        return False

    def late() -> DemoError:
        return DemoError(f"The mount {vault.mount} did not come up within {_MOUNT_SECONDS:.0f} seconds.")

    await until(done, seconds=_MOUNT_SECONDS, pause=0.1, otherwise=late)


async def _taken_away(vault: Vault, policy: str, accessor: str) -> None:
    steps: list[tuple[str, str, object]] = [
        ("DELETE", policy, None),
        ("DELETE", f"sys/mounts/{vault.mount}", None),
    ]
    if accessor:
        steps.insert(0, ("POST", "auth/token/revoke-accessor", {"accessor": accessor}))
    for method, path, body in steps:
        # A server that is gone has kept nothing.
        with suppress(DemoError):
            await vault.call(method, path, body)
