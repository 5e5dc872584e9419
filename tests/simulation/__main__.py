"""Run seeds, print those that break a rule, or replay one with its trace."""

from __future__ import annotations

import argparse
import sys

from .run import simulate
from .search import search


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and print its trace")
    parser.add_argument("--count", type=int, default=1_000_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    chosen = parser.parse_args()
    if chosen.seed is None:
        return search(chosen.first, chosen.count)
    result = simulate(chosen.seed)
    print(result.told())
    return 1 if result.violation else 0


if __name__ == "__main__":
    sys.exit(main())
