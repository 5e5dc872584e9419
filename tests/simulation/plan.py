"""What a seed stands for: the world, who takes part, and at which points something happens."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from keyturn.domain.rotation import Mode

from .scheduler import Kind, Point

# A rotation takes about sixty calls; two that meet, and the sweeps after them, some hundreds.
_STEPS = 140
#: Beyond the patience with a silent worker (30 s), the settling of a key that never was (90 s), a grace (10 s
#: here), the time for confirmations (60 s here), and everything.
_SLEEPS = (0.5, 3.0, 12.0, 45.0, 100.0, 400.0, 4000.0)
_ASKED = ("abort", "rollback", "resume", "incident", "put", "adopt", "make", "delete")


@dataclass(frozen=True)
class Plan:
    """A run, before it begins."""

    seed: int
    mode: Mode
    old_key: bool
    mirrored: bool
    propagation: float
    evidence: str
    #: Whether each worker begins at once, or after the step of its START.
    workers: tuple[str, ...]
    priorities: tuple[int, ...]
    #: Seconds between the sweeps of each worker.
    pauses: tuple[tuple[float, ...], ...]
    points: tuple[Point, ...]


def plan(seed: int) -> Plan:
    """Draw the run of a seed."""
    draw = Random(seed)
    workers = ("rotate", "sweep", "sweep two") if draw.random() < 0.35 else ("rotate", "sweep")
    priorities = list(range(1, len(workers) + 1))
    draw.shuffle(priorities)
    return Plan(
        seed=seed,
        mode=draw.choice((Mode.INCIDENT, Mode.INCIDENT, Mode.MANUAL)),
        old_key=draw.random() < 0.85,
        mirrored=draw.random() < 0.15,
        propagation=draw.choice((0.0, 0.0, 0.0, 3.0)),
        evidence=draw.choice(("ack", "timed")),
        workers=workers,
        priorities=tuple(priorities),
        pauses=tuple(_pauses(draw) for _ in workers),
        points=tuple(_points(draw)),
    )


def _pauses(draw: Random) -> tuple[float, ...]:
    """Sweeps that come at once, and then ever more slowly: a quiet world needs no thousand looks."""
    first = draw.choice((0.5, 2.0, 10.0, 35.0))
    return tuple(first * draw.choice((1.0, 2.5)) ** n for n in range(draw.randint(3, 8)))


def _points(draw: Random) -> list[Point]:
    points: list[Point] = []
    # Mishaps come in bursts: what made one call fail is there for the next ones, too.
    for _ in range(draw.choice((1, 1, 2, 2, 3))):
        step = draw.randint(1, _STEPS)
        for _ in range(draw.choice((1, 1, 2, 3))):
            points.append(_mishap(draw, step))
            step += draw.randint(0, 6)
    for _ in range(draw.choice((0, 0, 1, 2))):
        step = draw.randint(1, _STEPS)
        points.append(Point(step, Kind.START, process=draw.choice(_ASKED)))
    return points


_KINDS = (
    *[Kind.SLEEP_BEFORE] * 5,
    *[Kind.SLEEP_AFTER] * 3,
    *[Kind.YIELD] * 3,
    *[Kind.LOST_DONE] * 4,
    *[Kind.DIE_AFTER] * 2,
    Kind.LOST_NOT_DONE,
    Kind.FAILED,
    Kind.REFUSED,
    Kind.DIE_BEFORE,
    Kind.STALE,
)
_LATE = frozenset({Kind.SLEEP_BEFORE, Kind.SLEEP_AFTER})
_THEN = (Kind.DIE_AFTER, Kind.LOST_DONE, Kind.LOST_NOT_DONE, Kind.SLEEP_AFTER)
_MAYBE_LATE = frozenset({Kind.LOST_DONE, Kind.LOST_NOT_DONE, Kind.FAILED, Kind.REFUSED})


def _mishap(draw: Random, step: int) -> Point:
    kind = draw.choice(_KINDS)
    late = kind in _LATE or (kind in _MAYBE_LATE and draw.random() < 0.3)
    seconds = draw.choice(_SLEEPS) if late else 0.0
    # A worker that wakes up late is as likely to end badly as any other, and that is one case in a thousand.
    then = draw.choice(_THEN) if kind is Kind.SLEEP_BEFORE and draw.random() < 0.4 else None
    return Point(step, kind, seconds, draw.random() < 0.6, draw.randrange(60), then=then)
