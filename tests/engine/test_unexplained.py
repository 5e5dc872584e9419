"""An exchange that answers a change in the same unknown way each time is asked so often, then a person is."""

from __future__ import annotations

import pytest

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.rotation import Fate, Park, Rotation, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld
from keyturn.testing.roads import AFTER_CREATION

from .walking import opened, until

ALWAYS = 10_000
ROUNDS = 8


async def parked(fake: FakeWorld, engine: Engine, rotation_id: str) -> Rotation:
    """Go on, letting time pass, until the rotation parks."""
    for _ in range(60):
        progress = await engine.advance(rotation_id)
        if progress.rotation.state is State.PARKED:
            return progress.rotation
        assert progress.rest is not None
        assert progress.rest.until is not None, "it stands still, and for nobody"
        fake.clock.travel_to(progress.rest.until)
    raise AssertionError("it is deferred for ever")


def calls(fake: FakeWorld, method: str) -> int:
    return sum(name == method for name, _ in fake.exchange.calls)


def unexplained(fake: FakeWorld, method: str, *, effect: bool, times: int = ALWAYS) -> None:
    fake.exchange.fail(method, ExchangeFault.OUTCOME_UNKNOWN, effect=effect, times=times, unexplained=True)


async def begun(method: str, *, effect: bool) -> tuple[FakeWorld, Engine, str]:
    """Bring a rotation to the call, which is answered in the unknown way from then on."""
    fake = FakeWorld(manifest=AFTER_CREATION, ips=("127.0.0.1",)) if method == "edit_key" else FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    if method == "revoke_key":
        await until(fake, engine, rotation_id, State.VERIFIED)
        await engine.abort(NAME, "a test wants it")
    unexplained(fake, method, effect=effect)
    return fake, engine, rotation_id


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("method", ["create_key", "edit_key", "revoke_key"])
async def test_parks_after_so_many_answers_that_no_table_explains_and_names_call_key_and_command(
    method, effect
):
    fake, engine, rotation_id = await begun(method, effect=effect)
    held = await parked(fake, engine, rotation_id)
    assert held.parked is Park.UNEXPLAINED
    assert calls(fake, method) == ROUNDS
    assert "a test ordered it" in held.parked_why
    assert held.current_attempt.label() in held.parked_todo
    assert f"keyturn resume {NAME}" in held.parked_todo
    assert ("keyturn abort" in held.parked_todo) == (method != "revoke_key")


@pytest.mark.parametrize("method", ["create_key", "edit_key", "revoke_key"])
async def test_a_person_who_resumes_gives_as_many_rounds_again(method):
    fake, engine, rotation_id = await begun(method, effect=False)
    await parked(fake, engine, rotation_id)
    await engine.resume(NAME)
    held = await parked(fake, engine, rotation_id)
    assert held.parked is Park.UNEXPLAINED
    assert calls(fake, method) == 2 * ROUNDS


@pytest.mark.parametrize("method", ["create_key", "edit_key"])
async def test_after_an_abort_no_key_of_the_unexplained_calls_lives(method):
    fake, engine, rotation_id = await begun(method, effect=True)
    await parked(fake, engine, rotation_id)
    await engine.abort(NAME, "a test wants it")
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    await fake.sweep_until_rest()
    await fake.judge_rest()
    made = [k for k in await fake.journal.keys(NAME) if k.rotation_id == rotation_id]
    assert {k.fate for k in made} <= {Fate.REVOKED, Fate.NEVER_MADE}


@pytest.mark.parametrize("method", ["create_key", "edit_key"])
async def test_one_round_fewer_and_the_rotation_goes_on_by_itself(method):
    fake, engine, rotation_id = await begun(method, effect=False)
    fake.exchange._faults.clear()
    unexplained(fake, method, effect=False, times=ROUNDS - 1)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


@pytest.mark.parametrize("method", ["create_key", "edit_key", "revoke_key"])
async def test_an_answer_that_never_came_mends_itself_and_parks_nothing_so_early(method):
    fake, engine, rotation_id = await begun(method, effect=False)
    fake.exchange._faults.clear()
    fake.exchange.fail(method, ExchangeFault.OUTCOME_UNKNOWN, times=2 * ROUNDS)
    done = await fake.run(engine, rotation_id)
    assert done.state is (State.ABORTED if method == "revoke_key" else State.COMPLETED)


async def test_an_old_key_whose_revoke_is_never_explained_parks_unproved_and_names_the_answer():
    fake = FakeWorld()
    await fake.prepare()
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.GRACE)
    unexplained(fake, "revoke_key", effect=False)
    held = await parked(fake, engine, rotation_id)
    assert held.parked is Park.NO_PROOF
    assert "a test ordered it" in held.parked_why
