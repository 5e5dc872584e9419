"""What the engine works with: the inventory and a way to reach each port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from keyturn.domain.inventory import Inventory
from keyturn.domain.manifest import DriverManifest
from keyturn.ports.clock import Clock
from keyturn.ports.consumer import Consumer
from keyturn.ports.exchange import Caller, ExchangeDriver
from keyturn.ports.journal import Journal
from keyturn.ports.store import SecretStore


class Adapters(Protocol):
    """Gives the adapters by their names in the inventory; builds each when it is first asked for."""

    def driver(self, account: str) -> ExchangeDriver:
        """Give the driver of an account."""
        ...

    def store(self, name: str) -> SecretStore:
        """Give a store."""
        ...

    def consumer(self, name: str, credential: str) -> Consumer:
        """Give a consumer of a credential."""
        ...


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager key that was opened, the version that it was, and when the store last showed that one."""

    version: str
    caller: Caller
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the engine."""

    inventory: Inventory
    manifests: Mapping[str, DriverManifest]
    adapters: Adapters
    journal: Journal
    clock: Clock
    #: Who acts, for the journal: `cli:alice`, `prefect:<run id>`.
    actor: str
    #: By account, for as long as the store shows the version: hundreds of credentials share one, and to look
    #: is a fraction of the cost of opening. Whoever could read it here could open the store, too.
    managers: dict[str, Manager] = field(default_factory=dict, repr=False)
