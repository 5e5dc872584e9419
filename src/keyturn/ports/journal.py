"""The journal port: the record of what was intended and what became of it. It holds no secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyturn.domain.comparison import Findings
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import Event, KeyRecord, Rotation


@dataclass(frozen=True, slots=True)
class Change:
    """What one step of the engine wants written, all of it or nothing."""

    #: The `seq` that the rotation has in the journal as far as the worker knows.
    expect_seq: int
    #: Applied in this order; each has raised `seq` by one.
    events: tuple[Event, ...]
    after: Rotation
    keys: tuple[KeyRecord, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()


@dataclass(frozen=True, slots=True)
class JournaledEvent:
    """An event as it stands in the journal."""

    number: int
    rotation_id: str
    credential: str
    seq: int
    event: Event
    hash: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What verifying the hash chain found."""

    events: int
    #: One sentence per broken place; empty when all is well.
    breaks: tuple[str, ...]
    #: The hash at the end of the chain, which stands for all that came before it; of the whole journal only.
    newest: str = ""
    #: How many events follow the one with the expected hash; None where none has it, or none was expected.
    since: int | None = None


class Journal(Protocol):
    """The durable record.

    Every method raises `JournalError` with one fault of the closed set. When a write returns, it has
    outlived a power cut.
    """

    async def salt(self) -> bytes:
        """Give the installation's salt for fingerprints, made once."""
        ...

    async def open(self, rotation: Rotation, opened: Event) -> None:
        """Write a new rotation.

        Raises:
            JournalError: `CONFLICT` when the credential has an open rotation.
        """
        ...

    async def commit(self, change: Change) -> None:
        """Write a step.

        Raises:
            JournalError: `CONFLICT` when the rotation is not at `expect_seq`; nothing was written.
        """
        ...

    async def record_keys(self, keys: Sequence[KeyRecord]) -> None:
        """Write keys outside a rotation: adoption. Overwrites rows with the same `key_id`."""
        ...

    async def record_findings(self, findings: Findings) -> None:
        """Write what a comparison of the books found, also that it found nothing."""
        ...

    async def findings(self) -> Findings | None:
        """Give what the last comparison of the books found; None before the first."""
        ...

    async def get(self, rotation_id: str) -> Rotation | None:
        """Give a rotation by id."""
        ...

    async def open_rotation(self, credential: str) -> Rotation | None:
        """Give the open rotation of a credential."""
        ...

    async def due(self, now: datetime, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the open rotations for which `is_due` holds, the longest waiting first."""
        ...

    async def latest(self) -> Sequence[Rotation]:
        """Give the newest rotation of every credential that has one."""
        ...

    async def rotations(self, credential: str, *, limit: int | None = None) -> Sequence[Rotation]:
        """Give the rotations of a credential, newest first."""
        ...

    async def last_completed(self) -> Sequence[Rotation]:
        """Give the newest completed rotation of every credential that has one."""
        ...

    async def events(self, rotation_id: str) -> Sequence[JournaledEvent]:
        """Give the story of a rotation, oldest first."""
        ...

    async def keys(self, credential: str) -> Sequence[KeyRecord]:
        """Give every key that the journal knows of a credential, oldest first."""
        ...

    async def key(self, exchange: str, account: str, key_ref: str) -> KeyRecord | None:
        """Give the record of a key by its ref; None means that it is not ours, or no longer (`FORGOTTEN`)."""
        ...

    async def adopted(self) -> Sequence[KeyRecord]:
        """Give every adopted key, of all credentials: where their age begins."""
        ...

    async def unsettled(self) -> Sequence[KeyRecord]:
        """Give the keys that may live and that their rotation has left behind, oldest first.

        That is: intended, live or revoking, and the rotation that minted them was aborted, or has claimed a
        later attempt. The key of a completed rotation is no such key, whatever its fate: while it is being
        revoked, its successor's rotation looks after it.
        """
        ...

    async def confirmations(self, rotation_id: str) -> Sequence[Confirmation]:
        """Give the proofs that consumers produced for a rotation."""
        ...

    async def verify(self, rotation_id: str | None = None, *, expect: str | None = None) -> ChainReport:
        """Check the hash chain and that the events replay to the rotations as they stand.

        Args:
            rotation_id: check the events of this rotation alone, each by its own hash, and that they lead to
                the rotation and the confirmations as they stand; None for the whole journal.
            expect: a hash that was the newest once, to be looked for in the whole journal.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued and release connections."""
        ...
