"""Run one simulated exchange as a process.

``python -m keyturn.simulator --exchange bybit --seed-file x.json`` prints one line of JSON when it is ready:
``{"exchange": ..., "url": ..., "pid": ...}``. SIGTERM and SIGINT stop it cleanly (exit status 0); a seed that
can't be used ends it with status 2 and a line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from keyturn.simulator.core import SimExchange
from keyturn.simulator.seed import EXCHANGES, Seed, SeedError, build, read_seed

# How often --with-parent looks whether the parent still lives.
_PARENT_CHECK_SECONDS = 0.5


async def serve(sim: SimExchange, *, with_parent: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent process is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.getppid()
    async with sim:
        ready = {"exchange": sim.venue, "url": sim.base_url, "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), _PARENT_CHECK_SECONDS if with_parent else None)
            except TimeoutError:
                if os.getppid() != parent:
                    return


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, serve, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m keyturn.simulator", description="Simulate an exchange on loopback."
    )
    parser.add_argument("--exchange", required=True, choices=sorted(EXCHANGES))
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--seed-file", type=Path, help="accounts and keys to start with (JSON)")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent process is gone")
    given = parser.parse_args(arguments)
    try:
        seed = read_seed(given.seed_file) if given.seed_file else Seed(accounts=[])
        sim = build(given.exchange, seed, port=given.port)
    except SeedError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(serve(sim, with_parent=given.with_parent))
    return 0
