"""Real processes: Prefect's server on SQLite, the served flows, a simulated exchange, an age store.

Whatever is done to a run or to a process, the next sweep finishes it: at the end every credential has
exactly one live key at the exchange, it is the current one, and the journal verifies.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(420)]

NAMES = ("mm-bybit", "arb.bybit")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(what: str, look: Callable[[], Any], seconds: float = 90, every: float = 0.1) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)
    return found


class Town:
    """`keyturn up` over a house whose exchange is a process, and what a person does to them."""

    def __init__(self, folder: Path, make_house: Any) -> None:
        self.folder, self.port, self.processes = folder, free_port(), []
        secret = {name: secrets.token_hex(18) for name in ("manager", *NAMES)}
        ref = {name: f"ref{i}{secrets.token_hex(6)}" for i, name in enumerate(secret)}
        uids = {name: str(200_000_001 + i) for i, name in enumerate(NAMES)}
        rights = {"manager": make_house.manager_rights, **dict.fromkeys(NAMES, make_house.bot_rights)}

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
        self.house = make_house(folder, self.url, uids)
        material = {n: SecretMaterial(ref[n], secret[n]) for n in secret}
        asyncio.run(self.house.furnish(material.pop("manager"), material))
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api", timeout=20)

    # -- processes ---------------------------------------------------------------------------

    @property
    def supervisor(self) -> subprocess.Popen[str]:
        return self.processes[-1]

    def said(self) -> str:
        """What every `keyturn up` of this town wrote."""
        return (self.folder / "up.out").read_text()

    def spawn(self) -> subprocess.Popen[str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        command = "from pathlib import Path; from keyturn.cli.up import run_up; import sys;"
        command += "sys.exit(run_up(Path(sys.argv[1]), port=int(sys.argv[2])))"
        with (self.folder / "up.out").open("a") as out:
            return subprocess.Popen(
                [sys.executable, "-c", command, str(self.house.file), str(self.port)],
                env=environ,
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

    def pids(self, part: str) -> list[int]:
        """The processes of this town whose command line has this part."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    environ = (entry / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if part in line and str(self.folder) in environ and "leash" not in line:
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
        httpx.post(f"{self.url}/_sim/faults", json=fault).raise_for_status()

    def live(self) -> dict[str, list[str]]:
        accounts = httpx.get(f"{self.url}/_sim/state").json()["accounts"]
        return {a["name"]: [k["key_ref"] for k in a["keys"] if k["live"]] for a in accounts if a["parent"]}

    # -- the truth ---------------------------------------------------------------------------

    def open_rotations(self) -> list[str]:
        async def read() -> list[str]:
            async with self.house.world() as world:
                return [r.credential for r in await world.journal.latest() if r.is_open]

        return asyncio.run(read())

    def at_rest(self) -> None:
        """Sweep until nothing is open, then hold the invariants against the exchange's truth."""
        deadline = time.monotonic() + 90
        while self.open_rotations() and time.monotonic() < deadline:
            self.sweep()
        assert self.open_rotations() == []

        async def check() -> None:
            async with self.house.world() as world:
                assert (await world.journal.verify()).breaks == ()
                for name, refs in self.live().items():
                    current = await world.adapters.store("main").peek(f"bots/{name}", Slot.CURRENT)
                    assert refs == [current.meta.key_ref], f"live keys of {name}"

        asyncio.run(check())


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, make_house: Any) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"), make_house)
    try:
        made.up()
        yield made
    finally:
        made.close()


def test_a_run_started_over_the_api_turns_the_key(town: Town) -> None:
    (before,) = town.live()["mm-bybit"]
    state = town.ended(town.start("mm-bybit"))
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed"), state
    assert before not in town.live()["mm-bybit"]
    town.at_rest()


def in_the_middle(town: Town, run_name: str = "mm-bybit") -> tuple[str, str]:
    """Start a run and return when the exchange has created the key and nobody has stored its secret."""
    (before,) = town.live()[run_name]
    # The answer is held back while the key is there: the moment at which a crash loses the secret.
    town.fault(kind="latency", match="create-sub-api", seconds=2.5, after_effect=True)
    run = town.start(run_name)
    wait_for("the new key", lambda: len(town.live()[run_name]) == 2, 60, 0.02)
    return run, before


