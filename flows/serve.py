"""`python -m flows.serve`: put the deployments on the server and run what it asks for, on this machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.logging import get_logger
from prefect.runner import Runner
from prefect.settings import get_current_settings

from flows.deploy import HEARTBEAT_SECONDS, SWEEP, SWEEP_CRON, Pauses, pauses, served, settle_server
from keyturn import settings
from keyturn.domain.errors import KeyturnError
from keyturn.files import make_folder
from tasks.world import inventory

# A run is a process of about 90 MB, and Prefect's SQLite server slows down at about ten at once.
_RUNS_AT_ONCE = 4
# How soon a run that was started in the UI begins; Prefect's default of ten seconds feels like a fault.
_POLL_SECONDS = 2.0
_START_LOOK_SECONDS = 0.05


async def serve(*, cron: str, limit: int, ready_file: Path | None = None) -> None:
    """Deploy, reconcile, sweep once, then serve until a signal ends it.

    Args:
        cron: when to sweep.
        limit: how many runs at once; a throttle, never a lock.
        ready_file: made when everything is on the server.

    SIGTERM cancels the runs that are under way; their rotations stay in the journal, for the next sweep.
    """
    # Not paused on shutdown: schedules that a restart leaves paused would stop the sweep for good.
    runner = Runner(
        name="keyturn",
        limit=limit,
        query_seconds=_POLL_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        pause_on_shutdown=False,
    )
    async with get_client() as client:
        paused = await pauses(client)
    deployments = {each.name: await runner.aadd_deployment(each) for each in served(cron, paused)}
    log = get_logger("keyturn")
    if paused != Pauses():
        log.warning("The schedule of the sweep was paused in Prefect and stays paused; resume it there.")
    for gone in await settle_server():
        log.info("Removed from the server: %s", gone)
    async with get_client() as client:
        await client.create_flow_run_from_deployment(deployments[SWEEP])
    log.info("Serving %s", ", ".join(deployments))
    if ready_file is not None:
        await asyncio.to_thread(ready_file.touch, 0o600)
    await _until_stopped(runner)


async def _until_stopped(runner: Runner) -> None:
    """Run the runner until SIGTERM.

    Its own handler calls a coroutine function without awaiting it when it runs inside an event loop, and
    leaves its runs behind (3.8.8, seen 2026-11-21); so ours takes its place once it is installed.
    """
    running = asyncio.create_task(runner.start())
    while not runner.started and not running.done():
        await asyncio.wait({running}, timeout=_START_LOOK_SECONDS)
    stopping: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: stopping.add(loop.create_task(runner.astop())))
    await running
    await asyncio.gather(*stopping)


def _keep_temporary_files_apart() -> None:
    """Let the runner keep what it copies in a folder of this user's.

    It takes `runner_storage` in the folder for temporary files (runner.py of 3.8.8): one name for all users
    of the machine, and whoever comes first owns it.
    """
    folder = get_current_settings().home / "tmp"
    make_folder(folder)
    tempfile.tempdir = str(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, serve, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve", description="Serve keyturn's flows on this machine."
    )
    parser.add_argument("--inventory", help="the inventory; default: as the command line finds it")
    parser.add_argument("--sweep-cron", default=SWEEP_CRON, help="when to sweep (default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, default=_RUNS_AT_ONCE, help="runs at once (default: %(default)s)"
    )
    parser.add_argument("--ready-file", type=Path, help="made when everything is on the server")
    given = parser.parse_args(arguments)
    # The processes of the runs inherit it.
    os.environ[settings.INVENTORY_VARIABLE] = str(settings.find_inventory(given.inventory))
    try:
        inventory()
    except KeyturnError as error:
        sys.stderr.write(f"Error: {error.diagnostics()}\n")
        return error.exit_code
    _keep_temporary_files_apart()
    # Its line for every request would fill the log of a server that is polled every two seconds.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(cron=given.sweep_cron, limit=given.limit, ready_file=given.ready_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
