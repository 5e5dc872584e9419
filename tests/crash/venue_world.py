"""The world of the crash suite with a real driver in it: a simulated venue behind HTTP, the rest in memory.

Its judge looks at the venue's own books after every single call. The clock is moved by hand, so that a grace
of hours passes at once; what the venue itself takes time for takes real milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from keyturn.domain.errors import KEY_FAULTS, ExchangeError, ExchangeFault
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.domain.inventory import Inventory
from keyturn.domain.rotation import Mode, Park, Rotation, State
from keyturn.domain.slots import Slot, Stored
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.exchanges import catalog
from keyturn.ports.exchange import Caller, ExchangeDriver
from keyturn.ports.journal import Journal
from keyturn.ports.store import Finding, SecretStore
from keyturn.simulator.faults import Fault, FaultKind
from keyturn.simulator.proxy import EgressProxy
from keyturn.testing.clock import FakeClock
from keyturn.testing.crash import Tracer
from keyturn.testing.memory_journal import MemoryJournal
from keyturn.testing.memory_store import MemoryStore

from .venues import ELSEWHERE, HOME, Books, Venue, material_of

NAME, PATH = "mm", "bots/mm"


class Bot:
    """A consumer that really uses what it loads, from its own address."""

    can_probe = True

    def __init__(self, world: VenueWorld, egress_proxy: str | None = None) -> None:
        self._world = world
        self._egress_proxy = egress_proxy
        self.loaded: Stored | None = None
        self.confirms = True
        self.runs = True
        #: Calls that were refused because the key was dead: there must be none, ever.
        self.refused = 0
        self._probes: list[ProbeRequest] = []

    async def notify(self, notice: Notice) -> None:
        self.loaded = await self._world.store.read(PATH, Slot.CURRENT)

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        if not (self.confirms and self.runs and self.loaded and self.loaded.info.meta):
            return []
        if await self._use(self.loaded) is not None:
            return []
        mark = self.loaded.info.meta.fingerprint
        now = self._world.clock.now()
        return [Confirmation(notice.consumer, notice.rotation_id, mark, Evidence.ACK, now)]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        return []

    async def request_probe(self, request: ProbeRequest) -> None:
        self._probes.append(request)

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        pending = await self._world.store.read(PATH, Slot.PENDING)
        if not self.runs or request not in self._probes or pending is None:
            return None
        fault = await self._use(pending)
        now = self._world.clock.now()
        return ProbeReport(request.consumer, request.fingerprint, now, facts=None, fault=fault or "")

    async def check(self) -> Sequence[Finding]:
        return []

    async def _use(self, stored: Stored) -> ExchangeFault | None:
        try:
            await self._world.driver.private_read(Caller(stored.material, self._egress_proxy))
        except ExchangeError as error:
            self.refused += error.fault in KEY_FAULTS and stored is self.loaded
            return error.fault
        return None


@dataclass
class _Adapters:
    exchange: ExchangeDriver
    stores: SecretStore
    bot: Any

    def driver(self, account: str) -> ExchangeDriver:
        return self.exchange

    def store(self, name: str) -> SecretStore:
        return self.stores

    def consumer(self, name: str, credential: str) -> Any:
        return self.bot


@dataclass
class VenueWorld:
    """Take engines from it, run them, sweep up, and let it judge."""

    books: Books
    driver: ExchangeDriver
    ips: tuple[str, ...]
    inventory: Inventory
    store: SecretStore = field(default_factory=MemoryStore)
    journal: Journal = field(default_factory=MemoryJournal)
    clock: FakeClock = field(default_factory=FakeClock)
    #: Gives the venue's own, real time a chance to pass between two looks of the engine.
    pause: float = 0.002
    bot: Bot = field(init=False)
    tracer: Tracer = field(init=False)

    def __post_init__(self) -> None:
        self.bot = Bot(self)
        self.tracer = Tracer(lambda: "", check=self._judge_now)

    @property
    def sim(self) -> Any:
        """The venue."""
        return self.books.sim

    @property
    def venue(self) -> Venue:
        """Its words."""
        return self.books.venue

    def world(self, *, traced: bool = True) -> World:
        """Give a world; a traced one is judged after every call."""
        wrap = self.tracer.wrap if traced else (lambda _port, target: target)
        adapters = _Adapters(
            wrap("exchange", self.driver), wrap("store", self.store), wrap("consumer", self.bot)
        )
        return World(
            inventory=self.inventory,
            manifests=catalog.manifests(),
            adapters=adapters,
            journal=wrap("journal", self.journal),
            clock=self.clock,
            actor="test",
        )

    def engine(self) -> Engine:
        """Give an engine, as a new process would have it."""
        return Engine(self.world())

    async def prepare(self) -> None:
        """Take in what a person has."""
        await adopt.put_manager(self.world(traced=False), "main", material_of(self.books.manager))
        await adopt.put_credential(self.world(traced=False), NAME, material_of(self.books.old))
        self.bot.loaded = await self.store.read(PATH, Slot.CURRENT)

    # -- driving ---------------------------------------------------------------------------

    async def rotate(self) -> Rotation:
        """Open a rotation and move it on to its end, or to a person."""
        opened = await self.engine().open(NAME, mode=Mode.MANUAL, reason="crash suite")
        return await self.run(opened.id)

    async def run(self, rotation_id: str, *, until: State | None = None, most: int = 400) -> Rotation:
        """Move a rotation on, letting time pass whenever it waits."""
        for _ in range(most):
            progress = await self.engine().step(rotation_id)
            if progress.rotation.state is until:
                return progress.rotation
            if progress.rest is None:
                continue
            if progress.rest.until is None or progress.rotation.state is State.PARKED:
                return progress.rotation
            self.clock.travel_to(progress.rest.until)
            await asyncio.sleep(self.pause)
        raise AssertionError(f"the rotation does not come to rest: {await self.journal.get(rotation_id)}")

    async def sweep(self, *, most: int = 400) -> None:
        """Let sweeps run, and time pass, until there is nothing left to do."""
        for _ in range(most):
            await sweep.sweep(self.engine())
            opened = await self.journal.open_rotation(NAME)
            rests = opened is None or (opened.state is State.PARKED and opened.wake_at is None)
            if rests and not await self.journal.unsettled():
                return
            self.clock.advance(5)
            if opened is not None and opened.wake_at is not None:
                self.clock.travel_to(opened.wake_at)
            await asyncio.sleep(self.pause)
        raise AssertionError(f"the sweep does not come to rest: {await self.journal.latest()}")

    async def rotation(self) -> Rotation:
        """Give the newest rotation."""
        (found,) = await self.journal.latest()
        return found

    # -- judging ---------------------------------------------------------------------------

    def _judge_now(self) -> None:
        self.books.judge_foreign()
        if isinstance(self.store, MemoryStore) and (shelf := self.store._shelves.get(PATH)):
            info = shelf.ledger.info(Slot.CURRENT)
            live = info is None or self.books.accepts(shelf.contents[info.version])
            assert live, "1: current names a dead key"
        if self.bot.loaded is not None:
            assert self.bot.loaded.material.key_ref in self.books.all_refs(), "1: the bot's key is dead"
        assert not self.bot.refused, "1: the bot was refused"

    async def current(self) -> Stored:
        """Give what is current; it must be there and live."""
        current = await self.store.read(PATH, Slot.CURRENT)
        assert current is not None, "no key is current"
        assert self.books.accepts(current.material), "1: current names a dead key"
        return current

    async def judge_waiting(self, *, minted: int = 0) -> None:
        """Hold what must be true while a person is waited for: the old key is current and lives."""
        self._judge_now()
        current = await self.current()
        assert current.material.key_ref == self.books.old.key_ref, "the old key is no longer current"
        assert len(self.books.managed()) == 1 + minted, "8: a key lives that nobody owns"
        await self.judge_journal()

    async def judge_journal(self) -> None:
        """Hold that the journal verifies."""
        report = await self.journal.verify()
        assert report.breaks == ()

    async def judge_rest(self, *, turned: bool = True) -> None:
        """Hold what must be true when nothing is left to do."""
        self._judge_now()
        await self.judge_journal()
        assert await self.journal.open_rotation(NAME) is None, "a rotation is still open"
        assert not await self.journal.unsettled(), "the fate of a key is still open"
        current = await self.current()
        self.books.judge_current(current.material, ips=self.ips)
        assert (current.material.key_ref != self.books.old.key_ref) is turned, f"turned: {not turned}"
        assert await self.store.peek(PATH, Slot.PENDING) is None, "a pending secret is left over"
        assert await self.store.peek(PATH, Slot.PREVIOUS) is None, "the old secret was not destroyed"
        assert self.bot.loaded is not None
        assert self.bot.loaded.material.key_ref == current.material.key_ref, "the bot was not moved"

    def created(self) -> int:
        """Count the keys that were ever made through the API."""
        return sum(call.effect for call in self.sim.calls(match=self.venue.create.rpartition(" ")[2]))


@asynccontextmanager
async def opened(
    venue: Venue,
    *,
    ips: tuple[str, ...] = (HOME,),
    timeout: float = 5.0,
    probe: str = "",
    prepared: bool = True,
    **simulator: Any,
) -> AsyncIterator[VenueWorld]:
    """Open a world.

    Args:
        venue: which one.
        ips: the credential's address list.
        timeout: seconds that the driver waits for an answer.
        probe: who can use the key from `ELSEWHERE`: `proxy` (keyturn through it), `bot`, or nobody.
        prepared: whether the keys are taken in.
        simulator: options of the simulator.
    """
    async with (
        venue.simulator(trust_forwarded=True, **simulator) as sim,
        EgressProxy(forwarded_for=ELSEWHERE) as proxy,
    ):
        books = Books.open(venue, sim, ips=ips)
        driver = catalog.build(venue.code, url=sim.base_url, timeout=timeout, rate_limit=False)
        inventory = _inventory(books, ips, proxy.url if probe == "proxy" else None, timeout)
        built = VenueWorld(books, driver, ips, inventory)
        built.bot = Bot(built, proxy.url if ELSEWHERE in ips else None)
        try:
            if prepared:
                await built.prepare()
            yield built
        finally:
            await driver.close()


def _inventory(
    books: Books,
    ips: tuple[str, ...],
    egress_proxy: str | None,
    timeout: float,
) -> Inventory:
    return Inventory.model_validate(
        {
            "version": 1,
            "stores": {"s": {"kind": "age_files", "path": "s", "key": {"env": "K"}}},
            "accounts": {
                "main": {
                    "exchange": books.venue.code,
                    "url": books.sim.base_url,
                    "timeout": f"{timeout}s",
                    "manager": {"store": "s", "path": "managers/main"},
                }
            },
            "credentials": {
                NAME: {
                    "account": "main",
                    "subaccount": books.subaccount,
                    "permissions": list(books.venue.permissions),
                    "ip_allowlist": list(ips),
                    "path": PATH,
                    "consumers": ["bot"],
                    "egress_proxy": egress_proxy,
                }
            },
            "consumers": {"bot": {"kind": "client", "evidence": "ack"}},
            "policies": {"p": {"rotate_every": "60d", "grace": "1h", "confirm_within": "2h"}},
            "defaults": {"store": "s", "policy": "p"},
        }
    )


def parked(rotation: Rotation, why: Park, *words: str) -> None:
    """Hold that a rotation waits for a person, and says what for and what to do."""
    assert (rotation.state, rotation.parked) == (State.PARKED, why), rotation
    told = f"{rotation.parked_why} {rotation.parked_todo}"
    for word in (*words, f"keyturn resume {NAME}"):
        # What goes on by itself once it is mended needs no telling.
        assert word in told or rotation.wake_at, told


async def begun(world: VenueWorld, state: State) -> str:
    """Bring a rotation to a state, and let a wait that it has there pass."""
    rotation = await world.engine().open(NAME, mode=Mode.MANUAL, reason="crash suite")
    if state is State.REVOKING:
        # The intent and the revoke are one step: only a venue that does not answer comes between them.
        world.sim.faults.add(Fault(kind=FaultKind.SERVER_ERROR, match=world.venue.revoke))
    if state is not State.PLANNED:
        rotation = await world.run(rotation.id, until=state)
    assert rotation.state is state, rotation
    if rotation.wake_at:
        world.clock.travel_to(rotation.wake_at)
    return rotation.id


async def mended(world: VenueWorld) -> None:
    """Let a person say that it is mended, and the sweep go on to the end."""
    await world.engine().resume(NAME)
    await world.sweep()
    await world.judge_rest()
