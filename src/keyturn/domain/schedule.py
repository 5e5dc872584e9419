"""When a credential is due, and when a rotation that met trouble comes back. Pure arithmetic.

All times are aware; results are in UTC. Time zones come from the machine's database (`zoneinfo`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from keyturn.domain.inventory import Day, PolicyEntry, Window, format_duration

_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# How long before the venue ends a key its replacement is due. Three days hold a weekend on which nobody
# mends what is in the way; a tenth of the interval grows with it.
_LEAST_MARGIN = timedelta(days=3)
_MARGIN_SHARE = 10
# A rotation may begin this long before it is due, to meet a window: a week has every weekday in it. At most
# a quarter of the time between, so that a short interval stays about as long as it was written.
_MOST_LEAD = timedelta(days=7)
_LEAD_SHARE = 4
# Of a key that lives shorter than the margins, half the life is used, or it would be due when minted.
_SHORT_LIFE_SHARE = 2

# A venue's hiccup (a full rate limit, a restart) is over in seconds.
RETRY_FLOOR = timedelta(seconds=2)
# Whoever mends a store or a venue sees the rotation move within a quarter of an hour, and a night of
# failure is some forty tries, not thousands.
RETRY_CAP = timedelta(minutes=15)
# Rotations that failed together come back spread over a quarter of their delay.
_SPREAD_SHARE = 4
# 2 s doubled 20 times is past any cap; larger exponents only cost.
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Due:
    """When a rotation should begin."""

    #: The rotation begins at the first sweep from here on.
    at: datetime
    #: One sentence for people.
    why: str
    #: Window or not, it begins here.
    deadline: datetime
    #: The deadline came, or will, without a window: to be told loudly.
    outside_window: bool = False

    def is_due(self, now: datetime) -> bool:
        """Whether the rotation should have begun by now."""
        return self.at <= now


def next_due(
    policy: PolicyEntry,
    *,
    last_rotated_at: datetime | None,
    adopted_at: datetime | None,
    expires_at: datetime | None,
    now: datetime,
) -> Due:
    """Say when a credential is to be rotated.

    Args:
        policy: the credential's policy.
        last_rotated_at: when keyturn last made a key; None if it did not. Of this and `adopted_at`
            the later counts.
        adopted_at: for a key that a person made: when it was made if the venue tells, else when
            keyturn first saw it.
        expires_at: when the venue itself ends the key; None if it does not.
        now: the current time.
    """
    known = [at for at in (last_rotated_at, adopted_at) if at is not None]
    if not known:
        return Due(now, "there is no key yet", now)
    since = max(known)
    counted = "the last rotation" if since == last_rotated_at else "the key was made or adopted"
    deadline, why = _deadline(policy, since, counted, expires_at)
    if policy.window is None:
        return Due(deadline, why, deadline)
    earliest = deadline - min(_MOST_LEAD, (deadline - since) / _LEAD_SHARE)
    return _in_window(policy.window, max(earliest, now).astimezone(UTC), deadline, why)


def _deadline(
    policy: PolicyEntry, since: datetime, counted: str, expires_at: datetime | None
) -> tuple[datetime, str]:
    """Give the earlier of what the policy and the venue ask for, and which of them it is."""
    by_policy = since.astimezone(UTC) + policy.rotate_every
    if expires_at is not None:
        life = max(expires_at - since, timedelta(0))
        margin = min(max(_LEAST_MARGIN, policy.rotate_every / _MARGIN_SHARE), life / _SHORT_LIFE_SHARE)
        ends = expires_at.astimezone(UTC)
        if ends - margin < by_policy:
            return ends - margin, f"the exchange ends the key on {ends:%Y-%m-%d %H:%M} UTC"
    return by_policy, f"{format_duration(policy.rotate_every)} since {counted}"


def _in_window(window: Window, earliest: datetime, deadline: datetime, why: str) -> Due:
    """Find the first moment in the window between two times; the deadline if there is none."""
    if earliest >= deadline:
        if is_open(window, earliest):
            return Due(deadline, f"{why}; overdue", deadline)
        return Due(deadline, f"{why}; overdue, begins OUTSIDE the window", deadline, outside_window=True)
    for opens, closes in openings(window, earliest):
        if opens < deadline:
            at = max(opens, earliest)
            return Due(at, f"{why}; in the window that closes at {closes:%Y-%m-%d %H:%M} UTC", deadline)
    late = f"{why}; no window before the deadline, begins OUTSIDE the window"
    return Due(deadline, late, deadline, outside_window=True)


def is_open(window: Window, at: datetime) -> bool:
    """Tell whether the window is open at a time: from its opening on, until it closes."""
    return any(opens <= at for opens, _ in openings(window, at))


def openings(window: Window, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Give the window's openings of a week that close after a time, in order: (opens, closes) in UTC.

    A window belongs to the day on which it opens. One that a change of the clocks leaves without length
    does not open on that day.
    """
    zone = ZoneInfo(window.timezone)
    today = after.astimezone(zone).date()
    # From yesterday, whose window may reach into today, to the same weekday of next week.
    for offset in range(-1, 8):
        day = today + timedelta(days=offset)
        if _DAYS[day.weekday()] in window.days:
            last = day if window.start < window.end else day + timedelta(days=1)
            opens, closes = _moment(day, window.start, zone), _moment(last, window.end, zone)
            if max(opens, after) < closes:
                yield opens, closes


def _moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Give the moment at which a wall clock shows a time.

    In the hour that the clocks skip, the time moves on by as much as they do; of the hour that they
    show twice, the first is meant.
    """
    return datetime.combine(day, at, tzinfo=zone).astimezone(UTC)


def retry_delay(
    failures: int, *, rotation_id: str, floor: timedelta = RETRY_FLOOR, cap: timedelta = RETRY_CAP
) -> timedelta:
    """Give how long to wait after so many failures in a row.

    Doubles from `floor` to `cap`, then adds up to a quarter, which the rotation's id decides: the same
    rotation waits the same time in every worker, and a fleet that failed together does not come back
    together. Never shorter than `floor`.

    Args:
        failures: 1 after the first failure; 0 counts as 1.
        rotation_id: spreads the fleet.
        floor: the first delay; what a venue asked for, if it did.
        cap: the longest delay, before the spread.
    """
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    full = max(floor, min(cap, floor * (1 << doublings)))
    digest = hashlib.sha256(f"{rotation_id}/{failures}".encode()).digest()
    return full + full / _SPREAD_SHARE * (int.from_bytes(digest[:4], "big") / 2**32)
