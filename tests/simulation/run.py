"""One run: the processes of a seed over a world, then calm, then rest, then the last judgement."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any
from unittest import mock

from keyturn.domain.errors import KeyturnError, RefusedError
from keyturn.domain.rotation import Mode, Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.testing.fake_world import NAME, PATH, _Adapters

from .loop import at_once
from .plan import Plan, plan
from .scheduler import Process, Scheduler, Time
from .world import SimulatedWorld, ViolationError

# So many steps with mishaps; then nothing happens any more, and everybody goes on to the end.
_EVENTFUL = 600
_MOST = 6000
# How long a command line waits in place; see `cli/follow.py`.
_LONGEST_REST = timedelta(minutes=1)
_NEXT_ROTATION = timedelta(days=61)
# After a rotation that aborted, the next may be put off for a day.
_AFTER_ABORT = timedelta(days=2)


@dataclass(frozen=True)
class Result:
    """How a run went."""

    seed: int
    violation: ViolationError | None
    trace: tuple[tuple[float, str, str, str], ...]
    calls: int
    ended: str

    @property
    def digest(self) -> str:
        """Stands for all that happened, in order."""
        return hashlib.sha256(repr((self.trace, self.ended)).encode()).hexdigest()

    def told(self, most: int = 400) -> str:
        """Tell the run for people."""
        lines = [f"{at:10.2f} s  {who:10} {call:28} {what}" for at, who, call, what in self.trace[-most:]]
        return "\n".join([*lines, f"seed {self.seed}: {self.violation or 'in order'}"])


def simulate(seed: int, *, lenient: frozenset[str] = frozenset()) -> Result:
    """Run a seed.

    Args:
        seed: of the run.
        lenient: rules of `world.RULES` that are not held.
    """
    run = _Run(plan(seed), lenient)
    violation = None
    with seeded(seed):
        try:
            run.go()
        except ViolationError as error:
            violation = error
    scheduler = run.scheduler
    return Result(seed, violation, tuple(scheduler.trace), scheduler.steps, run.ended)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let ids, keys and salts be those of a seed: they are drawn from `secrets`."""
    draw = Random(~seed)
    with mock.patch.multiple(
        secrets,
        token_bytes=lambda n=32: draw.randbytes(n),
        token_hex=lambda n=32: draw.randbytes(n).hex(),
        token_urlsafe=lambda n=32: draw.randbytes(n).hex(),
    ):
        yield


