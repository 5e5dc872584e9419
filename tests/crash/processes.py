"""The processes that the crash suite kills: `python processes.py` forks one for each line of JSON on stdin.

A forked process has everything imported already, so that a hundred of them cost seconds and not minutes.
Each is a process of its own in every other way: it opens the inventory, the journal, the store, the
exchange by itself, and SIGKILL leaves nothing of it but what is on the disk and at the exchange.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import ccxt

# Imported here, so that no forked process has to: half a second each.
import ccxt.async_support
import sqlalchemy.dialects.sqlite  # noqa: F401 - SQLAlchemy looks it up by name

import keyturn.client
import keyturn.client.watcher
import keyturn.consumers.client
import keyturn.consumers.file
import keyturn.exchanges.bybit.driver
import keyturn.exchanges.deribit.driver
import keyturn.exchanges.okx.driver
import keyturn.journal.sql
import keyturn.stores.age_files
from keyturn.domain.rotation import Mode, State
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.settings import load_inventory
from keyturn.testing.crash import Mishap, Tracer
from keyturn.wiring import open_world

NAME = "mm"
#: Exit statuses of a process that was not killed.
AT_REST, RESTLESS, FAILED = 0, 3, 4
# A sweep that finds no end in this time never will.
_PATIENCE_SECONDS = 45.0
_SWEEP_EVERY_SECONDS = 0.05
# Twenty calls a second.
_BOT_PAUSE_SECONDS = 0.05


class HurriedClock:
    """Runs ahead of the real clock, the same in every process: waits of a minute pass in seconds."""

    def __init__(self, began: float, pace: float) -> None:
        self._began, self._pace = began, pace

    def now(self) -> datetime:
        real = time.time()
        return datetime.fromtimestamp(real, UTC) + timedelta(seconds=(real - self._began) * (self._pace - 1))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._pace)


class Executioner(Tracer):
    """Kills this process, for real, before or after the n-th call of one method of one port.

    With `since`, calls are counted from the first one of that other method on.
    """

    def __init__(self, target: str, mishap: Mishap, *, nth: int, since: str) -> None:
        super().__init__(lambda: "")
        self.die = lambda: os.kill(os.getpid(), signal.SIGKILL)
        self._target, self._left, self._mishap, self._since = target, nth, mishap, since

    async def call(self, port: str, method: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        name = f"{port}.{method}"
        if name == self._since:
            self._since = ""
        if name == self._target and not self._since:
            self._left -= 1
            if self._left == 0:
                self.at, self.mishap = len(self.rows), self._mishap
        return await super().call(port, method, effect)


class _Traced:
    def __init__(self, adapters: Any, tracer: Tracer) -> None:
        self._adapters, self._tracer = adapters, tracer

    def driver(self, account: str) -> Any:
        return self._tracer.wrap("exchange", self._adapters.driver(account))

    def store(self, name: str) -> Any:
        return self._tracer.wrap("store", self._adapters.store(name))

    def consumer(self, name: str, credential: str) -> Any:
        return self._tracer.wrap("consumer", self._adapters.consumer(name, credential))


def _guarded(world: World, job: dict[str, Any]) -> World:
    if "target" not in job:
        return world
    tracer = Executioner(job["target"], Mishap(job["mishap"]), nth=job["nth"], since=job["since"])
    return replace(
        world, adapters=_Traced(world.adapters, tracer), journal=tracer.wrap("journal", world.journal)
    )


async def _work(folder: Path, job: dict[str, Any]) -> int:
    loaded = load_inventory(folder / "keyturn.yaml", manifests=catalog.manifests())
    clock = HurriedClock(job["began"], job["pace"])
    _hurry(clock)
    actor = f"{job['role']} {os.getpid()}"
    async with open_world(loaded, actor=actor, clock=clock, rate_limit=False) as world:
        engine = Engine(_guarded(world, job))
        return await (rotate(engine) if job["role"] == "rotate" else sweep_until_rest(engine))


def _hurry(clock: HurriedClock) -> None:
    """Let bot and consumer have this clock, too: what is older than its notice counts for nothing."""
    hurried: Any = SimpleNamespace(now=lambda _: clock.now())
    keyturn.client.watcher.datetime = keyturn.consumers.client.datetime = hurried


async def rotate(engine: Engine) -> int:
    """Open a rotation and move it on to its end, waiting where it waits."""
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    while True:
        progress = await engine.advance(opened.id)
        if not progress.rotation.is_open:
            return AT_REST
        if progress.wake_at is None:
            return RESTLESS
        wait = progress.wake_at - engine.world.clock.now()
        await engine.world.clock.sleep(max(0.0, wait.total_seconds()))


async def sweep_until_rest(engine: Engine) -> int:
    """Sweep until nothing is left to do."""
    journal, end = engine.world.journal, time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        await sweep.sweep(engine)
        opened = await journal.open_rotation(NAME)
        waits = opened is not None and not (opened.state is State.PARKED and opened.wake_at is None)
        if not waits and not await journal.unsettled():
            return AT_REST
        await asyncio.sleep(_SWEEP_EVERY_SECONDS)
    return RESTLESS


def trade(folder: Path, job: dict[str, Any]) -> int:
    """Be a bot: call without a pause on whatever key is current, until SIGTERM."""
    stopped: list[int] = []
    _hurry(HurriedClock(job["began"], job["pace"]))
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    exchange = getattr(ccxt, job["exchange"])({"enableRateLimit": False, "timeout": 10_000})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], job["url"])
    call, parent = getattr(exchange, job["method"]), os.getppid()
    attached = keyturn.client.attach(exchange, NAME, inventory=folder / "keyturn.yaml", consumer="bot")
    report: dict[str, Any] = {"made": 0, "failed": []}
    while not stopped and os.getppid() == parent:
        try:
            call(dict(job["params"]))
        except ccxt.BaseError as error:
            report["failed"].append(type(error).__name__)
        report["made"] += 1
        if report["made"] == 1:
            _write(folder / "bot.json", report)
        time.sleep(_BOT_PAUSE_SECONDS)
    attached.detach()
    _write(folder / "bot.json", {**report, "loaded": attached.fingerprint})
    return AT_REST


def _write(path: Path, report: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(report))
    fresh.replace(path)


# -- the nursery -------------------------------------------------------------------------------


def _live(job: dict[str, Any]) -> NoReturn:
    """Live the life of a forked process."""
    status = FAILED
    try:
        folder = Path(job["folder"])
        log = os.open(folder / f"{job['role']}-{job['id']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDWR)
        for theirs, ours in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(theirs, ours)
        status = trade(folder, job) if job["role"] == "bot" else asyncio.run(_work(folder, job))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def _say(**message: Any) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    """Fork as told, say how each process ended, and leave none behind."""
    alive: dict[int, int] = {}
    unread = b""
    _say(ready=True)
    while True:
        if select.select([0], [], [], 0.01)[0]:
            found = os.read(0, 65536)
            if not found:
                break
            *lines, unread = (unread + found).split(b"\n")
            for job in map(json.loads, lines):
                pid = os.fork()
                if pid == 0:
                    _live(job)
                alive[pid] = job["id"]
                _say(id=job["id"], pid=pid)
        while alive and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(id=alive.pop(ended[0]), status=os.waitstatus_to_exitcode(ended[1]))
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
