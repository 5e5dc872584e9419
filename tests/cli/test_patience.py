"""How long a command that moves one rotation on waits in place, before it tells where things stand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

from keyturn.cli.follow import Patience
from keyturn.domain.rotation import Rotation, State
from keyturn.testing.journal_cases import a_rotation

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def waits(rotation: Rotation, pauses: list[float], patience: Patience | None = None) -> float:
    """Give the seconds for which a command waits, when it rests for so long each time."""
    patience, now = patience or Patience(), NOW
    for seconds in pauses:
        until = now + timedelta(seconds=seconds)
        if patience.ends(rotation, until, now):
            break
        now = until
    return (now - NOW).total_seconds()


def test_what_stays_in_the_way_is_told_within_a_minute() -> None:
    # An exchange still knows the key that it was told to revoke; no pause is longer than a minute.
    stuck = replace(a_rotation(), state=State.REVOKING, failures=3)
    assert 30 <= waits(stuck, [2, 4, 8, 16, 32, 60, 60, 60, 60]) <= 60


def test_a_consumer_is_waited_for_some_minutes() -> None:
    waiting = replace(a_rotation(), state=State.CUTTING_OVER)
    assert 600 <= waits(waiting, [15.0] * 200) <= 630


def test_a_long_rest_and_a_park_are_not_waited_for() -> None:
    assert waits(replace(a_rotation(), state=State.GRACE), [3600]) == 0
    assert waits(replace(a_rotation(), state=State.PARKED), [1]) == 0


def test_a_failure_that_comes_after_minutes_of_waiting_has_its_minute_too() -> None:
    waiting = replace(a_rotation(), state=State.CUTTING_OVER)
    patience = Patience()
    for second in count(0, 15):
        now = NOW + timedelta(seconds=second)
        assert not patience.ends(waiting, now + timedelta(seconds=15), now)
        if second == 120:
            break
    late = NOW + timedelta(seconds=135)
    assert not patience.ends(replace(waiting, failures=1), late + timedelta(seconds=2), late)


def test_each_state_has_its_own_minute() -> None:
    patience = Patience()
    stuck = replace(a_rotation(), state=State.MINTING, failures=2)
    assert not patience.ends(stuck, NOW + timedelta(seconds=50), NOW)
    later = NOW + timedelta(seconds=50)
    moved_on = replace(stuck, state=State.REVOKING)
    assert not patience.ends(moved_on, later + timedelta(seconds=50), later)