def test_a_run_that_is_cancelled_leaves_nothing_that_the_next_sweep_does_not_finish(town: Town) -> None:
    run, before = in_the_middle(town)
    town.cancel(run)
    assert town.ended(run)["type"] == "CANCELLED"
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_runner_that_is_ended_is_started_again_and_its_sweep_finishes_the_rotation(
    town: Town, number: signal.Signals
) -> None:
    _, before = in_the_middle(town)
    (runner,) = town.pids("flows.serve")
    os.kill(runner, number)
    wait_for("another runner", lambda: [p for p in town.pids("flows.serve") if p != runner])
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_run_whose_process_is_killed_is_finished_by_the_sweep(town: Town) -> None:
    run, before = in_the_middle(town)
    for process in town.pids("prefect.engine"):
        os.kill(process, signal.SIGKILL)
    assert town.ended(run)["type"] == "CRASHED"
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_server_that_is_killed_in_the_middle_of_a_rotation_harms_nothing(town: Town) -> None:
    _, before = in_the_middle(town)
    (server,) = town.pids("prefect server start")
    os.kill(server, signal.SIGKILL)
    wait_for("another server", lambda: [p for p in town.pids("prefect server start") if p != server])
    wait_for("its answer", lambda: healthy(town), 120)
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def healthy(town: Town) -> bool:
    try:
        return town.api.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_of_two_runs_for_one_credential_one_goes_and_the_other_is_refused(town: Town) -> None:
    # Longer than the runner's pause between two looks for work, so that the runs surely meet.
    town.fault(kind="latency", match="create-sub-api", seconds=2.5)
    town.fault(kind="latency", match="query-api", seconds=2.5)
    runs = {run: town.ended(run) for run in [town.start("mm-bybit"), town.start("mm-bybit")]}
    assert sorted(state["name"] for state in runs.values()) == ["Completed", "Refused"]
    (went,) = [run for run, state in runs.items() if state["name"] == "Completed"]
    (refused,) = [state for state in runs.values() if state["name"] == "Refused"]
    assert refused["type"] == "FAILED"
    assert "is being rotated already" in refused["message"]
    assert went in refused["message"]
    town.at_rest()


def test_the_sweep_stands_in_the_schedule(town: Town) -> None:
    def scheduled() -> Any:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        return [r for r in town.post("/flow_runs/filter", wanted).json() if r["auto_scheduled"]]

    wait_for("a sweep that the server scheduled by itself", scheduled, 30, 0.5)


def test_a_form_from_an_older_inventory_meets_a_plain_refusal(town: Town) -> None:
    town.house.write("mm-bybit")
    try:
        offered = town.deployment("rotate-credential/rotate")["parameter_openapi_schema"]
        assert offered["definitions"]["RotateRequest"]["properties"]["credential"]["enum"] == sorted(NAMES)
        state = town.ended(town.start("arb.bybit"))
    finally:
        town.house.write()
    assert (state["type"], state["name"]) == ("FAILED", "Refused")
    assert state["message"].startswith("The chosen credential is not in the inventory.")
    assert town.open_rotations() == []


def test_the_server_does_not_even_take_a_name_that_was_never_offered_or_a_field_too_many(town: Town) -> None:
    for wrong in ({"credential": "nobody"}, {"colour": "red"}):
        request = {"credential": "mm-bybit", "reason": "a test", "requested_by": "alice"} | wrong
        deployment = town.deployment("rotate-credential/rotate")["id"]
        answer = town.post(f"/deployments/{deployment}/create_flow_run", {"parameters": {"request": request}})
        assert answer.status_code == 409, answer.text


def test_killing_the_supervisor_takes_its_children_along_and_a_new_one_finishes_what_was_begun(
    town: Town,
) -> None:
    _, before = in_the_middle(town)
    town.supervisor.kill()
    town.supervisor.wait()
    wait_for("the end of the children", lambda: not town.pids("flows.serve") + town.pids("prefect server"))
    town.up()
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_second_supervisor_is_refused_and_the_first_goes_on(town: Town) -> None:
    second = town.spawn()
    assert second.wait(30) != 0
    assert "keyturn up runs already for this inventory" in town.said()
    assert town.supervisor.poll() is None


def test_deploying_again_follows_the_inventory_and_removes_what_was_deployed_before(town: Town) -> None:
    sweep = town.deployment("sweep/sweep")
    stray = {"slug": "stray", "schedule": {"cron": "0 0 1 1 *"}, "active": True}
    town.post(f"/deployments/{sweep['id']}/schedules", [stray])
    gone = {"flow_id": sweep["flow_id"], "name": "gone", "tags": ["keyturn"]}
    assert town.post("/deployments/", gone).status_code == 201
    town.house.write("mm-bybit")
    try:
        (runner,) = town.pids("flows.serve")
        (town.folder / ".keyturn" / "ready").unlink()
        os.kill(runner, signal.SIGTERM)
        wait_for("the next runner", (town.folder / ".keyturn" / "ready").exists)
    finally:
        town.house.write()
    form = town.deployment("rotate-credential/rotate")["parameter_openapi_schema"]
    assert form["definitions"]["RotateRequest"]["properties"]["credential"]["enum"] == ["mm-bybit"]
    schedules = town.deployment("sweep/sweep")["schedules"]
    assert [(s["slug"], s["schedule"]["cron"]) for s in schedules] == [("every-few-minutes", "*/5 * * * *")]
    assert not any(s["active"] is False for s in schedules)
    assert town.api.get("/deployments/name/sweep/gone").status_code == 404
    watches = town.api.post("/automations/filter", json={}).json()
    assert [w["name"] for w in watches] == ["keyturn: close runs whose worker is gone"]


def test_ctrl_c_stops_everything_in_the_middle_of_a_rotation(town: Town) -> None:
    _, before = in_the_middle(town)
    started = time.monotonic()
    town.supervisor.send_signal(signal.SIGINT)
    assert town.supervisor.wait(60) == 0
    print(f"stopped after {time.monotonic() - started:.1f} s")
    assert town.pids("prefect") + town.pids("flows.serve") == []
    town.up()
    town.at_rest()
    assert before not in town.live()["mm-bybit"]
