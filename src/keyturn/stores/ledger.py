"""The rules of the three slots as one pure value: what each verb of the store port does, and refuses.

A store that can replace one small document in a single step gets the whole contract from here: load
the ledger, apply a verb, write the ledger back. A verb that changes nothing returns the same object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from keyturn.domain.errors import ProgrammingError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, VersionInfo

# Rows are written with every change. Monthly rotations fill this in sixteen years; beyond it the
# oldest destroyed rows go, so that the document stays a few blocks long.
HISTORY_ROWS = 200


@dataclass(frozen=True, slots=True)
class Held:
    """What stands in a slot. `meta` is None while pending is claimed and not yet staged."""

    version: str
    attempt: Attempt | None
    meta: KeyMeta | None


@dataclass(frozen=True, slots=True)
class Row:
    """One version that was ever written, without its content."""

    version: str
    attempt: Attempt | None
    fingerprint: str
    created_at: datetime


def _conflict(what: str, todo: str) -> StoreError:
    return StoreError(StoreFault.CONFLICT, what, now="Nothing was written.", todo=todo)


def _version_of(held: Held | None) -> str | None:
    return held.version if held else None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The slots of one path, the claim that holds pending, and the versions so far."""

    revision: int = 0
    #: The number that the next version takes; it only grows, so that no version is ever reused.
    next_number: int = 1
    pending: Held | None = None
    current: Held | None = None
    previous: Held | None = None
    #: What current took the place of, so that a repeated promotion can give the same answer.
    replaced: str | None = None
    #: The attempt that claimed last; it outlives its claim, so that an earlier one stays fenced off.
    fence: Attempt | None = None
    rows: tuple[Row, ...] = ()

    def held(self, slot: Slot) -> Held | None:
        """Give what stands in a slot."""
        return {Slot.PENDING: self.pending, Slot.CURRENT: self.current, Slot.PREVIOUS: self.previous}[slot]

    def info(self, slot: Slot) -> SlotInfo | None:
        """Give a slot as the port shows it."""
        held = self.held(slot)
        return SlotInfo(slot, held.version, held.attempt, held.meta) if held else None

    def filled(self, slot: Slot) -> SlotInfo:
        """Give a slot that was just written.

        Raises:
            ProgrammingError: the slot is empty.
        """
        info = self.info(slot)
        if info is None:
            raise ProgrammingError(f"the {slot} slot is empty")
        return info

    def kept(self) -> frozenset[str]:
        """Give the versions whose content must exist; that of every other is destroyed."""
        return frozenset(h.version for h in self._all_held() if h.meta)

    def history(self) -> tuple[VersionInfo, ...]:
        """List the versions, oldest first."""
        at: dict[str, set[Slot]] = {}
        for slot in Slot:
            if held := self.held(slot):
                at.setdefault(held.version, set()).add(slot)
        return tuple(
            VersionInfo(
                version=row.version,
                slots=frozenset(at.get(row.version, ())),
                attempt=row.attempt,
                fingerprint=row.fingerprint,
                created_at=row.created_at,
                destroyed=row.version not in at,
            )
            for row in self.rows
        )

    def claim(self, path: str, attempt: Attempt) -> tuple[Ledger, Claim]:
        """Reserve pending for an attempt.

        Raises:
            StoreError: `CONFLICT` when a later attempt of the rotation claimed, or this one was promoted.
        """
        fence = self.fence
        if fence and fence.rotation_id == attempt.rotation_id and fence.number > attempt.number:
            raise _conflict(
                f"Attempt {attempt} may not claim {path}: attempt {fence} came after it.",
                "Nothing to do here: a later attempt goes on with this rotation.",
            )
        if any(held and held.attempt == attempt for held in (self.current, self.previous)):
            raise _conflict(
                f"Attempt {attempt} may not claim {path}: what it staged was promoted already.",
                "Read the slots again and go on from what they hold.",
            )
        pending = self.pending
        if pending and pending.attempt == attempt and pending.meta is None:
            return self, Claim(attempt, pending.version)
        claim = Claim(attempt, f"c{self.revision + 1:06d}")
        held = Held(claim.version, attempt, None)
        return self._next(pending=held, fence=attempt), claim

    def stage(self, path: str, claim: Claim, meta: KeyMeta) -> Ledger:
        """Put a new version into the claimed pending slot.

        Raises:
            StoreError: `CONFLICT` when the claim no longer holds.
        """
        pending = self.pending
        if not pending or (pending.attempt, pending.version) != (claim.attempt, claim.version):
            raise _conflict(
                f"The claim of attempt {claim.attempt} on {path} no longer holds.",
                "Read pending: another worker took the slot, or this attempt is staged already.",
            )
        held, grown = self._new_version(claim.attempt, meta)
        return self._next(**grown, pending=held)

    def promote(self, path: str, attempt: Attempt, expect_current: str | None) -> tuple[Ledger, Promotion]:
        """Make the staged attempt current.

        Raises:
            StoreError: `CONFLICT` when pending is not that attempt's, or current has moved.
        """
        current, pending = self.current, self.pending
        if current and current.attempt == attempt:
            return self, Promotion(current.version, self.replaced)
        if not pending or pending.attempt != attempt or pending.meta is None:
            raise _conflict(
                f"Attempt {attempt} is not staged at {path}.",
                "Read the slots again: it was discarded, fenced off, or never staged.",
            )
        self._expect(path, expect_current)
        after = self._next(pending=None, current=pending, previous=current, replaced=_version_of(current))
        return after, Promotion(pending.version, _version_of(current))

    def restore_previous(self, path: str, expect_current: str) -> tuple[Ledger, Promotion]:
        """Swap current and previous.

        Raises:
            StoreError: `CONFLICT` when current has moved or there is no previous.
        """
        self._expect(path, expect_current)
        if self.previous is None:
            raise _conflict(f"{path} has no previous version to go back to.", "Rotate forward instead.")
        after = self._next(current=self.previous, previous=self.current, replaced=expect_current)
        return after, Promotion(self.previous.version, expect_current)

    def discard(self, slot: Slot, version: str) -> Ledger:
        """Empty pending or previous, if it still holds that version.

        Raises:
            ProgrammingError: the slot is current.
        """
        held = self.held(slot)
        if slot is Slot.CURRENT:
            raise ProgrammingError("current is never discarded")
        if held is None or held.version != version:
            return self
        return self._next(pending=None) if slot is Slot.PENDING else self._next(previous=None)

    def put(self, path: str, meta: KeyMeta, expect_current: str | None) -> Ledger:
        """Put a new version straight into current; what stood there becomes previous.

        Raises:
            StoreError: `CONFLICT` when current is not `expect_current`.
        """
        self._expect(path, expect_current)
        held, grown = self._new_version(meta.attempt, meta)
        return self._next(**grown, current=held, previous=self.current, replaced=_version_of(self.current))

    def vacate(self, path: str, expect_current: str) -> Ledger:
        """Empty all slots.

        Raises:
            StoreError: `CONFLICT` when current is another version than `expect_current`.
        """
        if not any(self._all_held()):
            return self
        if self.current is not None:
            self._expect(path, expect_current)
        return self._next(pending=None, current=None, previous=None, replaced=None)

    def _expect(self, path: str, expect_current: str | None) -> None:
        found = _version_of(self.current)
        if found != expect_current:
            raise _conflict(
                f"Current of {path} has moved: expected {expect_current or 'none'}, found {found or 'none'}.",
                "Read current again and decide anew.",
            )

    def _all_held(self) -> Iterator[Held]:
        yield from (held for held in (self.pending, self.current, self.previous) if held)

    def _new_version(self, attempt: Attempt | None, meta: KeyMeta) -> tuple[Held, dict[str, object]]:
        version = f"v{self.next_number:06d}"
        row = Row(version, attempt, meta.fingerprint, meta.created_at)
        grown = {"next_number": self.next_number + 1, "rows": self._rows_with(row)}
        return Held(version, attempt, meta), grown

    def _rows_with(self, row: Row) -> tuple[Row, ...]:
        rows = (*self.rows, row)
        if len(rows) <= HISTORY_ROWS:
            return rows
        kept = self.kept()
        oldest = next(r for r in rows if r.version not in kept)
        return tuple(r for r in rows if r is not oldest)

    def _next(self, **changes: object) -> Ledger:
        return replace(self, revision=self.revision + 1, **changes)  # type: ignore[arg-type]
