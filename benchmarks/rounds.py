"""Measuring each way several times: what counts is the median, and what is shown beside it the spread.

One run tells little: on a machine that others use, too, the same way takes a quarter longer a minute later.
So the ways take turns, and what drifts (other users, heat, a disk that flushes) meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self, TypeVar

T = TypeVar("T")

#: Runs of each way: the least number whose median two bad runs cannot move out of the others.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs of one way gave."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Put the values of the runs together."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def interleaved(ways: Sequence[str], measure: Callable[[str], T], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """Measure each way once, then each again, until all the rounds are done; in another order each time.

    Args:
        ways: their names.
        measure: measures one.
        rounds: how often.
    """
    runs: dict[str, list[T]] = {way: [] for way in ways}
    for number in range(rounds):
        first = number % len(ways)
        for way in [*ways[first:], *ways[:first]]:
            runs[way].append(measure(way))
    return runs
