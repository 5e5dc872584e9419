"""The sweep under Prefect: what is due, what was left, and that one item never stops the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.sweep import sweep
from keyturn.domain.rotation import Rotation
from keyturn.engine.engine import Engine
from keyturn.ports.clock import SystemClock

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(240)]


async def table() -> list[dict[str, Any]]:
    async with get_client() as client:
        answer = await client._client.get("/artifacts/sweep/latest")
    data = answer.json()["data"]
    return list(json.loads(data) if isinstance(data, str) else data)


@pytest.fixture
def when_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is past the sixty days of its policy, and before the exchange's own ninety."""
    monkeypatch.setattr(SystemClock, "now", lambda _self: datetime.now(UTC) + timedelta(days=65))


async def test_nothing_to_do_is_said_so(house: Any) -> None:
    state = await sweep(return_state=True)
    assert (state.type, state.message) == ("COMPLETED", "There was nothing to do.")


@pytest.mark.usefixtures("when_due")
async def test_what_is_due_by_its_policy_is_rotated_and_stands_in_the_table(house: Any) -> None:
    before = {name: house.live(name) for name in house.uids}
    state = await sweep(return_state=True)
    assert (state.type, state.message) == ("COMPLETED", "Swept: 2 completed.")
    for name, keys in before.items():
        assert len(house.live(name)) == 1
        assert house.live(name) != keys
    rows = await table()
    assert sorted(row["credential"] for row in rows) == sorted(house.uids)
    assert {row["state"] for row in rows} == {"completed"}


@pytest.mark.usefixtures("when_due")
async def test_the_limit_holds_back_new_rotations_and_never_unfinished_ones(house: Any) -> None:
    async with house.world("cli:bob") as world:
        await Engine(world).open("arb.bybit", mode="manual", reason="left by a dead worker")  # type: ignore[arg-type]
    state = await sweep({"limit": 1}, return_state=True)  # type: ignore[arg-type]
    assert state.message == "Swept: 2 completed."
    state = await sweep({"limit": 0}, return_state=True)  # type: ignore[arg-type]
    assert state.name == "Refused"


@pytest.mark.usefixtures("when_due")
async def test_one_credential_in_trouble_does_not_stop_the_others(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Engine.advance

    async def broken_for_one(self: Engine, which: str | Rotation, **more: Any) -> Any:
        rotation = which if isinstance(which, Rotation) else await self.get(which)
        if rotation.credential == "arb.bybit":
            raise ValueError("not-a-real-secret-1")
        return await honest(self, which, **more)

    monkeypatch.setattr(Engine, "advance", broken_for_one)
    state = await sweep(return_state=True)
    assert (state.type, state.name) == ("FAILED", "Trouble")
    assert "arb.bybit: An error that keyturn does not know: ValueError" in state.message
    assert "not-a-real-secret-1" not in state.message
    assert {row["credential"]: row["state"] for row in await table()}["mm-bybit"] == "completed"
    monkeypatch.setattr(Engine, "advance", honest)
    assert (await sweep(return_state=True)).message == "Swept: 1 completed."


@pytest.mark.usefixtures("when_due")
async def test_a_rotation_that_parks_is_trouble_once_and_then_stands_in_the_table(house: Any) -> None:
    house.write("mm-bybit", consumers="bot", confirm_within="1s")
    first = await sweep(return_state=True)
    assert (first.type, first.name) == ("FAILED", "Trouble")
    assert "Not confirmed by bot" in first.message
    second = await sweep(return_state=True)
    assert second.type == "COMPLETED"
