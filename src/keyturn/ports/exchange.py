"""The exchange port: what a venue's driver does. ccxt types never cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from keyturn.domain.keys import KeyFacts, KeySpec, MintedKey, Permission, Revocation
from keyturn.domain.manifest import DriverManifest
from keyturn.domain.material import SecretMaterial


@dataclass(frozen=True, slots=True)
class Caller:
    """The key that signs a call, and the way that the call takes."""

    material: SecretMaterial = field(repr=False)
    #: HTTP proxy, for keys that are bound to another machine's address.
    egress_proxy: str | None = None


@dataclass(frozen=True, slots=True)
class KeyHandle:
    """Names a key at the venue for edit and revoke."""

    key_ref: str
    handle: str | None = None
    subaccount: str | None = None


class ExchangeDriver(Protocol):
    """One account at one venue.

    Every method raises `ExchangeError` with one fault of the closed set. Methods that change
    something raise `OUTCOME_UNKNOWN` when the request may have taken effect and no answer came;
    a call that surely had no effect (refused connection, 429) raises `VENUE_DOWN` or `RATE_LIMITED`.
    No method repeats a call that changes something.
    """

    @property
    def manifest(self) -> DriverManifest:
        """The venue's manifest."""
        ...

    def grants_for(self, permissions: frozenset[Permission]) -> frozenset[str]:
        """Give the venue's words for exactly these permissions, comparable with `KeyFacts.grants`."""
        ...

    async def introspect(self, caller: Caller) -> KeyFacts:
        """Ask the venue what the calling key is and may do."""
        ...

    async def private_read(self, caller: Caller) -> None:
        """Make one harmless signed call of the kind a bot makes (its balance)."""
        ...

    async def list_keys(self, manager: Caller, subaccount: str | None) -> Sequence[KeyFacts]:
        """List all keys of the (sub-)account, every page of them."""
        ...

    async def await_turn(self) -> None:
        """Wait until the venue's documented rate lets a create leave at once; take that turn.

        A queue may be minutes long. It is waited for before anything is written down: the intent that follows
        is then as old as the call.
        """
        ...

    async def create_key(self, manager: Caller, spec: KeySpec, *, within: float | None = None) -> MintedKey:
        """Make the venue create a key.

        Args:
            manager: signs.
            spec: what the key shall be.
            within: seconds in which the call must leave: by then others may take its caller for dead. One
                that cannot is not sent, and raises `VENUE_DOWN`. The turn was taken by `await_turn`; without
                this the call waits for its own.
        """
        ...

    async def edit_key(self, manager: Caller, key: KeyHandle, spec: KeySpec) -> None:
        """Give an existing key exactly the permissions, addresses and label of `spec`."""
        ...

    async def revoke_key(self, manager: Caller, key: KeyHandle) -> Revocation:
        """Make the venue delete a key. A key that is not there counts as done."""
        ...

    async def server_time(self) -> datetime:
        """Ask the venue's clock, without a key."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
