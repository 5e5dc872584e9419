"""Two workers, a person, a venue that fails, and time, in any order: the invariants hold throughout.

Each worker stops before every port call and goes on when it is told to, so that every interleaving of
calls is one that hypothesis can find. A worker can be killed at any such point. The judge looks after
every move; at the end sweeps bring the world to rest, and it must be in order.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keyturn.domain.errors import ExchangeFault, KeyturnError
from keyturn.domain.rotation import Mode, State
from keyturn.engine import sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.testing.fake_world import NAME, FakeWorld, _Adapters


@dataclass
class Worker:
    """A process that works on the rotation, one port call at a time."""

    task: asyncio.Task[None] | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()

    async def gate(self) -> None:
        self.stopped.set()
        await self.go.wait()
        self.go.clear()

    async def move(self) -> None:
        """Let one port call happen."""
        self.stopped.clear()
        self.go.set()
        waiter = asyncio.create_task(self.stopped.wait())
        await asyncio.wait({waiter, self.task}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self.task.done() and not self.task.cancelled() and (error := self.task.exception()):
            raise error

    async def kill(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        self.task, self.go, self.stopped = None, asyncio.Event(), asyncio.Event()


class Gated:
    """A port of which every call waits for its worker's turn."""

    def __init__(self, worker: Worker, target: Any) -> None:
        self._worker, self._target = worker, target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not inspect.iscoroutinefunction(value):
            return value

        async def gated(*args: Any, **kwargs: Any) -> Any:
            await self._worker.gate()
            return await value(*args, **kwargs)

        return gated


class TwoWorkers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.workers = [Worker(), Worker()]

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def world(self, worker: Worker) -> World:
        plain = self.fake.world()
        fake = self.fake
        ports = _Adapters(*(Gated(worker, p) for p in (fake.exchange, fake.store, fake.bot, fake.mirror)))
        return World(
            plain.inventory, plain.manifests, ports, Gated(worker, plain.journal), plain.clock, "worker"
        )

    @initialize(old_key=st.booleans(), lag=st.sampled_from([0.0, 3.0]), mirrored=st.booleans())
    def begin(self, old_key: bool, lag: float, mirrored: bool) -> None:
        self.fake = FakeWorld(grace="10s", confirm_within="60s", propagation_seconds=lag, mirrored=mirrored)
        self.run(self.fake.prepare(old_key=old_key))
        engine = Engine(self.fake.world())
        self.run(engine.open(NAME, mode=Mode.MANUAL, reason="a property"))

    @rule(number=st.sampled_from([0, 1]))
    def start(self, number: int) -> None:
        worker = self.workers[number]
        if not worker.busy:
            worker.go, worker.stopped = asyncio.Event(), asyncio.Event()
            worker.task = self.loop.create_task(self._work(worker))
            self.run(worker.stopped.wait())

    async def _work(self, worker: Worker) -> None:
        with suppress(KeyturnError):  # a flow run that failed; the next goes on
            await sweep.sweep(Engine(self.world(worker)), at_once=1)

    @precondition(lambda self: any(w.busy for w in self.workers))
    @rule(number=st.sampled_from([0, 1]), moves=st.integers(1, 25))
    def move(self, number: int, moves: int) -> None:
        worker = self.workers[number] if self.workers[number].busy else self.workers[1 - number]
        for _ in range(moves):
            if worker.busy:
                self.run(worker.move())
                self.fake.judge_now()

    @rule(number=st.sampled_from([0, 1]))
    def kill(self, number: int) -> None:
        if self.workers[number].busy:
            self.run(self.workers[number].kill())

    @rule(seconds=st.sampled_from([1, 12, 45, 100, 4000]))
    def time_passes(self, seconds: int) -> None:
        # A list that is out of date catches up with time; for how long it may lag is the manifest's word.
        self.fake.exchange._stale.clear()
        self.fake.clock.advance(seconds)

    @rule(
        method=st.sampled_from(["create_key", "revoke_key", "introspect", "private_read", "list_keys"]),
        fault=st.sampled_from([ExchangeFault.OUTCOME_UNKNOWN, ExchangeFault.RATE_LIMITED]),
        effect=st.booleans(),
    )
    def venue_fails(self, method: str, fault: ExchangeFault, effect: bool) -> None:
        changing = method in {"create_key", "revoke_key"}
        unknown = fault is ExchangeFault.OUTCOME_UNKNOWN
        kind = fault if changing or not unknown else ExchangeFault.VENUE_DOWN
        self.fake.exchange.fail(method, kind, effect=effect and changing and unknown)

    @rule()
    def list_is_stale(self) -> None:
        newest = max((k.created_at for k in self.fake.exchange.truth().values()), default=None)
        if newest and self.fake.clock.now() - newest < timedelta(seconds=30):
            self.fake.exchange.serve_stale_list()

    @rule(ask=st.sampled_from(["abort", "rollback", "resume"]))
    def person_asks(self, ask: str) -> None:
        engine = Engine(self.fake.world(actor="person"))
        with suppress(KeyturnError):
            self.run(engine.resume(NAME) if ask == "resume" else getattr(engine, ask)(NAME, "wanted"))

    @rule()
    def bot_stalls_or_goes_on(self) -> None:
        self.fake.bot.confirms = not self.fake.bot.confirms

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "fake"):
            self.fake.judge_now()

    def teardown(self) -> None:
        try:
            if hasattr(self, "fake"):
                self.run(self._to_rest())
        finally:
            self.loop.close()

    async def _to_rest(self) -> None:
        for worker in self.workers:
            if worker.busy:
                await worker.kill()
        fake = self.fake
        fake.bot.confirms = True
        fake.exchange._faults.clear()
        fake.exchange._stale.clear()
        for _ in range(5):
            await fake.sweep_until_rest()
            opened = await fake.journal.open_rotation(NAME)
            if opened is None:
                break
            assert opened.state is State.PARKED
            await Engine(fake.world(actor="person")).resume(NAME)
        if await fake.store.peek("bots/mm", "current") is None:
            # The first key was aborted: the sweep tries again when the pause after an abort is over.
            fake.clock.advance(100_000)
            await fake.sweep_until_rest()
        await fake.judge_rest()


TestTwoWorkers = pytest.mark.slow(TwoWorkers.TestCase)
TestTwoWorkers.settings = settings(
    max_examples=120,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
