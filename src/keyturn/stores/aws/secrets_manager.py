"""AWS Secrets Manager as a secret store: one secret a path, its slots the staging labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored, VersionInfo
from keyturn.ports.store import Finding
from keyturn.stores.aws.documents import Kind, Leaf
from keyturn.stores.aws.field_secrets import FieldSecrets
from keyturn.stores.aws.labels import SlotReader
from keyturn.stores.aws.rotation_slots import RotationSlots
from keyturn.stores.aws.shelf import CURRENT, Shelf
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import SINGLE, Formats


class AwsSecretsManager:
    """A `SecretStore` in Secrets Manager. The `*_sync` methods and `signature` are for bots: they only read.

    A secret is a JSON object with the bot's fields as text, and the reserved object `keyturn` with what
    describes the key. Fields that somebody else put beside them are kept by every later version. Where the
    format splits them, each stands in a secret of its own, too, which follows (`field_secrets`).

    A discarded version cannot be destroyed: AWS has no call for that. It loses its labels, which puts it
    out of reach of everybody who reads by label, and AWS deletes it when it makes room.

    Args:
        wire: to AWS.
        prefix: put before every path.
        kms_key_id: for secrets that this store makes; None for the service's own key.
        replica_regions: regions that must have the current version, too.
        formats: how the documents look.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        prefix: str = "",
        kms_key_id: str | None = None,
        replica_regions: Sequence[str] = (),
        formats: Formats = SINGLE,
    ) -> None:
        self._wire = wire
        self._replica_regions = tuple(replica_regions)
        self._shelf = Shelf(wire, prefix, kms_key_id, replica_regions, formats)
        self._reader = SlotReader(self._shelf)
        self._slots = RotationSlots(self._shelf)
        self._fields = FieldSecrets(self._shelf)

    # The port's methods.

    async def peek(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot; see the port."""
        return await self._wire.in_thread(lambda: self._reader.info(path, slot))

    async def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot; see the port."""
        return await self._wire.in_thread(lambda: self.read_sync(path, slot))

    async def claim(self, path: str, attempt: Attempt) -> Claim:
        """Reserve pending by a write of its own, which proves the rights and the KMS key; see the port."""
        return await self._wire.in_thread(lambda: self._claim(path, attempt))

    async def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Write to the claimed pending slot; see the port."""
        return await self._wire.in_thread(lambda: self._slots.stage(path, material, meta, claim))

    async def promote(self, path: str, attempt: Attempt, *, expect_current: str | None) -> Promotion:
        """Make the staged attempt current; see the port.

        Returns when the primary region has it. The pivot has happened then, whatever replicas and field
        secrets show; `spread` tells.
        """
        return await self._wire.in_thread(lambda: self._slots.promote(path, attempt, expect_current))

    async def restore_previous(self, path: str, *, expect_current: str) -> Promotion:
        """Swap current and previous; see the port."""
        return await self._wire.in_thread(lambda: self._slots.restore_previous(path, expect_current))

    async def discard(self, path: str, slot: Slot, *, version: str) -> None:
        """Empty pending or previous; see the port, and the class on what AWS cannot destroy."""
        await self._wire.in_thread(lambda: self._discard(path, slot, version))

    async def put(
        self, path: str, material: SecretMaterial, meta: KeyMeta, *, expect_current: str | None
    ) -> SlotInfo:
        """Write straight to current; see the port."""
        return await self._wire.in_thread(lambda: self._slots.put(path, material, meta, expect_current))

    async def vacate(self, path: str, *, expect_current: str) -> None:
        """Empty all slots; see the port, and the class on what AWS cannot destroy."""
        await self._wire.in_thread(lambda: self._vacate(path, expect_current))

    async def spread(self, path: str) -> Sequence[str]:
        """Bring up the field secrets, and name them and the regions that are behind; see the port.

        A region counts until AWS reports it in sync; one of the inventory that a secret is not replicated
        to counts always. A secret that had no replicas when it was last seen is not looked at again.
        """
        if self._stands_alone(path):
            return []
        return await self._wire.in_thread(lambda: self._spread(path))

    async def history(self, path: str) -> Sequence[VersionInfo]:
        """List the versions that AWS still has, oldest first.

        `destroyed` are those without a label: AWS deletes them, and nobody finds them by label. Opens
        each version once, since AWS tells no more of one than its labels.
        """
        return await self._wire.in_thread(lambda: self._history(path))

    async def check(self, paths: Sequence[str]) -> Sequence[Finding]:
        """Check identity, secrets, replicas and rights, without writing; see the port."""
        from keyturn.stores.aws.check import check_secrets

        return await self._wire.in_thread(
            lambda: check_secrets(
                self._wire, self._shelf, self._reader, self._fields, paths, self._replica_regions
            )
        )

    async def close(self) -> None:
        """End the threads and connections. The store can still be used, and opens new ones then."""
        await self._wire.close()

    # For bots.

    def signature(self, path: str) -> str | None:
        """Give a value that differs after every change of current, for one metadata call.

        Raises:
            StoreError: `DENIED`, `UNAVAILABLE`, `MISCONFIGURED`.
        """
        view = self._shelf.view(path)
        return view.current if view else None

    def peek_sync(self, path: str, slot: Slot) -> SlotInfo | None:
        """Do what `peek` does, in this thread."""
        return self._reader.info(path, slot)

    def read_sync(self, path: str, slot: Slot) -> Stored | None:
        """Do what `read` does, in this thread."""
        staged = self._slots.own_staged(path) if slot is Slot.PENDING else None
        return staged or self._reader.read(path, slot)

    # How it is done.

    def _claim(self, path: str, attempt: Attempt) -> Claim:
        self._fields.refuse_strangers(path)
        return self._slots.claim(path, attempt)

    def _discard(self, path: str, slot: Slot, version: str) -> None:
        if slot is Slot.PREVIOUS and self._fields.paths(path):
            held = self._reader.info(path, slot)
            if held and held.version == version:
                # First, so that who dies in between finds it in the slot and does it again.
                self._fields.forget_previous(path)
        self._slots.discard(path, slot, version)

    def _vacate(self, path: str, expect_current: str) -> None:
        from keyturn.stores.aws.vacate import vacate_secret

        vacate_secret(self._shelf, self._slots, path, expect_current)
        self._fields.vacate(path)

    def _spread(self, path: str) -> list[str]:
        behind = self._fields.follow(path)
        for where in (path, *self._fields.paths(path).values()):
            of = "" if where == path else f" of {where}"
            behind += [f"region {name}{of} ({state})" for name, state in self._late_regions(where)]
        return behind

    def _stands_alone(self, path: str) -> bool:
        """Tell whether nothing follows a secret, as far as is known without asking AWS."""
        return not self._fields.paths(path) and self._unreplicated(path)

    def _unreplicated(self, where: str) -> bool:
        seen = self._shelf.sight(where)
        return not self._replica_regions and seen is not None and not seen.replicas

    def _late_regions(self, where: str) -> list[tuple[str, str]]:
        if self._unreplicated(where):
            return []
        view = self._shelf.view(where)
        states: Mapping[str, str] = view.replicas if view else {}
        wanted = sorted({*self._replica_regions, *states})
        return [(name, states.get(name, "no replica")) for name in wanted if states.get(name) != "InSync"]

    def _history(self, path: str) -> list[VersionInfo]:
        view = self._shelf.view(path)
        if view is None:
            return []
        slots: dict[str, set[Slot]] = {}
        for slot, leaf in self._reader.in_slots(path, view).items():
            slots.setdefault(leaf.version, set()).add(slot)
        rows: dict[str, VersionInfo] = {}
        for version_id, labels, created in self._shelf.versions(path):
            seen = self._shelf.leaf(path, version_id, label=CURRENT if CURRENT in labels else None)
            if seen is not None and seen.holds_key:
                # A copy is the same version as its original, and made later.
                rows.setdefault(seen.version, _row(seen, slots.get(seen.version, set()), created))
        return list(rows.values())


def _row(leaf: Leaf, slots: set[Slot], created: datetime | None) -> VersionInfo:
    meta = leaf.meta
    return VersionInfo(
        version=leaf.version,
        slots=frozenset(slots),
        attempt=leaf.attempt,
        fingerprint=meta.fingerprint if meta and leaf.kind is Kind.KEY else None,
        created_at=created,
        destroyed=not slots,
    )
