"""A town: `keyturn up` over a house whose exchange is a process, and what a person does to them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.prefect_access import draw_auth
from keyturn.processes import python
from tests.event_loop import uvloop_in
from tests.plants import plant
from tests.ports import free_port

from .house import NAMES, House

#: What `prefect deploy` reads.
DEPLOYED = Path(__file__).parents[2] / "deployments" / "prefect.yaml"


@dataclass(frozen=True)
class WholeRun:
    """One run under `keyturn up`, from its form to its end, and what its processes were in its middle."""

    #: The live key before.
    before: str
    #: The final state.
    state: dict[str, Any]
    #: Part of a command line -> the processes that had it, the supervisor's among them.
    pids: dict[str, list[int]]
    #: Whose processes had loaded uvloop; or why that cannot be told here.
    on_uvloop: list[str] | pytest.skip.Exception
    #: What `/proc` says of the limits of the run's own processes.
    limits: list[str]

    @classmethod
    def of(cls, town: Town) -> WholeRun:
        run, before = town.in_the_middle()
        parts = ("flows.prefect_server", "flows.serve", "prefect.engine")
        pids = {part: town.pids(part) for part in parts} | {"keyturn up": [town.supervisor.pid]}
        limits = [Path(f"/proc/{pid}/limits").read_text() for pid in pids["prefect.engine"]]
        on_uvloop: list[str] | pytest.skip.Exception
        try:
            on_uvloop = [part for part, found in pids.items() if any(map(uvloop_in, found))]
        except pytest.skip.Exception as skipped:
            on_uvloop = skipped
        state = town.ended(run)
        town.at_rest()
        return cls(before, state, pids, on_uvloop, limits)


ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def wait_for(what: str, look: Callable[[], Any], seconds: float = 90, every: float = 0.1) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)
    return found


def _environ(pid: int) -> str:
    """Give a process's environment; where only root may look (it keeps its memory private), its parent's."""
    proc = Path("/proc")
    try:
        return (proc / str(pid) / "environ").read_bytes().decode(errors="replace")
    except PermissionError:
        parent = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        return (proc / parent / "environ").read_bytes().decode(errors="replace")


def settings_for_ones_own(url: str, auth: str) -> dict[str, str]:
    """What `deployments/prefect.env` tells a Prefect of one's own, with its place and string filled in."""
    text = (Path(__file__).parents[2] / "deployments" / "prefect.env").read_text()
    text = text.replace("https://prefect.example", url).replace("keyturn:CHANGE-ME", auth)
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


