"""When a credential is due: tables with a fixed clock, edges at the second, changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.domain.inventory import PolicyEntry, Window
from keyturn.domain.schedule import (
    RETRY_CAP,
    RETRY_FLOOR,
    Due,
    is_open,
    next_due,
    openings,
    retry_delay,
)

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
BORN = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)  # a Monday


def policy(days: float = 60, window: Window | None = None) -> PolicyEntry:
    return PolicyEntry(rotate_every=timedelta(days=days), window=window)


def window(start: str, end: str, zone: str = "UTC", days: str = "mon tue wed thu fri sat sun") -> Window:
    return Window.model_validate({"start": start, "end": end, "timezone": zone, "days": days.split()})


def due(
    rules: PolicyEntry,
    now: datetime,
    *,
    rotated: datetime | None = BORN,
    adopted: datetime | None = None,
    expires: datetime | None = None,
) -> Due:
    return next_due(rules, last_rotated_at=rotated, adopted_at=adopted, expires_at=expires, now=now)


@pytest.mark.parametrize(
    ("since_due", "is_due"),
    [(-60 * DAY, False), (-SECOND, False), (timedelta(0), True), (SECOND, True), (300 * DAY, True)],
)
def test_a_key_is_due_exactly_when_its_interval_is_over(since_due: timedelta, is_due: bool) -> None:
    now = BORN + 60 * DAY + since_due
    found = due(policy(60), now)
    assert found.at == found.deadline == BORN + 60 * DAY
    assert found.is_due(now) is is_due
    assert found.why == "60d since the last rotation"


def test_a_credential_without_a_key_is_due_now() -> None:
    found = due(policy(), BORN, rotated=None)
    assert found.is_due(BORN)
    assert found.why == "there is no key yet"
    assert due(policy(window=window("02:00", "03:00")), BORN, rotated=None).is_due(BORN)


def test_an_adopted_key_counts_from_its_adoption() -> None:
    found = due(policy(30), BORN, rotated=None, adopted=BORN - 29 * DAY)
    assert found.at == BORN + DAY
    assert "made or adopted" in found.why


def test_the_later_of_rotation_and_adoption_counts() -> None:
    assert due(policy(30), BORN, adopted=BORN - 400 * DAY).at == BORN + 30 * DAY
    assert due(policy(30), BORN, adopted=BORN + DAY).at == BORN + 31 * DAY


@pytest.mark.parametrize(
    ("interval", "life", "due_after"),
    [
        (60, 90, 60),  # the policy is earlier
        (60, 66, 60),  # both on the same day: the policy
        (60, 65, 59),  # a tenth of 60 days before the venue ends it
        (90, 90, 81),
        (30, 32, 29),  # three days at least
        (30, 30, 27),
        (60, 8, 4),  # half of a short life
        (60, 0, 0),  # ended as it began
    ],
)
def test_the_venues_own_expiry_less_a_margin_wins_when_it_is_earlier(
    interval: int, life: int, due_after: int
) -> None:
    found = due(policy(interval), BORN, expires=BORN + life * DAY)
    assert found.deadline == BORN + due_after * DAY
    assert ("the exchange ends the key" in found.why) is (due_after < interval)


def test_a_key_that_the_venue_has_already_ended_is_due() -> None:
    assert due(policy(60), BORN + DAY, expires=BORN - DAY).is_due(BORN + DAY)


NIGHTS = window("02:00", "05:00")
DEADLINE = BORN + 60 * DAY  # 2026-07-31 12:00, a Friday


@pytest.mark.parametrize(
    ("now", "at", "loud"),
    [
        (BORN, datetime(2026, 7, 25, 2, 0, tzinfo=UTC), False),  # the lead begins on 24 July at 12:00
        (datetime(2026, 7, 25, 1, 59, 59, tzinfo=UTC), datetime(2026, 7, 25, 2, 0, tzinfo=UTC), False),
        (datetime(2026, 7, 25, 3, 0, tzinfo=UTC), datetime(2026, 7, 25, 3, 0, tzinfo=UTC), False),
        (datetime(2026, 7, 25, 4, 59, 59, tzinfo=UTC), datetime(2026, 7, 25, 4, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 7, 25, 5, 0, tzinfo=UTC), datetime(2026, 7, 26, 2, 0, tzinfo=UTC), False),
        (datetime(2026, 7, 31, 4, 59, tzinfo=UTC), datetime(2026, 7, 31, 4, 59, tzinfo=UTC), False),
        (datetime(2026, 7, 31, 5, 0, tzinfo=UTC), DEADLINE, True),  # the last window has closed
        (DEADLINE, DEADLINE, True),
        (datetime(2026, 8, 1, 3, 0, tzinfo=UTC), DEADLINE, False),  # overdue, and the window is open
        (datetime(2026, 8, 1, 6, 0, tzinfo=UTC), DEADLINE, True),
    ],
)
def test_a_rotation_begins_in_the_first_window_of_its_lead_and_at_the_deadline_without_one(
    now: datetime, at: datetime, loud: bool
) -> None:
    found = due(policy(60, NIGHTS), now)
    assert (found.at, found.deadline) == (at, DEADLINE)
    assert found.outside_window is loud
    assert ("OUTSIDE" in found.why) is loud


def test_a_weekly_window_is_met_by_an_interval_of_thirty_days() -> None:
    found = due(policy(30, window("03:00", "04:00", days="sun")), BORN)
    assert found.at == datetime(2026, 6, 28, 3, 0, tzinfo=UTC)
    assert not found.outside_window


def test_a_short_interval_keeps_three_quarters_of_its_length() -> None:
    assert due(policy(4, window("00:00", "23:59")), BORN).at == BORN + 3 * DAY


@given(
    days=st.integers(1, 120),
    life=st.none() | st.integers(0, 200),
    passed=st.integers(-5, 200),
    start=st.times(),
    end=st.times(),
    weekdays=st.sets(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1),
    zone=st.sampled_from(
        ["UTC", "Europe/Zurich", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
    ),
)
def test_a_window_never_moves_a_rotation_past_its_deadline(
    days: int, life: int | None, passed: int, start: time, end: time, weekdays: set[str], zone: str
) -> None:
    hours = Window(start=start, end=end, days=frozenset(weekdays), timezone=zone)  # type: ignore[arg-type]
    now = BORN + passed * DAY
    found = due(policy(days, hours), now, expires=None if life is None else BORN + life * DAY)
    without = due(policy(days), now, expires=None if life is None else BORN + life * DAY)
    assert found.deadline == without.deadline
    assert found.at <= found.deadline
    if not found.outside_window and found.at < found.deadline:
        assert is_open(hours, found.at)
    # Asking again at the time that was named gives the same answer, so that no sweep misses it.
    assert due(
        policy(days, hours), max(found.at, now), expires=None if life is None else BORN + life * DAY
    ).is_due(max(found.at, now))


@pytest.mark.parametrize(
    ("local", "is_open_then"),
    [
        ("2026-07-24 21:59:59", False),
        ("2026-07-24 22:00:00", True),  # Friday
        ("2026-07-25 01:59:59", True),  # Saturday, in Friday's window
        ("2026-07-25 02:00:00", False),
        ("2026-07-25 23:00:00", False),  # Saturday has none of its own
        ("2026-07-24 01:00:00", False),  # Thursday night is not Friday's
    ],
)
def test_a_window_across_midnight_belongs_to_the_day_on_which_it_opens(
    local: str, is_open_then: bool
) -> None:
    zurich = ZoneInfo("Europe/Zurich")
    at = datetime.fromisoformat(local).replace(tzinfo=zurich)
    assert is_open(window("22:00", "02:00", "Europe/Zurich", "fri"), at) is is_open_then


@pytest.mark.parametrize(
    ("day", "start", "end", "opens", "closes"),
    [
        # Summer and winter: the wall clock counts.
        ("2026-07-01", "02:00", "05:00", "2026-07-01 00:00", "2026-07-01 03:00"),
        ("2026-12-01", "02:00", "05:00", "2026-12-01 01:00", "2026-12-01 04:00"),
        # 29 March 2026: 02:00 becomes 03:00. The window is an hour shorter.
        ("2026-03-29", "01:00", "05:00", "2026-03-29 00:00", "2026-03-29 03:00"),
        # It opens in the hour that is skipped: as much later as the clocks move.
        ("2026-03-29", "02:30", "05:00", "2026-03-29 01:30", "2026-03-29 03:00"),
        # 25 October 2026: 03:00 becomes 02:00. The window is an hour longer.
        ("2026-10-25", "01:00", "05:00", "2026-10-24 23:00", "2026-10-25 04:00"),
        # 02:30 comes twice: the first opens, and the first closes.
        ("2026-10-25", "02:30", "05:00", "2026-10-25 00:30", "2026-10-25 04:00"),
        ("2026-10-25", "01:00", "02:30", "2026-10-24 23:00", "2026-10-25 00:30"),
    ],
)
def test_windows_follow_the_wall_clock_through_changes_of_the_clocks(
    day: str, start: str, end: str, opens: str, closes: str
) -> None:
    after = datetime.fromisoformat(f"{day} 00:00").replace(tzinfo=ZoneInfo("Europe/Zurich"))
    found = next(openings(window(start, end, "Europe/Zurich"), after))
    assert [f"{t:%Y-%m-%d %H:%M}" for t in found] == [opens, closes]


def test_a_window_that_a_change_of_the_clocks_leaves_no_length_opens_on_the_next_day() -> None:
    after = datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("Europe/Zurich"))
    opens, closes = next(openings(window("02:30", "03:15", "Europe/Zurich"), after))
    assert (opens.day, closes - opens) == (30, timedelta(minutes=45))


def test_delays_double_from_the_floor_to_the_cap() -> None:
    delays = [retry_delay(n, rotation_id="0123456789") for n in range(1, 40)]
    for n, delay in enumerate(delays):
        full = min(RETRY_CAP, RETRY_FLOOR * 2 ** min(n, 30))
        assert full <= delay <= full * 1.25
    assert retry_delay(0, rotation_id="x") >= RETRY_FLOOR
    assert retry_delay(10**9, rotation_id="x") <= RETRY_CAP * 1.25


def test_a_venues_own_waiting_time_is_never_cut_short() -> None:
    assert retry_delay(3, rotation_id="x", floor=HOUR) >= HOUR


def test_a_fleet_that_failed_together_comes_back_spread_and_each_rotation_always_the_same() -> None:
    ids = [f"{n:010}" for n in range(100)]
    delays = {i: retry_delay(5, rotation_id=i) for i in ids}
    assert len(set(delays.values())) == 100
    assert delays == {i: retry_delay(5, rotation_id=i) for i in ids}
    assert max(delays.values()) - min(delays.values()) > RETRY_FLOOR * 2**4 * 0.2
