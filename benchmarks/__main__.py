"""`python -m benchmarks [N ...]`: rotate N credentials three ways, in one run, and print the ratios.

Each measurement is a process of its own, so that memory is its own; each has its own exchanges, with
every call answered 50 ms late. The number of HTTP calls is counted by the exchanges and printed, so that
what is compared can be seen to be the same.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass

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
    from keyturn.cli import session

    with scene(count, LATENCY_SECONDS) as made:
        if way == "floor":
            seconds = asyncio.run(floor.measure(made, AT_ONCE))
        else:
            asyncio.run(engine.prepare(made))
            if way == "engine":
                seconds = session.run(engine.measure(made, AT_ONCE))  # as the command line runs a sweep
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


def main(arguments: list[str]) -> int:
    """Measure every size and print a table; the exit status tells whether the targets were met."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(asdict(_measure(arguments[1], int(arguments[2])))))
        return 0
    sizes = [int(a) for a in arguments] or list(SIZES)
    print(f"{LATENCY_SECONDS * 1000:g} ms latency, {AT_ONCE} rotations at once, SQLite journal, age store")
    print("    N way       seconds  ratio  target  calls    MiB  journal KiB")
    met = True
    for count in sizes:
        figures = {way: _child(way, count) for way in WAYS}
        for way, figure in figures.items():
            ratio, target = figure.seconds / figures["floor"].seconds, TARGETS.get(way)
            met = met and (target is None or ratio <= target)
            goal = f"{target:.2f}" if target else ""
            print(
                f"{count:>5} {way:8} {figure.seconds:8.2f} {ratio:6.2f} {goal:>7} {figure.calls:>6}"
                f" {figure.peak_mib:6.0f} {figure.journal_kib:12.0f}"
            )
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
