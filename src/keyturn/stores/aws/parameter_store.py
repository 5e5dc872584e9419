"""AWS Systems Manager Parameter Store as a secret store: one SecureString a path."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.domain.errors import ProgrammingError
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores.aws.parameter_slots import ParameterSlots
from keyturn.stores.aws.parameters import Parameters
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import SINGLE, Formats


class AwsParameterStore:
    """A `SecretStore` in Parameter Store. The `*_sync` methods and `signature` are for bots: they only read.

    The parameter at a path is a JSON object with the bot's fields as text, and the reserved object
    `keyturn`. A value has room for 8 KiB. Parameter Store has no conditional write and cannot destroy a
    single version; `parameter_slots` says what is done about it, and what stays open.

    Args:
        wire: to AWS.
        prefix: put before every path; a path in a hierarchy gets its leading slash by itself.
        kms_key_id: for what is written; None for the account's own key.
        formats: how the documents look.
    """

    def __init__(
        self, wire: Wire, *, prefix: str = "", kms_key_id: str | None = None, formats: Formats = SINGLE
    ) -> None:
        self._wire = wire
        self._parameters = Parameters(wire, prefix, kms_key_id, formats)
        self._slots = ParameterSlots(self._parameters)

    # The port's methods.

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return await self._wire.in_thread(lambda: self._slots.info(path, slot))

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        return await self._wire.in_thread(lambda: self._slots.read(path, slot))

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending; see the port."""
        return await self._wire.in_thread(lambda: self._slots.claim(path, attempt))

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""
        return await self._wire.in_thread(lambda: self._slots.stage(path, material, meta, claim))

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current; see the port."""
        return await self._wire.in_thread(lambda: self._slots.promote(path, attempt, expect_current))

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous; see the port."""
        return await self._wire.in_thread(lambda: self._slots.restore_previous(path, expect_current))

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty pending, whose value is deleted, or previous, whose value stays in the history."""
        if slot is Slot.CURRENT:
            raise ProgrammingError("current is never discarded")
        await self._wire.in_thread(lambda: self._slots.discard(path, slot, version))

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""
        return await self._wire.in_thread(lambda: self._slots.put(path, material, meta, expect_current))

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Delete the parameter with its whole history; see the port."""
        from keyturn.stores.aws.page_desk import Desk
        from keyturn.stores.aws.vacate import vacate_parameter

        await self._wire.in_thread(
            lambda: vacate_parameter(self._parameters, Desk(self._parameters), path, expect_current)
        )

    async def spread(self, path: str) -> Sequence[str]:
        """Give nothing: a parameter has no copies; see the port."""
        return ()

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions that AWS still has, oldest first; `destroyed` are those in no slot."""
        return await self._wire.in_thread(lambda: self._slots.history(path))

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check identity, parameters and rights, without writing; see the port."""
        from keyturn.stores.aws.check import check_parameters

        return await self._wire.in_thread(
            lambda: check_parameters(self._wire, self._parameters, self._slots, paths)
        )

    async def close(self) -> None:
        """End the threads and connections. The store can still be used, and opens new ones then."""
        await self._wire.close()

    # For bots.

    def signature(self, path: str) -> tuple[int, float] | None:
        """Give a value that differs after every change of current; nothing is decrypted for it.

        Raises:
            StoreError: `DENIED`, `UNAVAILABLE`, `MISCONFIGURED`.
        """
        param = self._parameters.peek(path, self._parameters.name(path))
        if param is None:
            return None
        return (param.number, param.modified.timestamp() if param.modified else 0.0)

    def peek_sync(self, path: str, slot: Slot) -> SlotInfo | None:
        """Do what `peek` does, in this thread."""
        return self._slots.info(path, slot)

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Do what `read` does, in this thread."""
        return self._slots.read(path, slot)
