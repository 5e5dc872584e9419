"""The world in memory over any stores: what the crash suites run through each adapter, and through pairs.

A test brings a `Home` for each kind of store: where it keeps what it is given, and how a process opens it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from keyturn.domain.slots import Slot, Stored
from keyturn.engine.world import World
from keyturn.ports.store import SecretStore
from keyturn.testing.fake_world import PATH, FakeWorld

_STORES = {"store", "mirror"}


class ReadableStore(SecretStore, Protocol):
    """A store that can also be read at once, for the judge."""

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot in this thread."""
        ...


class Home(Protocol):
    """Where the stores of one kind keep what they are given."""

    def clear(self) -> None:
        """Forget everything that was stored."""
        ...

    def open(self) -> ReadableStore:
        """Open a store on it, as a process of its own would."""
        ...

    def keys_kept(self, path: str) -> set[str]:
        """Give the key ref of every secret that can still be got out of a path, behind the adapter's back.

        A kind that cannot destroy a single version gives what it promises to have destroyed.
        """
        ...


@dataclass
class StoreWorld(FakeWorld):
    """A `FakeWorld` whose stores are adapters; every world taken from it opens them anew."""

    primary: Home | None = None
    second: Home | None = None
    _seen: dict[str, Stored | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._judges: dict[str, ReadableStore] = {}
        for role, home in self._homes():
            home.clear()
            self._judges[role] = home.open()
        self._reopen()

    def _homes(self) -> list[tuple[str, Home]]:
        homes = [("store", self.primary), ("mirror", self.second if self.mirrored else None)]
        return [(role, home) for role, home in homes if home is not None]

    def _reopen(self) -> None:
        for role, home in self._homes():
            setattr(self, role, home.open())

    def world(self, **options: Any) -> World:
        """Give a world as a new process has it."""
        self._reopen()
        return super().world(**options)

    def _current(self, store: Any) -> Stored | None:
        role = "store" if store is self.store else "mirror"
        if role not in self._judges:
            return super()._current(store)
        # Only calls of the stores change what is current; the judge looks again after those.
        rows = self.tracer.rows
        if role not in self._seen or not rows or rows[-1].port in _STORES:
            self._seen[role] = self._judges[role].read_sync(PATH, Slot.CURRENT)
        return self._seen[role]

    async def judge_rest(self) -> None:
        """Hold what must be true at rest; nothing but the current key can be got out of a store then.

        Raises:
            AssertionError: something is left over, or missing.
        """
        self._seen.clear()
        await super().judge_rest()
        current = self._current(self.store)
        assert current is not None
        for role, home in self._homes():
            left = home.keys_kept(PATH) - {current.material.key_ref}
            assert not left, f"the {role} still has {len(left)} secrets that are over"
