"""A whole world in memory: one exchange, one store, one bot, one journal, and a clock moved by hand.

Its judge looks behind the ports: what the exchange's books and the store's slots really say. The engine
is built anew for every "process", so that a killed one leaves nothing behind but what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from keyturn.domain.errors import ConsumerError, ConsumerFault, ExchangeError, ExchangeFault
from keyturn.domain.evidence import Confirmation, Evidence, Notice, ProbeReport, ProbeRequest, Refusal
from keyturn.domain.inventory import Inventory
from keyturn.domain.keys import MintedKey, Permission
from keyturn.domain.labels import fingerprint
from keyturn.domain.manifest import DriverManifest
from keyturn.domain.rotation import Park, Rotation, State
from keyturn.domain.slots import Slot, Stored
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.world import World
from keyturn.ports.consumer import Consumer
from keyturn.ports.exchange import Caller, ExchangeDriver
from keyturn.ports.journal import Journal
from keyturn.ports.store import Finding, SecretStore
from keyturn.testing.clock import FakeClock
from keyturn.testing.crash import Tracer
from keyturn.testing.memory_exchange import NEUTRAL, MemoryExchange
from keyturn.testing.memory_journal import MemoryJournal
from keyturn.testing.memory_store import MemoryStore

PATH = "bots/mm"
NAME = "mm"
_MANAGER_PATH = "managers/main"


class FakeBot:
    """A consumer that really uses what it loads: it reads the store and makes a call with the key."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world
        self.loaded: Stored | None = None
        self.notices: list[Notice] = []
        self.confirms = True
        self.probes: list[ProbeRequest] = []
        #: Calls of its own that the new key is refused.
        self.refused: list[str] = []
        #: Whether somebody else speaks in its name.
        self.forged = False

    @property
    def can_probe(self) -> bool:
        """Whether it tries pending keys."""
        return True

    async def notify(self, notice: Notice) -> None:
        """Load what is current."""
        self.notices.append(notice)
        self.loaded = await self._world.store.read(PATH, Slot.CURRENT)

    async def confirmations(self, notice: Notice) -> Sequence[Confirmation]:
        """Use the loaded key and report it."""
        self._only_itself()
        if not self.confirms or self.loaded is None or self.loaded.info.meta is None:
            return []
        await self._world.exchange.private_read(Caller(self.loaded.material, self._world.bot_proxy))
        mark = self.loaded.info.meta.fingerprint
        return [
            Confirmation(notice.consumer, notice.rotation_id, mark, Evidence.ACK, self._world.clock.now())
        ]

    async def refusals(self, notice: Notice) -> Sequence[Refusal]:
        """Tell `refused`."""
        self._only_itself()
        return [
            Refusal(
                notice.consumer,
                notice.rotation_id,
                notice.fingerprint,
                call,
                ExchangeFault.MISSING_PERMISSION,
                self._world.clock.now(),
            )
            for call in self.refused
        ]

    async def request_probe(self, request: ProbeRequest) -> None:
        """Remember the request."""
        self.probes.append(request)

    async def probe_report(self, request: ProbeRequest) -> ProbeReport | None:
        """Try the pending key, if it was asked to."""
        self._only_itself()
        if request not in self.probes:
            return None
        pending = await self._world.store.read(PATH, Slot.PENDING)
        fault = "unknown_key"
        if pending is not None:
            try:
                await self._world.exchange.private_read(Caller(pending.material, self._world.bot_proxy))
                fault = ""
            except ExchangeError as error:
                fault = error.fault
        now = self._world.clock.now()
        return ProbeReport(request.consumer, request.fingerprint, now, facts=None, fault=fault)

    def _only_itself(self) -> None:
        if self.forged:
            raise ConsumerError(
                ConsumerFault.UNAUTHENTICATED, "What the bot says does not count: a stranger did."
            )

    async def check(self) -> Sequence[Finding]:
        """Say that it is there."""
        return [Finding("bot", ok=True, detail="in memory")]

    async def close(self) -> None:
        """Do nothing."""


@dataclass
class _Adapters:
    exchange: ExchangeDriver
    stores: SecretStore
    bot: Consumer
    mirrors: SecretStore

    def driver(self, account: str) -> ExchangeDriver:
        return self.exchange

    def store(self, name: str) -> SecretStore:
        return self.mirrors if name == "mirror" else self.stores

    def consumer(self, name: str, credential: str) -> Consumer:
        return self.bot