class _Run:
    def __init__(self, planned: Plan, lenient: frozenset[str]) -> None:
        self.plan = planned
        self.fake = SimulatedWorld(
            grace="10s",
            confirm_within="60s",
            evidence=planned.evidence,
            mirrored=planned.mirrored,
            propagation_seconds=planned.propagation,
            lenient=lenient,
            judging=False,
        )
        self.scheduler = Scheduler(self.fake, list(planned.points), start=self._person)
        self.ended = ""

    def go(self) -> None:
        at_once(self.fake.prepare(old_key=self.plan.old_key))
        for name, priority, pauses in zip(
            self.plan.workers, self.plan.priorities, self.plan.pauses, strict=True
        ):
            body = self._rotate if name == "rotate" else self._sweeps(pauses)
            self.scheduler.spawn(name, priority, body)
        self.scheduler.run(_EVENTFUL)
        self.scheduler.calm()
        self.scheduler.run(_MOST)
        self._to_rest()

    # -- who takes part ------------------------------------------------------------------------

    def world(self, process: Process) -> World:
        """Give the world as a process has it."""
        fake, wrap = self.fake, self.scheduler.wrap
        plain = fake.world()
        ports = _Adapters(
            wrap(process, "exchange", fake.exchange),
            wrap(process, "store", fake.store),
            wrap(process, "consumer", fake.bot),
            wrap(process, "mirror", fake.mirror),
        )
        return World(
            plain.inventory,
            plain.manifests,
            ports,
            wrap(process, "journal", plain.journal),
            Time(self.scheduler, process),
            process.name,
        )

    async def _rotate(self, process: Process) -> None:
        """`keyturn rotate`: open, and go on for as long as the rests are short."""
        engine = Engine(self.world(process))
        with suppress(KeyturnError):
            opened = await engine.open(NAME, mode=self.plan.mode, reason="simulated")
            await self._follow(engine, opened)

    async def _follow(self, engine: Engine, opened: Rotation) -> None:
        for _ in range(100):
            progress = await engine.step(opened.id)
            if progress.rest is None:
                continue
            until = progress.rest.until
            now = engine.world.clock.now()
            parked = progress.rotation.state is State.PARKED
            if until is None or parked or until > now + _LONGEST_REST:
                return
            await engine.world.clock.sleep((until - now).total_seconds())

    def _sweeps(self, pauses: tuple[float, ...]) -> Callable[[Process], Any]:
        async def sweeps(process: Process) -> None:
            """`keyturn up`: a sweep, and again, and again."""
            for pause in pauses:
                world = self.world(process)
                with suppress(KeyturnError):
                    await sweep.sweep(Engine(world))
                await world.clock.sleep(pause)

        return sweeps

    def _person(self, ask: str) -> None:
        """Start what a person does now."""
        if ask == "make":
            self.fake.make_by_hand("kt-by-hand")
        elif ask == "delete":
            self._delete()
        else:
            # A person's command is no slower than what runs already: it comes first.
            self.scheduler.spawn(ask, 1000 + self.scheduler.steps, lambda p: self._command(p, ask))

    def _delete(self) -> None:
        """Delete a key of the credential in the venue's console, whichever it is."""
        listed = self.fake.exchange.truth().items()
        keys = [ref for ref, key in listed if key.label not in {"manager", "kt-by-hand"}]
        if keys:
            self.fake.delete_by_hand(keys[self.scheduler.steps % len(keys)])

    async def _command(self, process: Process, ask: str) -> None:
        world = self.world(process)
        engine = Engine(world)
        with suppress(KeyturnError):
            if ask == "incident":
                await self._follow(engine, await engine.open(NAME, mode=Mode.INCIDENT, reason="simulated"))
            elif ask == "adopt":
                await adopt.adopt(world, NAME)
            elif ask == "put":
                made = self.fake.make_by_hand("made by hand")
                await adopt.put_credential(world, NAME, made.material)
                # Whoever puts a key by hand starts the bot by hand.
                self.fake.bot.loaded = await self.fake.store.read(PATH, Slot.CURRENT)
            elif ask == "resume":
                await self._follow(engine, await engine.resume(NAME))
            else:
                await self._follow(engine, await getattr(engine, ask)(NAME, "simulated"))

    # -- the end -------------------------------------------------------------------------------

    def _to_rest(self) -> None:
        """Sweep until nothing is left to do, with a person who resumes what is parked; then judge."""
        self._tidy()
        current, _ = self.fake.in_slot(self.fake.store, Slot.CURRENT)
        if current is None:
            # The first key was given up: the sweep makes one when the pause after an abort is over.
            self.fake.pass_time(_AFTER_ABORT)
            self._tidy()
            current, _ = self.fake.in_slot(self.fake.store, Slot.CURRENT)
        if self.fake.surplus() and current not in self.fake.deleted:
            # A key that nobody looked for until now: the next rotation takes it up, at the latest.
            self.fake.pass_time(_NEXT_ROTATION)
            self._tidy()
            if left := self.fake.unnamed():
                self.fake._breaks("named", f"{', '.join(left)} lives, and nobody will ever revoke it")
        at_once(self.fake.judge_end())
        self.ended = repr(sorted(self.fake.exchange.truth()))

    def _tidy(self) -> None:
        self.scheduler.spawn("tidy", 0, self._sweep_until_rest)
        self.scheduler.run(_MOST)

    async def _sweep_until_rest(self, process: Process) -> None:
        journal, clock = self.fake.journal, self.fake.clock
        for _ in range(300):
            engine = Engine(self.world(process))
            await sweep.sweep(engine)
            opened = await journal.open_rotation(NAME)
            if opened and opened.state is State.PARKED and opened.wake_at is None:
                with suppress(RefusedError):
                    # What a person put in place, and whose adoption was cut short, is adopted now.
                    await adopt.adopt(engine.world, NAME)
                with suppress(RefusedError):
                    await engine.resume(NAME)
                if opened.failures > 3 or (self.fake.deleted and opened.seq > 60):
                    return
                continue
            unsettled = await journal.unsettled()
            if opened is None and not unsettled:
                return
            times = [k.settle_at for k in unsettled if k.settle_at]
            times += [opened.wake_at] if opened and opened.wake_at else []
            later = [t for t in times if t > clock.now()]
            clock.travel_to(min(later, default=clock.now() + timedelta(seconds=5)))
        newest = "; ".join(f"{r.state}: {r.problem or r.parked_why}" for r in await journal.latest())
        self.fake._breaks("rest", f"sweeps do not come to an end: {newest}")
