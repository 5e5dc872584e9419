"""The store fake: the whole contract in memory, for tests of what stands on the store port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores.ledger import Ledger


@dataclass
class _Shelf:
    ledger: Ledger = field(default_factory=Ledger)
    contents: dict[str, SecretMaterial] = field(default_factory=dict, repr=False)


class MemoryStore:
    """A `SecretStore` that forgets everything with its process.

    Every method gives the event loop one turn before it acts, so that concurrent callers interleave.
    """

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        #: What `spread` names.
        self.lagging: list[str] = []

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return (await self._shelf(path)).ledger.info(slot)

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        shelf = await self._shelf(path)
        info = shelf.ledger.info(slot)
        if info is None or info.version not in shelf.contents:
            return None
        return Stored(info, shelf.contents[info.version])

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending; see the port."""
        shelf = await self._shelf(path)
        after, claim = shelf.ledger.claim(path, attempt)
        self._turn(shelf, after)
        return claim

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""
        shelf = await self._shelf(path)
        self._turn(shelf, shelf.ledger.stage(path, claim, meta), material)
        return shelf.ledger.filled(Slot.PENDING)

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current; see the port."""
        shelf = await self._shelf(path)
        after, promotion = shelf.ledger.promote(path, attempt, expect_current)
        self._turn(shelf, after)
        return promotion

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous; see the port."""
        shelf = await self._shelf(path)
        after, promotion = shelf.ledger.restore_previous(path, expect_current)
        self._turn(shelf, after)
        return promotion

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty pending or previous; see the port."""
        shelf = await self._shelf(path)
        self._turn(shelf, shelf.ledger.discard(slot, version))

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""
        shelf = await self._shelf(path)
        self._turn(shelf, shelf.ledger.put(path, meta, expect_current), material)
        return shelf.ledger.filled(Slot.CURRENT)

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Empty all slots; see the port."""
        shelf = await self._shelf(path)
        self._turn(shelf, shelf.ledger.vacate(path, expect_current))

    async def spread(self, path: str) -> Sequence[str]:
        """Name what a test says is behind; see the port."""
        await asyncio.sleep(0)
        return tuple(self.lagging)

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions, oldest first; see the port."""
        return (await self._shelf(path)).ledger.history()

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Say that all is well; see the port."""
        return [Finding(path, ok=True, detail="in memory") for path in paths]

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    async def _shelf(self, path: str) -> _Shelf:
        await asyncio.sleep(0)
        return self._shelves.setdefault(path, _Shelf())

    @staticmethod
    def _turn(shelf: _Shelf, after: Ledger, material: SecretMaterial | None = None) -> None:
        if material is not None:
            (version,) = after.kept() - shelf.ledger.kept()
            shelf.contents[version] = material
        shelf.ledger = after
        for version in shelf.contents.keys() - after.kept():
            del shelf.contents[version]
