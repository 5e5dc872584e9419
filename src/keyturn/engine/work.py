"""One step's hands: the rotation at hand, its ports, and the one way to write to the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from keyturn.domain import machine
from keyturn.domain.errors import (
    JournalError,
    JournalFault,
    RefusedError,
    StoreError,
    StoreFault,
)
from keyturn.domain.evidence import Confirmation
from keyturn.domain.inventory import AccountEntry, CredentialEntry, StoreAddress
from keyturn.domain.keys import KeySpec
from keyturn.domain.labels import Attempt, fingerprint
from keyturn.domain.rotation import Event, EventType, KeyRecord, Park, Rotation
from keyturn.domain.slots import Slot, SlotInfo
from keyturn.engine import event_log
from keyturn.engine.world import Manager, World
from keyturn.ports.consumer import Consumer
from keyturn.ports.exchange import Caller, ExchangeDriver, KeyHandle
from keyturn.ports.journal import Change
from keyturn.ports.store import SecretStore

T = TypeVar("T")

# Hundreds of credentials share a manager key, and each uses it several times: one look in this time serves
# all of them. A key that was replaced within it is refused by the venue, and looked for then.
_MANAGER_SEEN = timedelta(seconds=1)


class SupersededError(Exception):
    """Another worker moved the rotation on; this one has nothing more to say about it."""


@dataclass(frozen=True, slots=True)
class Rest:
    """The rotation must wait. `until` None: for a person, not for a time."""

    until: datetime | None
    waiting_for: str


class Work:
    """The context of a step."""

    def __init__(self, world: World, rotation: Rotation) -> None:
        self.world = world
        self.rotation = rotation
        #: Whether the manager key of this step was given without a look of its own.
        self.manager_unseen = False

    # -- where things are -------------------------------------------------------------------

    @cached_property
    def entry(self) -> CredentialEntry:
        """The credential as the inventory declares it now.

        Raises:
            RefusedError: it is no longer in the inventory.
        """
        name = self.rotation.credential
        return self._declared(self.world.inventory.credentials, name, f"Credential {name}")

    @cached_property
    def address(self) -> StoreAddress:
        """Where the credential lives.

        Raises:
            RefusedError: it is no longer in the inventory.
        """
        _ = self.entry
        return self.world.inventory.store_of(self.rotation.credential)

    @property
    def account(self) -> AccountEntry:
        """The account that the rotation began in.

        Raises:
            RefusedError: it is no longer in the inventory.
        """
        name = self.rotation.account
        return self._declared(self.world.inventory.accounts, name, f"Account {name}")

    def _declared(self, entries: Mapping[str, T], name: str, what: str) -> T:
        if name not in entries:
            raise RefusedError(
                f"{what} is not in the inventory.",
                now=f"Rotation {self.rotation.id} stays {self.rotation.state}; nothing was changed.",
                todo="Put the entry back, or finish the rotation before you rename or remove it.",
            )
        return entries[name]

    @property
    def store(self) -> SecretStore:
        """The credential's store."""
        return self.world.adapters.store(self.address.store)

    @property
    def path(self) -> str:
        """The credential's path in its store."""
        return self.address.path

    @property
    def driver(self) -> ExchangeDriver:
        """The driver of the credential's account."""
        _ = self.account
        return self.world.adapters.driver(self.rotation.account)

    def consumers(self) -> dict[str, Consumer]:
        """The consumers that must move."""
        name = self.rotation.credential
        return {c: self.world.adapters.consumer(c, name) for c in self.entry.consumers}

    def now(self) -> datetime:
        """The time."""
        return self.world.clock.now()

    def after(self, seconds: float) -> datetime:
        """The time, some seconds from now."""
        return self.now() + timedelta(seconds=seconds)

    # -- keys ------------------------------------------------------------------------------

    async def manager(self) -> Caller:
        """The manager key that is current, or was a moment ago.

        Raises:
            StoreError: the store fails, or there is no manager key at its place.
        """
        name = self.rotation.account
        account = self.account
        store = self.world.adapters.store(account.manager.store)
        if known := self.world.managers.get(name):
            self.manager_unseen = self.now() - known.seen_at < _MANAGER_SEEN
            if self.manager_unseen:
                return known.caller
            seen = await store.peek(account.manager.path, Slot.CURRENT)
            if seen and seen.version == known.version:
                self.world.managers[name] = replace(known, seen_at=self.now())
                return known.caller
        stored = await store.read(account.manager.path, Slot.CURRENT)
        if stored is None:
            raise StoreError(
                StoreFault.MISCONFIGURED,
                f"There is no manager key for account {name} at {account.manager.path}.",
                now="Nothing was changed.",
                todo=f"Store it with: keyturn put --manager {name}",
            )
        caller = Caller(stored.material, account.egress_proxy)
        self.world.managers[name] = Manager(stored.info.version, caller, self.now())
        return caller

    def spec(self, attempt: Attempt) -> KeySpec:
        """What the new key shall be."""
        rules = self.driver.manifest.label
        return KeySpec(
            label=attempt.label(rules.separator),
            permissions=self.entry.permissions,
            ip_allowlist=self.entry.ip_allowlist,
            subaccount=self.rotation.subaccount,
        )

    def new_handle(self) -> KeyHandle:
        """Names the new key at the venue."""
        r = self.rotation
        return KeyHandle(r.new_ref or "", r.new_handle, r.subaccount)

    async def fingerprint(self, key_ref: str) -> str:
        """The fingerprint of a key of this venue."""
        return fingerprint(await self.world.journal.salt(), self.rotation.exchange, key_ref)

    async def peek(self, slot: Slot) -> SlotInfo | None:
        """What stands in a slot, freshly read."""
        return await self.store.peek(self.path, slot)

    # -- the journal -----------------------------------------------------------------------

    def event(self, kind: EventType, note: str = "", **data: Any) -> Event:
        """An event of this moment by this actor."""
        return machine.event(kind, self.now(), self.world.actor, note, **data)

    async def commit(
        self,
        *events: Event,
        keys: tuple[KeyRecord, ...] = (),
        confirmations: tuple[Confirmation, ...] = (),
    ) -> None:
        """Write a step and move on to the rotation after it.

        Raises:
            SupersededError: another worker was faster; nothing was written.
        """
        after = self.rotation
        for each in events:
            after = machine.apply(after, each)
        change = Change(self.rotation.seq, events, after, keys, confirmations)
        try:
            await self.world.journal.commit(change)
        except JournalError as error:
            if error.fault is JournalFault.CONFLICT:
                raise SupersededError from None
            raise
        before, self.rotation = self.rotation, after
        event_log.committed(before, events)

    async def park(
        self, why: Park, text: str, todo: str, wake_at: datetime | None = None, loss: str | None = None
    ) -> Rest:
        """Stop for a person; `loss` is what the person is shown as lost."""
        await self.commit(
            self.event(
                EventType.PARKED, parked=why, parked_why=text, parked_todo=todo, wake_at=wake_at, loss=loss
            )
        )
        return Rest(wake_at, text)

    async def defer(self, seconds: float, problem: str, note: str = "") -> Rest:
        """Come back later: something outside is in the way and may mend itself."""
        until = self.after(seconds)
        failures = self.rotation.failures + 1
        deferred = self.event(EventType.DEFERRED, note, wake_at=until, failures=failures, problem=problem)
        await self.commit(deferred)
        return Rest(until, problem)

    async def abort(self, reason: str) -> None:
        """Turn towards undoing; only before the pivot."""
        await self.commit(self.event(EventType.ABORT_REQUESTED, abort_reason=reason))