class Login(httpx.Auth):
    """Goes in as the UI does: by the string, and with a token fetched for each change."""

    requires_response_body = True

    def __init__(self, api: str, auth: str) -> None:
        self.api, self.auth = api, auth

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        login = {"Authorization": f"Basic {base64.b64encode(self.auth.encode()).decode()}"}
        if request.method not in {"GET", "HEAD"}:
            given = yield httpx.Request("GET", f"{self.api}/csrf-token?client=test", headers=login)
            if given.status_code == 200:  # else the call itself tells
                login |= {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": given.json()["token"]}
        request.headers.update(login)
        yield request


class Town:
    """`keyturn up` over a house whose exchange is a process, and what a person does to them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.processes = folder, free_port(), []
        #: Where everything starts: a folder in which a stranger left things.
        self.planted = plant(folder / "shared")
        #: Its folder for temporary files, where another user has taken the name that Prefect's runner takes.
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        (self.temporary / "runner_storage").write_text("another user's")
        self.own_temporary = folder / "own-temporary"
        self.own_temporary.mkdir()
        secret = {name: secrets.token_hex(18) for name in ("manager", *NAMES)}
        ref = {name: f"ref{i}{secrets.token_hex(6)}" for i, name in enumerate(secret)}
        uids = {name: str(200_000_001 + i) for i, name in enumerate(NAMES)}
        rights = {"manager": House.manager_rights, **dict.fromkeys(NAMES, House.bot_rights)}

        def key(name: str) -> dict[str, Any]:
            return {"key_ref": ref[name], "secret": secret[name], "permissions": rights[name]}

        accounts: list[dict[str, Any]] = [{"name": "master", "keys": [key("manager")]}]
        accounts += [{"name": n, "parent": "master", "uid": uids[n], "keys": [key(n)]} for n in NAMES]
        seed = folder / "seed.json"
        seed.write_text(json.dumps({"accounts": accounts}))
        sim = [sys.executable, "-m", "keyturn.simulator", "--exchange", "bybit", "--with-parent"]
        self.sim = subprocess.Popen([*sim, "--seed-file", str(seed)], stdout=subprocess.PIPE, text=True)
        self.processes.append(self.sim)
        assert self.sim.stdout is not None
        self.url = json.loads(self.sim.stdout.readline())["url"]
        self.house = House(folder, self.url, uids)
        material = {n: SecretMaterial(ref[n], secret[n]) for n in secret}
        asyncio.run(self.house.furnish(material.pop("manager"), material))
        #: One client for all looks: making one loads root certificates, 20 ms of a core.
        self.exchange = httpx.Client(base_url=self.url, timeout=20)
        api = f"http://127.0.0.1:{self.port}/api"
        #: With the string of the server that a test starts; `keyturn up` draws its own.
        self.login = Login(api, draw_auth())
        self.api = httpx.Client(base_url=api, timeout=20, auth=self.login)

    # -- processes ---------------------------------------------------------------------------

    @property
    def auth(self) -> str:
        """What a person pastes to log in."""
        return self.login.auth

    @property
    def supervisor(self) -> subprocess.Popen[str]:
        return self.processes[-1]

    def said(self) -> str:
        """What every `keyturn up` of this town wrote."""
        return (self.folder / "up.out").read_text()

    def environ(self) -> dict[str, str]:
        """What a process of Prefect gets that `keyturn up` does not start."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            **settings_for_ones_own(f"http://127.0.0.1:{self.port}", self.login.auth),
            "KEYTURN_INVENTORY": str(self.house.file),
            "PREFECT_HOME": str(self.folder / "prefect"),
            # As deployments/prefect.env asks for: Prefect's worker takes one name for all users of a machine.
            "TMPDIR": str(self.own_temporary),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def prefect(self, *arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
        """Start Prefect's command."""
        return self.python("prefect", "--no-prompt", *arguments, folder=folder)

    def python(self, *module: str, folder: Path | None = None) -> subprocess.Popen[str]:
        """Start a module of Python's, where somebody left things unless a folder is named."""
        with (self.folder / "prefect.out").open("a") as out:
            process = subprocess.Popen(
                [*python("-m"), *module],
                env=self.environ(),
                cwd=folder or self.planted.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.processes.append(process)
        return process

    def spawn(self) -> subprocess.Popen[str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        # All that leaves this machine goes by a proxy, and nobody answers there.
        environ |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": "x.example"}
        environ["TMPDIR"] = str(self.temporary)
        keyturn = Path(sys.executable).with_name("keyturn")
        with (self.folder / "up.out").open("a") as out:
            return subprocess.Popen(
                [keyturn, "up", "--inventory", self.house.file, "--port", str(self.port)],
                env=environ,
                cwd=self.planted.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def up(self) -> None:
        ready = self.folder / ".keyturn" / "ready"
        ready.unlink(missing_ok=True)
        process = self.spawn()
        self.processes.append(process)
        wait_for("keyturn up", lambda: ready.exists() or process.poll() is not None, 240)
        assert process.poll() is None, self.said()
        self.login.auth = (self.folder / ".keyturn" / "prefect-auth").read_text().strip()

    def pids(self, part: str) -> list[int]:
        """The processes of this town whose command line has this part."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    # Only of those in question: there may be hundreds, and this is asked ten times a second.
                    if (
                        part not in line
                        or "leash" in line
                        or str(self.folder) not in _environ(int(entry.name))
                    ):
                        continue
                except OSError:
                    continue
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
        self.api.close()
        self.exchange.close()

    # -- Prefect -----------------------------------------------------------------------------

    def deployment(self, full_name: str) -> dict[str, Any]:
        answer = self.api.get(f"/deployments/name/{full_name}")
        answer.raise_for_status()
        return dict(answer.json())

    def start(self, credential: str, **more: Any) -> str:
        request = {"credential": credential, "reason": "a test asks for it", "requested_by": "alice"} | more
        deployment = self.deployment("rotate-credential/rotate")["id"]
        answer = self.post(f"/deployments/{deployment}/create_flow_run", {"parameters": {"request": request}})
        answer.raise_for_status()
        return str(answer.json()["id"])

    def post(self, path: str, body: Any) -> httpx.Response:
        """Ask Prefect; on SQLite it says 503 while its database is locked, and its client asks again."""
        for _ in range(40):
            answer = self.api.post(path, json=body)
            if answer.status_code != 503:
                break
            time.sleep(0.5)
        return answer

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.api.get(f"/flow_runs/{run}").json()["state"])

    def ended(self, run: str, seconds: float = 120) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            try:
                state = self.state(run)
            except httpx.HTTPError:
                return None
            return state if state["type"] in ENDED else None

        return dict(wait_for(f"the end of run {run}", look, seconds, 0.3))

    def cancel(self, run: str) -> None:
        """What the button in the UI does."""
        answer = self.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        assert answer.json()["status"] == "ACCEPT", answer.text

    def sweep(self) -> dict[str, Any]:
        deployment = self.deployment("sweep/sweep")["id"]
        answer = self.post(f"/deployments/{deployment}/create_flow_run", {})
        answer.raise_for_status()
        return self.ended(answer.json()["id"])

    # -- the exchange ------------------------------------------------------------------------

    def fault(self, **fault: Any) -> None:
        self.exchange.post("/_sim/faults", json=fault).raise_for_status()

    def live(self) -> dict[str, list[str]]:
        accounts = self.exchange.get("/_sim/state").json()["accounts"]
        return {a["name"]: [k["key_ref"] for k in a["keys"] if k["live"]] for a in accounts if a["parent"]}

    def open_rotations(self) -> list[str]:
        async def read() -> list[str]:
            async with self.house.world() as world:
                return [r.credential for r in await world.journal.latest() if r.is_open]

        return asyncio.run(read())

    def at_rest(self) -> None:
        """Sweep here, not by flow runs, until nothing is open; then hold the invariants."""
        deadline = time.monotonic() + 90
        while self.open_rotations() and time.monotonic() < deadline:
            asyncio.run(self._sweep_here())
            time.sleep(0.5)
        self.holds()

    def comes_to_rest(self) -> None:
        """Wait until the sweeps under Prefect have left nothing open, then hold the invariants."""
        wait_for("the sweep to finish what is open", lambda: not self.open_rotations(), 120, 0.5)
        self.holds()

    def holds(self) -> None:
        """Hold the invariants against the exchange's truth: nothing open, one live key each, the current."""
        assert self.open_rotations() == []

        async def check() -> None:
            async with self.house.world() as world:
                assert (await world.journal.verify()).breaks == ()
                for name, refs in self.live().items():
                    current = await world.adapters.store("main").peek(f"bots/{name}", Slot.CURRENT)
                    assert refs == [current.meta.key_ref], f"live keys of {name}"

        asyncio.run(check())

    async def _sweep_here(self) -> None:
        async with self.house.world("cli:test") as world:
            await sweep.sweep(Engine(world))

    # -- mischief ----------------------------------------------------------------------------

    wait_for = staticmethod(wait_for)

    def healthy(self) -> bool:
        try:
            return self.api.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def in_the_middle(self, name: str = "mm-bybit") -> tuple[str, str]:
        """Start a run; return when the exchange has created the key and nobody has stored its secret."""
        (before,) = self.live()[name]
        # The answer is held back while the key is there: the moment at which a crash loses the secret.
        self.fault(kind="latency", match="create-sub-api", seconds=2.5, after_effect=True)
        run = self.start(name)
        wait_for("the new key", lambda: len(self.live()[name]) == 2, 60, 0.05)
        return run, before
