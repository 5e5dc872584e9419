"""The protocol of a rotation holds in every state of the model, and each of its rules is needed."""

from __future__ import annotations

import pytest

from .rotation import Bounds, Rules, explore

# Each a few seconds; the simulation draws from what is more than that.
BOUNDS = {
    "a lost answer and an abort": Bounds(deaths=0, lost=1, aborts=1),
    "a death and a lost answer": Bounds(deaths=1, lost=1, aborts=0),
    "a death and an abort": Bounds(deaths=1, lost=0, aborts=1),
    "two deaths": Bounds(deaths=2, lost=0, aborts=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("bounds", BOUNDS)
def test_two_workers_never_end_the_current_key_and_leave_none_behind(bounds):
    explored = explore(Rules(), BOUNDS[bounds])
    assert not explored.broken, f"{explored.broken}: {'; '.join(explored.way)}"
    assert explored.states > 10_000


def test_without_the_fence_the_key_is_revoked_that_another_worker_promotes():
    explored = explore(Rules(fence=False), Bounds(deaths=0))
    assert explored.broken == "current names a dead key"
    look, promotion, revoke = (
        next(i for i, move in enumerate(explored.way) if move.endswith(step))
        for step in (": look at current", ": promote", ": revoke")
    )
    assert look < promotion < revoke


def test_without_the_look_the_key_is_revoked_that_is_current():
    assert explore(Rules(look=False), Bounds(deaths=0)).broken == "current names a dead key"


def test_a_slow_journal_is_enough_where_the_loser_revokes_without_a_licence():
    explored = explore(Rules(licence_when_slow=False), Bounds(deaths=0, lost=0, aborts=0))
    assert explored.broken == "current names a dead key"
    assert explored.way[-1].endswith(": revoke")


def test_a_lost_answer_of_stage_is_enough_there_too():
    explored = explore(Rules(licence_when_refused=False), Bounds(deaths=0, aborts=0))
    assert explored.broken == "current names a dead key"
    assert any(move.endswith("stage, answer lost") for move in explored.way)
