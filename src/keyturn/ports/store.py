"""The secret store port: three slots, moved by verbs that each either happen or do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a read-only check: what was looked at, whether it is well, what to do if not."""

    subject: str
    ok: bool
    detail: str
    todo: str = ""


class SecretStore(Protocol):
    """A place for secrets.

    Every method raises `StoreError` with one fault of the closed set. A write that was sent and not
    answered raises `OUTCOME_UNKNOWN`; the caller reads back. `CONFLICT` means that nothing was written.
    """

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot without opening it, freshly read; None when it is empty."""
        ...

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot, freshly read; None when it is empty or only claimed."""
        ...

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve the pending slot for an attempt, taking it from any earlier one.

        Claiming again for the same attempt gives a claim that works; what had been staged under the one
        before is no longer reachable. A store that could not take the secret (no key, no right) says so
        here, before anything is minted.

        Raises:
            StoreError: `CONFLICT` when a later attempt of the same rotation has claimed, also if its claim
                was discarded since, or when this attempt stands in current or previous already.
        """
        ...

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot. Deploys nothing. A claim stages once.

        Raises:
            StoreError: `CONFLICT` when the claim no longer holds.
        """
        ...

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current and what was current previous: one write, the pivot.

        Idempotent per attempt: promoting what is already current gives the same answer.

        Args:
            path: of the credential.
            attempt: what must stand in pending; never "whatever is pending".
            expect_current: the version that the caller saw as current; None for an empty slot.

        Raises:
            StoreError: `CONFLICT` when pending is not that attempt's, or current has moved.
        """
        ...

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous: the roll-back.

        Raises:
            StoreError: `CONFLICT` when current has moved or there is no previous.
        """
        ...

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty the pending or previous slot and destroy its content for good.

        Does nothing when the slot no longer holds that version. After a pending version was discarded, no
        promotion of it can succeed any more, not even one that is under way.

        Raises:
            ProgrammingError: the slot is current, which is never discarded.
        """
        ...

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current: a person's key is taken in. Not used by a rotation.

        Raises:
            StoreError: `CONFLICT` when current is not `expect_current`.
        """
        ...

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Destroy all three slots of a path: the credential lives elsewhere now. Not used by a rotation.

        Goes on where an earlier one stopped, and does nothing where there is nothing left. Fields of other
        people at the path stay, where the store can keep them without the key.

        Raises:
            StoreError: `CONFLICT` when current is another version; nothing was destroyed.
        """
        ...

    async def spread(self, path: str) -> Sequence[str]:
        """Bring up what copies current inside this store, and name what does not show it yet.

        Copies are a store's own affair: other regions, or secrets that hold one field each. What another
        brings up is only looked at. Idempotent; a store without copies gives an empty answer. Until the
        answer is empty somebody may still read the key that was current before.

        Returns:
            Places in words, such as `region eu-west-1 (InProgress)`; never a value.
        """
        ...

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions of a credential, oldest first; never a value."""
        ...

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check, without writing, that these paths can be read and written."""
        ...

    async def close(self) -> None:
        """Release what is held open."""
        ...
