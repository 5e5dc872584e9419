"""A Vault on the wire: KV version 2, tokens, policies, logins, sealing, and faults on demand.

Each answer is what OpenBao 2.6.2 gave to the same question (2026-11-21); the tests of the store run
against both, and where the two differ this one is wrong. It runs in a thread of its own, so that blocking
clients may be called from a test's event loop.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from aiohttp import web

from keyturn.simulator.vault_kv import KvMount, Reply, gives, refusal
from keyturn.simulator.vault_rights import Rights, Token, parse_policy, seconds

_DENIED_TOKEN = "permission denied"  # noqa: S105 - an error's text
_DENIED_POLICY = "1 error occurred:\n\t* permission denied\n\n"
_CAPABILITY = {"GET": "read", "POST": "update", "PUT": "update", "DELETE": "delete", "LIST": "list"}
#: Gives the policies of a login, or None to refuse it.
Door = Callable[[dict[str, Any]], "frozenset[str] | None"]


class Trouble(StrEnum):
    """What can befall a request."""

    #: The connection ends before the request is carried out.
    CUT_BEFORE = "cut before"
    #: The request is carried out, and the connection ends before the answer.
    CUT_AFTER = "cut after"
    #: The request is carried out, and the answer is another.
    ANSWER_AFTER = "answer after"
    #: The request is carried out, and the answer comes a second later.
    LATE = "late"
    #: The answer is another, and nothing is carried out.
    ANSWER = "answer"


_CARRIED_OUT = frozenset({Trouble.CUT_AFTER, Trouble.ANSWER_AFTER, Trouble.LATE})


@dataclass
class Fault:
    """Something that happens to the next requests that fit.

    Args:
        trouble: what happens.
        times: to how many requests.
        method: only to these; empty for all.
        path: only to paths that contain this.
        skip: how many that fit are let through first.
        status: of the other answer.
        headers: of the other answer.
        error: text of the other answer.
        page: the other answer is this text, as a proxy's is, with no errors in it.
        then: called when it happens, before anything is carried out.
    """

    trouble: Trouble
    times: int = 1
    method: str = ""
    path: str = ""
    skip: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    error: str = "injected"
    page: str = ""
    then: Callable[[], None] | None = None


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    token: str | None
    namespace: str | None
    body: dict[str, Any]


@dataclass
class _Role:
    policies: frozenset[str]
    ttl: float
    max_ttl: float
    kind: str
    uses: int
    role_id: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_ids: dict[str, int] = field(default_factory=dict)

    def token(self) -> Token:
        """Make a token of the role."""
        batch = self.kind == "batch"
        return Token(self.policies, self.ttl, self.max_ttl, renewable=not batch, kind=self.kind)


class VaultSimulator:
    """The server. Use it as a context manager; `address` is where it listens.

    Args:
        root: the root token.
    """

    def __init__(self, root: str = "not-a-real-root-token") -> None:
        self.root = root
        self.rights = Rights(root)
        self.mounts: dict[str, KvMount] = {"secret": KvMount()}
        self.doors: dict[str, Door] = {}
        self.roles: dict[str, dict[str, _Role]] = {}
        self.sealed = False
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        #: Lease of the logins through `doors`, in seconds.
        self.lease = 3600.0
        self.address = ""
        self.lock = threading.Lock()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="vault-simulator", daemon=True)
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        stop = self._stop
        if stop is not None:
            self._loop.call_soon_threadsafe(stop.set)
        self._thread.join(10)

    def fail(self, trouble: Trouble, **what: Any) -> Fault:
        """Let something happen to requests to come."""
        fault = Fault(trouble, **what)
        self.faults.append(fault)
        return fault

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=32 << 20)
        app.router.add_route("*", "/v1/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else {}
        path = request.match_info["path"]
        token = request.headers.get("X-Vault-Token")
        seen = Seen(request.method, path, token, request.headers.get("X-Vault-Namespace"), body)
        with self.lock:
            self.seen.append(seen)
            fault = self._fault(seen)
            if fault and fault.then:
                fault.then()
            carried = fault is None or fault.trouble in _CARRIED_OUT
            reply = self.handle(seen, request.query) if carried else Reply(fault.status if fault else 500)
        if fault and fault.trouble is Trouble.LATE:
            await asyncio.sleep(1.0)
            fault = None
        if fault and fault.trouble in {Trouble.CUT_BEFORE, Trouble.CUT_AFTER}:
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)
        if fault and fault.page:
            return web.Response(status=fault.status, text=fault.page, content_type="text/html")
        if fault:
            return web.json_response({"errors": [fault.error]}, status=fault.status, headers=fault.headers)
        if reply.body is None:
            return web.Response(status=reply.status)
        return web.json_response(reply.body, status=reply.status)

    def _fault(self, seen: Seen) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method in {"", seen.method} and fault.path in seen.path:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    # What is asked.

    def handle(self, seen: Seen, query: Mapping[str, str]) -> Reply:
        """Answer a request; called with the lock held."""
        if seen.path in {"sys/health", "sys/seal-status"}:
            return Reply(503 if self.sealed else 200, {"initialized": True, "sealed": self.sealed})
        if seen.path == "sys/unseal":
            self.sealed = False
            return Reply(200, {"sealed": False})
        if self.sealed:
            return refusal(503, "Vault is sealed")
        if seen.path.startswith("auth/") and seen.path.endswith("/login"):
            return self._login(seen.path.removeprefix("auth/").removesuffix("/login"), seen.body)
        token = self.rights.valid(seen.token)
        if token is None:
            return refusal(403, _DENIED_TOKEN)
        if seen.path.startswith("sys/internal/ui/mounts/"):
            return self._mount_info(token, seen.path.removeprefix("sys/internal/ui/mounts/"))
        return self._allowed(token, seen, query)

    def _allowed(self, token: Token, seen: Seen, query: Mapping[str, str]) -> Reply:
        mount, rest = self._mount(seen.path)
        need = _CAPABILITY.get(seen.method, "deny")
        kind, _, below = rest.partition("/")
        if mount and need == "update" and not mount.exists(kind, below):
            need = "create"
        if not self.rights.capabilities(token, seen.path) & {need, "root"}:
            return refusal(403, _DENIED_POLICY)
        if mount is not None:
            return mount.handle(seen.method, rest, query, seen.body)
        area, _, rest = seen.path.partition("/")
        if area == "sys":
            return self._sys(token, rest, seen)
        if area == "auth":
            return self._auth(token, rest, seen)
        return refusal(404, f'no handler for route "{seen.path}". route entry not found.')

    def _mount(self, path: str) -> tuple[KvMount | None, str]:
        for name, mount in self.mounts.items():
            if path.startswith(f"{name}/"):
                return mount, path.removeprefix(f"{name}/")
        return None, ""

    def _mount_info(self, token: Token, name: str) -> Reply:
        # A path below a mount is answered with the mount.
        held = {n: m for n, m in self.mounts.items() if f"{name}/".startswith(f"{n}/")}
        name, mount = next(iter(held.items()), (name, None))
        if mount is None or not self.rights.touches(token, name):
            return refusal(403, "preflight capability check returned 403")
        return gives({"type": "kv", "path": f"{name}/", "options": {"version": str(mount.version)}})

    def _sys(self, token: Token, rest: str, seen: Seen) -> Reply:
        body = seen.body
        if rest == "capabilities-self":
            found = {p: sorted(self.rights.capabilities(token, p)) or ["deny"] for p in body["paths"]}
            return gives(found)
        if rest == "seal":
            self.sealed = True
        elif rest.startswith("policies/acl/"):
            self.rights.policies[rest.removeprefix("policies/acl/")] = parse_policy(body["policy"])
        elif rest.startswith("auth/"):
            self.roles[rest.removeprefix("auth/")] = {}
        elif rest.startswith("mounts/") and seen.method == "DELETE":
            self.mounts.pop(rest.removeprefix("mounts/"), None)
        elif rest.startswith("mounts/"):
            options = body.get("options") or {}
            self.mounts[rest.removeprefix("mounts/")] = KvMount(int(options.get("version") or 1))
        else:
            return refusal(404, "unsupported path")
        return Reply(204)

    def _auth(self, token: Token, rest: str, seen: Seen) -> Reply:
        body = seen.body
        if rest == "token/lookup-self":
            return gives(self._looked_up(token))
        if rest == "token/renew-self":
            if not token.renewable:
                return refusal(400, "lease is not renewable")
            return _granted(token, token.renew())
        if rest == "token/create":
            made = Token(
                self._policies(body.get("policies"), body),
                seconds(body.get("ttl")),
                seconds(body.get("explicit_max_ttl")),
                renewable=bool(body.get("renewable", True)) and body.get("type") != "batch",
                kind=body.get("type") or "service",
            )
            return _granted(self.rights.add(made), made.left)
        if rest in {"token/revoke", "token/revoke-self"}:
            self.rights.revoke(body.get("token") or token.text)
            return Reply(204)
        mount, _, name = rest.partition("/role/")
        return self._role(mount, name, seen) if mount in self.roles and name else refusal(404)

    def _looked_up(self, token: Token) -> dict[str, Any]:
        return {
            "id": token.text,
            "policies": sorted(token.policies),
            "ttl": int(token.left),
            "creation_ttl": int(token.ttl),
            "renewable": token.renewable,
            "type": token.kind,
        }

    @staticmethod
    def _policies(names: Any, body: Mapping[str, Any]) -> frozenset[str]:
        given = frozenset(names or ())
        plain = body.get("no_default_policy") or body.get("token_no_default_policy") or "root" in given
        return given if plain else given | {"default"}

    def _role(self, mount: str, name: str, seen: Seen) -> Reply:
        body, (name, _, what) = seen.body, name.partition("/")
        if not what:
            self.roles[mount][name] = _Role(
                self._policies(body.get("token_policies"), body),
                seconds(body.get("token_ttl")),
                seconds(body.get("token_max_ttl")),
                body.get("token_type") or "service",
                int(body.get("secret_id_num_uses") or 0),
            )
            return Reply(204)
        role = self.roles[mount].get(name)
        if role is None:
            return refusal(404)
        if what == "role-id":
            return gives({"role_id": role.role_id})
        secret_id = secrets.token_hex(8)
        role.secret_ids[secret_id] = role.uses or -1
        return gives({"secret_id": secret_id})

    def _login(self, mount: str, body: dict[str, Any]) -> Reply:
        if mount in self.doors:
            policies = self.doors[mount](body)
            if policies is None:
                return refusal(400, "invalid role or JWT")
            token = self.rights.add(Token(policies | {"default"}, self.lease))
            return _granted(token, token.left)
        if mount not in self.roles:
            return refusal(403, _DENIED_TOKEN)
        for role in self.roles[mount].values():
            left = role.secret_ids.get(body.get("secret_id") or "", 0)
            if role.role_id == body.get("role_id") and left:
                role.secret_ids[body["secret_id"]] = left - 1 if left > 0 else left
                token = self.rights.add(role.token())
                return _granted(token, token.left)
        return refusal(400, "invalid role or secret ID")


def _granted(token: Token, lease: float) -> Reply:
    auth = {
        "client_token": token.text,
        "policies": sorted(token.policies),
        # Whole seconds, and never rounded up.
        "lease_duration": int(lease + 0.001),
        "renewable": token.renewable,
        "token_type": token.kind,
    }
    return Reply(200, {"data": None, "auth": auth, "warnings": None})
