"""The table of the machine: what may happen where, and what can never follow what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.domain.errors import IllegalTransitionError, ProgrammingError
from keyturn.domain.machine import TRANSITIONS, allowed, apply, event, opened
from keyturn.domain.rotation import BEFORE_PIVOT, CLOSED, EventType, Mode, Park, Rotation, State

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=5)
WORKING = sorted(set(State) - CLOSED - {State.PARKED})
AFTER_PIVOT = {State.PROMOTED, State.CUTTING_OVER, State.GRACE}
ORPHANS = {
    EventType.ORPHAN_REVOKE_INTENDED,
    EventType.ORPHAN_REVOKED,
    EventType.ORPHAN_SETTLED,
    EventType.KEY_MAY_LIVE,
}


def rotation(state: State = State.PLANNED, **changes: Any) -> Rotation:
    facts: dict[str, Any] = {
        "id": "0123456789",
        "credential": "mm",
        "exchange": "bybit",
        "account": "main",
        "state": state,
        "seq": 7,
        "mode": Mode.SCHEDULED,
        "reason": "due",
        "actor": "sweep",
        "created_at": START,
        "updated_at": START,
        "grace_seconds": 60.0,
        "confirm_seconds": 60.0,
        "old_ref": "old",
    }
    return Rotation(**{**facts, **changes})


def every_standing() -> Iterator[Rotation]:
    """Every state, parked ones once for each state that they came from, with the facts that guards read."""
    facts = [
        {"old_ref": old, "dead_at": dead, "restored_at": restored}
        for old, dead, restored in product(("old", None), (None, START), (None, START))
    ]
    for state, more in product(State, facts):
        if state is State.PARKED:
            for was, why in product(WORKING, (Park.STORE, Park.NO_WAY_BACK)):
                yield rotation(state, parked=why, parked_why="x", parked_from=was, **more)
        else:
            yield rotation(state, **more)


def reaches(kind: EventType) -> Iterator[tuple[Rotation, Rotation]]:
    """Every standing in which the event may happen, with what it becomes."""
    for before in every_standing():
        if allowed(before, kind):
            yield before, apply(before, event(kind, LATER, "test"))


@pytest.mark.parametrize("kind", EventType)
def test_every_event_in_every_state_is_either_applied_or_refused(kind: EventType) -> None:
    for before in every_standing():
        if allowed(before, kind):
            after = apply(before, event(kind, LATER, "test"))
            assert (after.seq, after.updated_at) == (before.seq + 1, LATER)
            assert (after.id, after.credential, after.created_at) == (before.id, before.credential, START)
        else:
            with pytest.raises(IllegalTransitionError):
                apply(before, event(kind, LATER, "test"))


@pytest.mark.parametrize("kind", sorted(set(EventType) - {EventType.OPENED}))
def test_every_event_but_the_first_can_happen_somewhere(kind: EventType) -> None:
    assert kind in TRANSITIONS
    assert any(True for _ in reaches(kind))


@pytest.mark.parametrize("kind", sorted(TRANSITIONS))
def test_an_event_sets_its_own_fields_and_no_others(kind: EventType) -> None:
    before = next(iter(reaches(kind)))[0]
    own = TRANSITIONS[kind].fields
    for name in (f.name for f in fields(Rotation)):
        data = event(kind, LATER, "test", **{name: getattr(before, name)})
        if name in own:
            apply(before, data)
        else:
            with pytest.raises(IllegalTransitionError, match=name):
                apply(before, data)


@pytest.mark.parametrize("kind", sorted(TRANSITIONS))
def test_no_event_may_set_what_identifies_a_rotation_or_where_it_stands(kind: EventType) -> None:
    fixed = {"id", "credential", "state", "seq", "created_at", "updated_at", "actor", "parked_from"}
    assert not TRANSITIONS[kind].fields & fixed


def test_a_note_travels_with_any_event_and_sets_nothing() -> None:
    before = rotation(State.MINTING)
    noted = event(EventType.MINT_UNKNOWN, LATER, "test", note="no answer")
    assert noted.data == {"note": "no answer"}
    assert apply(before, noted) == replace(before, seq=8, updated_at=LATER)


def test_apply_leaves_the_rotation_that_it_was_given_alone() -> None:
    before = rotation(State.PLANNED)
    apply(before, event(EventType.ATTEMPT_CLAIMED, LATER, "test", attempt=1))
    assert before == rotation(State.PLANNED)


def test_revoking_the_old_key_begins_in_grace_and_nowhere_else() -> None:
    for kind in TRANSITIONS:
        for before, after in reaches(kind):
            if after.state is State.REVOKING and before.state is not State.REVOKING:
                assert before.effective_state in {State.GRACE, State.REVOKING}
                assert kind is EventType.REVOKE_INTENDED or before.state is State.PARKED


def test_nothing_is_revoked_or_completed_while_a_rotation_is_parked() -> None:
    for kind in (EventType.REVOKE_INTENDED, EventType.OLD_KEY_DEAD, EventType.COMPLETED):
        assert not any(before.state is State.PARKED for before, _ in reaches(kind))


def test_an_abort_is_refused_after_the_pivot() -> None:
    for before, after in reaches(EventType.ABORT_REQUESTED):
        assert before.effective_state in BEFORE_PIVOT
        assert after.state is State.ABORTING


def test_a_roll_back_is_refused_once_the_revoke_of_the_old_key_is_intended() -> None:
    for before, after in reaches(EventType.ROLLBACK_REQUESTED):
        assert before.effective_state in AFTER_PIVOT | {State.ABORTING}
        assert after.state is State.ROLLING_BACK


def test_a_roll_back_is_given_up_only_with_no_way_back_and_before_anything_was_undone() -> None:
    for before, after in reaches(EventType.ROLLBACK_GIVEN_UP):
        assert (before.parked, before.parked_from) == (Park.NO_WAY_BACK, State.ROLLING_BACK)
        assert before.restored_at is None
        assert (after.state, after.parked) == (State.PROMOTED, None)


def test_a_roll_back_happens_once() -> None:
    assert all(before.restored_at is None for before, _ in reaches(EventType.ROLLBACK_REQUESTED))


def test_consumers_are_told_of_a_roll_back_only_after_the_old_key_is_current_again() -> None:
    told = [b for b, _ in reaches(EventType.NOTICES_SENT) if b.state is State.ROLLING_BACK]
    assert told
    assert all(before.restored_at is not None for before in told)


def test_a_rotation_completes_with_proof_of_death_or_without_an_old_key() -> None:
    for before, after in reaches(EventType.COMPLETED):
        assert after.state is State.COMPLETED
        assert before.dead_at is not None or (before.state is State.GRACE and before.old_ref is None)


def test_a_closed_rotation_changes_no_more_except_by_the_fate_of_its_orphans() -> None:
    for kind in TRANSITIONS:
        for before, after in reaches(kind):
            if before.state in CLOSED:
                assert kind in ORPHANS
                assert after == replace(before, seq=before.seq + 1, updated_at=LATER)


def test_no_step_leads_from_behind_the_pivot_to_before_it() -> None:
    behind = AFTER_PIVOT | {State.REVOKING, State.ROLLING_BACK, State.COMPLETED}
    for kind in TRANSITIONS:
        for before, after in reaches(kind):
            if before.effective_state in behind:
                assert after.effective_state not in BEFORE_PIVOT


@pytest.mark.parametrize("state", WORKING)
def test_a_parked_rotation_goes_on_where_it_stopped(state: State) -> None:
    data: dict[str, Any] = {"parked": Park.STORE, "parked_why": "down", "parked_todo": "mend it"}
    parked = apply(rotation(state), event(EventType.PARKED, LATER, "test", **data))
    assert (parked.state, parked.parked_from, parked.effective_state) == (State.PARKED, state, state)
    resumed = apply(parked, event(EventType.RESUMED, LATER, "test"))
    assert resumed == replace(rotation(state), seq=9, updated_at=LATER)


def test_a_bot_is_asked_anew_to_try_the_key_when_a_parked_rotation_goes_on() -> None:
    data: dict[str, Any] = {"parked": Park.NO_PROOF, "parked_why": "wrong address", "parked_todo": "mend it"}
    parked = apply(rotation(State.STAGED, probe_by=LATER), event(EventType.PARKED, LATER, "test", **data))
    assert apply(parked, event(EventType.RESUMED, LATER, "test")).probe_by is None


def test_progress_clears_what_was_in_the_way_and_a_deferral_does_not() -> None:
    stuck = rotation(State.MINTING, failures=3, problem="venue down", wake_at=LATER)
    moved = apply(stuck, event(EventType.STAGED, LATER, "test", new_ref="new"))
    assert (moved.failures, moved.problem, moved.wake_at) == (0, "", None)
    data: dict[str, Any] = {"failures": 4, "problem": "venue down", "wake_at": LATER}
    deferred = apply(stuck, event(EventType.DEFERRED, LATER, "test", **data))
    assert (deferred.state, deferred.failures, deferred.wake_at) == (State.MINTING, 4, LATER)


def test_a_rotation_is_due_when_its_wake_up_time_has_come_and_it_is_open() -> None:
    waiting = rotation(State.GRACE, wake_at=LATER)
    assert not waiting.is_due(LATER - timedelta(seconds=1))
    assert waiting.is_due(LATER)
    assert rotation(State.GRACE).is_due(START)
    assert not any(rotation(state).is_due(LATER) for state in CLOSED)


PATH = (
    event(EventType.ATTEMPT_CLAIMED, LATER, "w1", attempt=1, old_version="1"),
    event(EventType.MINT_UNKNOWN, LATER, "w1", note="no answer"),
    event(EventType.ATTEMPT_CLAIMED, LATER, "w2", attempt=2),
    event(EventType.STAGED, LATER, "w2", new_ref="new", new_version="2"),
    event(EventType.VERIFIED, LATER, "w2", account_uid="7"),
    event(EventType.PROMOTED, LATER, "w2", promoted_at=LATER),
    event(EventType.NOTICES_SENT, LATER, "w2", noticed_at=LATER),
    event(EventType.CONSUMER_CONFIRMED, LATER, "w1", note="bot"),
    event(EventType.CUTOVER_CONFIRMED, LATER, "w1", confirmed_at=LATER, grace_until=LATER),
    event(EventType.REVOKE_INTENDED, LATER, "w1", revoke_at=LATER),
    event(EventType.OLD_KEY_DEAD, LATER, "w1", dead_at=LATER, death_proof="refused"),
    event(EventType.COMPLETED, LATER, "w1"),
)


def test_the_events_of_a_rotation_replay_to_what_it_became() -> None:
    planned = rotation(State.PLANNED, seq=1)
    done = planned
    for step in PATH:
        done = apply(done, step)
    assert (done.state, done.attempt, done.seq, done.new_ref) == (State.COMPLETED, 2, 13, "new")
    again = Rotation(**opened(planned, "sweep").data)
    assert again == planned
    for step in PATH:
        again = apply(again, step)
    assert again == done


def test_an_event_out_of_its_order_is_a_bug_and_not_a_failure_of_the_world() -> None:
    assert issubclass(IllegalTransitionError, ProgrammingError)
    with pytest.raises(IllegalTransitionError, match="completed in planned of rotation 0123456789"):
        apply(rotation(), event(EventType.COMPLETED, LATER, "test"))


@given(st.lists(st.sampled_from(sorted(TRANSITIONS)), max_size=60))
def test_any_sequence_of_events_keeps_the_order_of_the_life_of_a_key(kinds: list[EventType]) -> None:
    here, passed = rotation(State.PLANNED, seq=0), []
    for kind in kinds:
        if not allowed(here, kind):
            continue
        data: dict[str, Any] = {"restored_at": LATER} if kind is EventType.RESTORED else {}
        if kind is EventType.OLD_KEY_DEAD:
            data = {"dead_at": LATER}
        here = apply(here, event(kind, LATER, "test", **data))
        passed.append(kind)
    assert here.seq == len(passed)
    if EventType.REVOKE_INTENDED in passed:
        before = passed[: passed.index(EventType.REVOKE_INTENDED)]
        for needed in (EventType.STAGED, EventType.VERIFIED, EventType.PROMOTED, EventType.CUTOVER_CONFIRMED):
            assert needed in before
    if here.state is State.COMPLETED:
        assert EventType.OLD_KEY_DEAD in passed
    if here.state is State.ABORTED:
        assert EventType.OLD_KEY_DEAD not in passed
