"""Looks through many seeds on every core, and tells those that break a rule."""

from __future__ import annotations

import multiprocessing
import os
import time

from .run import Result, simulate

_CHUNK = 500
# More failing seeds than these say nothing new; the shortest is the one to read.
_ENOUGH = 20


def search(first: int, count: int) -> int:
    """Run seeds, print what was found, and give the exit status."""
    began, done, calls = time.monotonic(), 0, 0
    failed: list[Result] = []
    chunks = [range(at, min(at + _CHUNK, first + count)) for at in range(first, first + count, _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for number, (found, made) in enumerate(pool.imap_unordered(_chunk, chunks), 1):
            failed += found
            done, calls = min(number * _CHUNK, count), calls + made
            for result in found:
                print(f"make simulate SEED={result.seed}  # {result.violation}", flush=True)
            if not number % 20 and number < len(chunks):
                print(f"{done:,} seeds, {calls:,} calls, {time.monotonic() - began:.0f} s", flush=True)
            if len(failed) >= _ENOUGH:
                break
    print(f"{done:,} seeds, {calls:,} calls, {time.monotonic() - began:.0f} s; {len(failed)} broke a rule")
    if not failed:
        return 0
    shortest = min(failed, key=lambda result: result.calls)
    print(f"\nThe shortest: make simulate SEED={shortest.seed}\n{shortest.told()}")
    return 1


def _chunk(seeds: range) -> tuple[list[Result], int]:
    results = [simulate(seed) for seed in seeds]
    return [r for r in results if r.violation], sum(r.calls for r in results)