@dataclass
class FakeWorld:
    """Build it, `await prepare()`, take engines from it, and let it judge."""

    manifest: DriverManifest = NEUTRAL
    permissions: tuple[str, ...] = ("read", "trade")
    ips: tuple[str, ...] = ()
    evidence: str = "ack"
    grace: str = "1h"
    confirm_within: str = "2h"
    consumers: tuple[str, ...] = ("bot",)
    mirrored: bool = False
    #: What else the credential's entry says, and what the old key may do beside `permissions`.
    entry: dict[str, object] = field(default_factory=dict)
    old_rights: tuple[str, ...] = ()
    #: Where the exchange sees keyturn, and the bot, coming from.
    address: str = "127.0.0.1"
    bot_proxy: str | None = None
    egress: dict[str, str] = field(default_factory=dict)
    egress_proxy: str | None = None
    propagation_seconds: float = 0.0
    #: Makes the judge look after every traced call; a caller with several workers may want it off.
    judging: bool = True

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.exchange = MemoryExchange(
            self.manifest,
            clock=self.clock,
            address=self.address,
            egress=self.egress,
            propagation_seconds=self.propagation_seconds,
        )
        self.store = MemoryStore()
        self.mirror = MemoryStore()
        self.journal: Journal = MemoryJournal()
        self.bot = FakeBot(self)
        self.old: MintedKey | None = None
        self.foreign: MintedKey | None = None
        self.state = "start"
        self.tracer = Tracer(lambda: self.state, check=self.judge_now)
        self.inventory = Inventory.model_validate(self._inventory())

    def _inventory(self) -> dict[str, object]:
        credential = {
            "account": "main",
            "permissions": list(self.permissions),
            "ip_allowlist": list(self.ips),
            "path": PATH,
            "consumers": list(self.consumers),
            "mirrors": [{"store": "mirror", "path": PATH}] if self.mirrored else [],
            "egress_proxy": self.egress_proxy,
            **self.entry,
        }
        return {
            "version": 1,
            "stores": {n: {"kind": "age_files", "path": n, "key": {"env": "K"}} for n in ("s", "mirror")},
            "accounts": {"main": {"exchange": "memory", "manager": {"store": "s", "path": _MANAGER_PATH}}},
            "credentials": {NAME: credential},
            "consumers": {c: {"kind": "client", "evidence": self.evidence} for c in self.consumers},
            "policies": {
                "p": {"rotate_every": "60d", "grace": self.grace, "confirm_within": self.confirm_within}
            },
            "defaults": {"store": "s", "policy": "p"},
        }

    def world(self, *, traced: bool = False, actor: str = "test") -> World:
        """Give a world whose ports are this one's; traced ones go through the crash injector."""
        wrap = self.tracer.wrap if traced else (lambda _port, target: target)
        adapters = _Adapters(
            wrap("exchange", self.exchange),
            wrap("store", self.store),
            wrap("consumer", self.bot),
            wrap("mirror", self.mirror),
        )
        return World(
            inventory=self.inventory,
            manifests={self.manifest.code: self.manifest},
            adapters=adapters,
            journal=wrap("journal", self.journal),
            clock=self.clock,
            actor=actor,
        )

    async def prepare(self, *, old_key: bool = True) -> None:
        """Put the manager key in place, a foreign key that nobody may touch, and an adopted old key."""
        world = self.world()
        rights = (*self.manifest.manager_any_of, Permission.READ)
        manager = self.exchange.add_key(rights, label="manager")
        await adopt.put_manager(world, "main", manager.material)
        self.foreign = self.exchange.add_key([Permission.READ], label="kt-by-hand")
        if old_key:
            self.old = self.exchange.add_key(
                [Permission(p) for p in (*self.permissions, *self.old_rights)],
                ips=self.ips,
                label="made by hand",
            )
            taken = await adopt.put_credential(world, NAME, self.old.material)
            if self.mirrored and taken.info.meta:
                await self.mirror.put(PATH, self.old.material, taken.info.meta, expect_current=None)
            self.bot.loaded = await self.store.read(PATH, Slot.CURRENT)

    # -- driving ---------------------------------------------------------------------------

    async def run(self, engine: Engine, rotation_id: str, *, most: int = 400) -> Rotation:
        """Move a rotation on to its end or to a person, letting time pass whenever it waits."""
        for _ in range(most):
            self.state = (await engine.get(rotation_id)).state
            # Each step may be another worker's, that has opened no manager key yet.
            engine.world.managers.clear()
            progress = await engine.step(rotation_id)
            if progress.rest is None:
                continue
            if progress.rest.until is None:
                return progress.rotation
            self.clock.travel_to(progress.rest.until)
        raise AssertionError(f"the rotation does not come to rest: {await engine.get(rotation_id)}")

    async def sweep_until_rest(self, *, traced: bool = False, most: int = 400) -> None:
        """Let sweeps of new processes run, and time pass, until there is nothing left to do."""
        for _ in range(most):
            self.state = "sweep"
            engine = Engine(self.world(actor="sweep", traced=traced))
            await sweep.sweep(engine)
            await self._accept()
            if not await self._unrest():
                return
            self.clock.advance(5)
        raise AssertionError(f"the sweep does not come to rest: {await self.journal.latest()}")

    async def _accept(self) -> None:
        """Be the person who accepts that calls are refused to the new key."""
        opened = await self.journal.open_rotation(NAME)
        if opened and opened.parked is Park.REFUSED_CALLS:
            await Engine(self.world(actor="person")).resume(NAME)

    def recover(self) -> None:
        """Let nothing go wrong any more."""
        self.tracer.disarm()
        self.bot.confirms, self.bot.forged = True, False
        self.store.lagging = self.mirror.lagging = []

    async def _unrest(self) -> bool:
        opened = await self.journal.open_rotation(NAME)
        resting = opened is None or (opened.state is State.PARKED and opened.wake_at is None)
        return not resting or bool(await self.journal.unsettled())

    # -- judging ---------------------------------------------------------------------------

    def _current(self, store: MemoryStore) -> Stored | None:
        shelf = store._shelves.get(PATH)
        info = shelf.ledger.info(Slot.CURRENT) if shelf else None
        return Stored(info, shelf.contents[info.version]) if shelf and info else None

    def judge_now(self) -> None:
        """Hold the invariants that must hold at every moment.

        Raises:
            AssertionError: one does not hold.
        """
        if not self.judging:
            return
        books = self.exchange.truth()
        current = self._current(self.store)
        assert current is None or current.material.key_ref in books, "1: current names a dead key"
        mirrored = self._current(self.mirror)
        assert mirrored is None or mirrored.material.key_ref in books, "1: the mirror names a dead key"
        loaded = self.bot.loaded
        if loaded is not None:
            assert loaded.material.key_ref in books, "1: the bot was left with a dead key"
        assert self.foreign is None or self.foreign.key_ref in books, "2: a foreign key was revoked"

    async def judge_rest(self) -> None:
        """Hold what must be true when nothing is left to do.

        Raises:
            AssertionError: something is left over, or missing.
        """
        self.judge_now()
        current = self._current(self.store)
        assert current is not None, "no key is current"
        assert current.info.meta is not None
        salt = await self.journal.salt()
        mark = fingerprint(salt, self.manifest.code, current.material.key_ref)
        assert current.info.meta.fingerprint == mark
        ours = {
            ref
            for ref, key in self.exchange.truth().items()
            if key.label != "manager" and (self.foreign is None or ref != self.foreign.key_ref)
        }
        assert ours == {current.material.key_ref}, f"8: keys that nobody owns: {len(ours) - 1}"
        live = self.exchange.truth()[current.material.key_ref]
        unturned = self.old is not None and current.material.key_ref == self.old.key_ref
        assert live.permissions == {*self.permissions, *(self.old_rights if unturned else ())}
        assert live.ip_allowlist == frozenset(self.ips)
        assert await self.store.peek(PATH, Slot.PENDING) is None, "a pending secret is left over"
        assert await self.store.peek(PATH, Slot.PREVIOUS) is None, "the old secret was not destroyed"
        if self.mirrored:
            mirrored = self._current(self.mirror)
            assert mirrored is not None, "the mirror has no key"
            assert mirrored.material == current.material, "the mirror was left behind"
            assert await self.mirror.peek(PATH, Slot.PREVIOUS) is None, "the mirror keeps a dead secret"
        assert self.bot.loaded is not None
        assert self.bot.loaded.material.key_ref == current.material.key_ref, "the bot was not moved"
        report = await self.journal.verify()
        assert not report.breaks, report.breaks
        opened = await self.journal.open_rotation(NAME)
        assert opened is None, f"a rotation is still open: {opened}"

    def pass_time(self, delta: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(delta.total_seconds())
