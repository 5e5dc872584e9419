"""Real processes: Prefect's server on SQLite, the served flows, a simulated exchange, an age store.

Whatever is done to a run or to a process, the next sweep finishes it: at the end every credential has
exactly one live key at the exchange, it is the current one, and the journal verifies.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(420)]


def test_a_run_started_over_the_api_turns_the_key(town: Any, whole_run: Any) -> None:
    assert (whole_run.state["type"], whole_run.state["name"]) == ("COMPLETED", "Completed"), whole_run.state
    assert whole_run.before not in town.live()["mm-bybit"]


def test_neither_the_server_nor_the_flows_nor_their_runs_have_loaded_uvloop(whole_run: Any) -> None:
    assert all(whole_run.pids.values()), whole_run.pids
    if not isinstance(whole_run.on_uvloop, list):
        raise whole_run.on_uvloop
    assert whole_run.on_uvloop == []


def test_a_run_needs_no_name_among_temporary_files_that_another_user_has_taken(
    town: Any, whole_run: Any
) -> None:
    assert whole_run.state["type"] == "COMPLETED"
    assert [each.name for each in town.temporary.iterdir()] == ["runner_storage"]
    storage = town.folder / ".keyturn" / "prefect" / "tmp" / "runner_storage"
    assert storage.is_dir()
    assert storage.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_that_is_cancelled_leaves_nothing_that_the_next_sweep_does_not_finish(town: Any) -> None:
    run, before = town.in_the_middle()
    town.cancel(run)
    assert town.ended(run)["type"] == "CANCELLED"
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


@pytest.fixture(scope="module")
def runner_ended(town: Any) -> str:
    """End the runner in the middle of a rotation, on a server with strays, when the inventory is another.

    Gives the key that was live before.
    """
    sweep = town.deployment("sweep/sweep")
    stray = {"slug": "stray", "schedule": {"cron": "0 0 1 1 *"}, "active": True}
    town.post(f"/deployments/{sweep['id']}/schedules", [stray])
    gone = {"flow_id": sweep["flow_id"], "name": "gone", "tags": ["keyturn"]}
    assert town.post("/deployments/", gone).status_code == 201
    (runner,) = town.pids("flows.serve")
    ready = town.folder / ".keyturn" / "ready"
    _, before = town.in_the_middle()
    town.house.write("mm-bybit")
    try:
        ready.unlink()
        os.kill(runner, signal.SIGTERM)
        town.wait_for("another runner", lambda: [p for p in town.pids("flows.serve") if p != runner])
        town.wait_for("its deployments", ready.exists)
    finally:
        town.house.write()
    return str(before)


def test_a_runner_that_is_ended_is_started_again_and_its_sweep_finishes_the_rotation(
    town: Any, runner_ended: str
) -> None:
    town.comes_to_rest()
    assert runner_ended not in town.live()["mm-bybit"]


@pytest.mark.usefixtures("runner_ended")
def test_deploying_again_follows_the_inventory_and_removes_what_was_deployed_before(town: Any) -> None:
    form = town.deployment("rotate-credential/rotate")["parameter_openapi_schema"]
    assert form["definitions"]["RotateRequest"]["properties"]["credential"]["enum"] == ["mm-bybit"]
    schedules = town.deployment("sweep/sweep")["schedules"]
    assert [(s["slug"], s["schedule"]["cron"]) for s in schedules] == [("every-few-minutes", "*/5 * * * *")]
    assert not any(s["active"] is False for s in schedules)
    assert town.api.get("/deployments/name/sweep/gone").status_code == 404
    watches = town.api.post("/automations/filter", json={}).json()
    assert [w["name"] for w in watches] == ["keyturn: close runs whose worker is gone"]


def test_a_runner_that_is_killed_is_started_again_and_its_sweep_finishes_the_rotation(town: Any) -> None:
    _, before = town.in_the_middle()
    (runner,) = town.pids("flows.serve")
    os.kill(runner, signal.SIGKILL)
    town.wait_for("another runner", lambda: [p for p in town.pids("flows.serve") if p != runner])
    town.comes_to_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_run_whose_process_is_killed_is_finished_by_the_sweep(town: Any) -> None:
    run, before = town.in_the_middle()
    for process in town.pids("prefect.engine"):
        os.kill(process, signal.SIGKILL)
    assert town.ended(run)["type"] == "CRASHED"
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_server_that_is_killed_in_the_middle_of_a_rotation_harms_nothing(town: Any) -> None:
    _, before = town.in_the_middle()
    (server,) = town.pids("flows.prefect_server")
    os.kill(server, signal.SIGKILL)
    town.wait_for("another server", lambda: [p for p in town.pids("flows.prefect_server") if p != server])
    town.wait_for("its answer", town.healthy, 120)
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_of_two_runs_for_one_credential_one_goes_and_the_other_is_refused(town: Any) -> None:
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


def test_the_sweep_stands_in_the_schedule(town: Any) -> None:
    def scheduled() -> Any:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        return [r for r in town.post("/flow_runs/filter", wanted).json() if r["auto_scheduled"]]

    town.wait_for("a sweep that the server scheduled by itself", scheduled, 30, 0.5)


def test_a_form_from_an_older_inventory_meets_a_plain_refusal(town: Any) -> None:
    town.house.write("mm-bybit")
    try:
        offered = town.deployment("rotate-credential/rotate")["parameter_openapi_schema"]
        assert offered["definitions"]["RotateRequest"]["properties"]["credential"]["enum"] == sorted(
            town.house.uids
        )
        state = town.ended(town.start("arb.bybit"))
    finally:
        town.house.write()
    assert (state["type"], state["name"]) == ("FAILED", "Refused")
    assert state["message"].startswith("The chosen credential is not in the inventory.")
    assert town.open_rotations() == []


def test_the_server_does_not_even_take_a_name_that_was_never_offered_or_a_field_too_many(town: Any) -> None:
    for wrong in ({"credential": "nobody"}, {"colour": "red"}):
        request = {"credential": "mm-bybit", "reason": "a test", "requested_by": "alice"} | wrong
        deployment = town.deployment("rotate-credential/rotate")["id"]
        answer = town.post(f"/deployments/{deployment}/create_flow_run", {"parameters": {"request": request}})
        assert answer.status_code == 409, answer.text


def test_killing_the_supervisor_takes_its_children_along_and_a_new_one_finishes_what_was_begun(
    town: Any, product: bool
) -> None:
    _, before = town.in_the_middle()
    children = {part: town.pids(part) for part in ("flows.prefect_server", "flows.serve")}
    begun = town.pids("prefect.engine")
    assert all(children.values()), children
    assert begun
    town.supervisor.kill()
    town.supervisor.wait()
    town.wait_for("the end of the children", lambda: not any(map(town.pids, children)), 60)

    def ended() -> bool:
        return not set(begun) & set(town.pids("prefect.engine"))

    # A run asks the dead server for its last words six times, with up to half a minute in between, and more
    # than once (3.8.8): without another server it ends after three minutes.
    if product:
        town.wait_for("the end of the run", ended, 300)
    town.up()
    town.wait_for("the end of the run", ended, 150, 0.5)
    town.at_rest()
    assert before not in town.live()["mm-bybit"]


def test_a_second_supervisor_is_refused_and_the_first_goes_on(town: Any) -> None:
    second = town.spawn()
    assert second.wait(30) != 0
    assert "keyturn up runs already for this inventory" in town.said()
    assert town.supervisor.poll() is None


def test_ctrl_c_stops_everything_in_the_middle_of_a_rotation(town: Any) -> None:
    _, before = town.in_the_middle()
    started = time.monotonic()
    town.supervisor.send_signal(signal.SIGINT)
    assert town.supervisor.wait(60) == 0
    print(f"stopped after {time.monotonic() - started:.1f} s")
    assert town.pids("prefect") + town.pids("flows.serve") == []
    town.up()
    town.at_rest()
    assert before not in town.live()["mm-bybit"]
