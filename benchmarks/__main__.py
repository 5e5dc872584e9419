"""`python -m benchmarks [N ...]`: rotate N credentials three ways, five times each, and print the ratios.

Each measurement is a process of its own, so that memory is its own; each has its own exchanges, with
every call answered 50 ms late. The ways take turns, and the median counts, see `rounds`. The number of
HTTP calls is counted by the exchanges and printed, so that what is compared can be seen to be the same.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.rounds import ROUNDS, Spread, interleaved
from benchmarks.scene import Scene, scene

LATENCY_SECONDS = 0.05
#: What a sweep works on at the same time by default.
AT_ONCE = 32
SIZES = (10, 100, 1000)
WAYS = ("floor", "engine", "prefect")
TARGETS = {"engine": 1.25, "prefect": 2.0}


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    seconds: float
    calls: int
    peak_mib: float
    journal_kib: float = 0.0


def _calls(made: Scene) -> int:
    total = 0
    for url in made.urls.values():
        with urllib.request.urlopen(f"{url}/_sim/calls") as answer:
            total += len(json.load(answer))
    return total


def _measure(way: str, count: int) -> Figure:
    """Measure one way; in a process of its own."""
    from benchmarks import engine, floor, under_prefect

    with scene(count, LATENCY_SECONDS) as made:
        if way == "floor":
            seconds = asyncio.run(floor.measure(made, AT_ONCE))
        else:
            asyncio.run(engine.prepare(made))
            if way == "engine":
                seconds = asyncio.run(engine.measure(made, AT_ONCE))
            else:
                seconds = asyncio.run(under_prefect.measure(made, AT_ONCE))
        journal = sum(f.stat().st_size for f in made.folder.glob("keyturn-journal.db*"))
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        return Figure(seconds, _calls(made), peak, journal / 1024)


def _child(way: str, count: int) -> Figure:
    command = [sys.executable, "-m", "benchmarks", "--one", way, str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Figure(**json.loads(done.stdout.splitlines()[-1]))


def _row(count: int, way: str, figures: Sequence[Figure], floors: Sequence[Figure]) -> tuple[str, bool]:
    """Give a line of the table, and whether the way keeps its target."""
    seconds = Spread.of([figure.seconds for figure in figures])
    # Each round's ratio is of two runs that stand side by side in time.
    ratio = Spread.of([mine.seconds / floor.seconds for mine, floor in zip(figures, floors, strict=True)])
    target = TARGETS.get(way)
    goal = f"{target:.2f}" if target else ""
    peak, journal = max(f.peak_mib for f in figures), max(f.journal_kib for f in figures)
    calls = "-".join(str(each) for each in sorted({figure.calls for figure in figures}))
    line = (
        f"{count:>5} {way:8} {seconds!s:>19} {ratio!s:>17} {goal:>6} {calls:>9} {peak:5.0f} {journal:11.0f}"
    )
    return line, target is None or ratio.median <= target


def main(arguments: list[str]) -> int:
    """Measure every size and print a table; the exit status tells whether the targets were met."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(asdict(_measure(arguments[1], int(arguments[2])))))
        return 0
    sizes = [int(a) for a in arguments] or list(SIZES)
    print(f"{LATENCY_SECONDS * 1000:g} ms latency, {AT_ONCE} rotations at once, SQLite journal, age store")
    print(f"the median of {ROUNDS} runs, the least and the most")
    print("    N way                  seconds             ratio target     calls   MiB journal KiB")
    met = True
    for count in sizes:
        runs = interleaved(WAYS, lambda way, count=count: _child(way, count))
        for way in WAYS:
            line, kept = _row(count, way, runs[way], runs["floor"])
            print(line, flush=True)
            met = met and kept
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
