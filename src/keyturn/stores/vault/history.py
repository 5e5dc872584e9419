"""The history of a credential: the server's own list of versions, and what the slots say of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.slots import Slot, VersionInfo
from keyturn.stores.vault.documents import Current, Pending, State, parse_time
from keyturn.stores.vault.shelf import Shelf


def history(shelf: Shelf, path: str) -> list[VersionInfo]:
    """List the versions, oldest first; see the port.

    What no slot names is listed under the server's number, without whose key it was: that stands in the
    version itself, which is not opened.
    """
    current = shelf.current(path)
    previous = shelf.previous(path, current.previous)
    slots: dict[int, VersionInfo] = {}
    if previous is not None:
        slots[previous.kv] = _row(previous, Slot.PREVIOUS)
    if current.version:
        slots[current.kv] = _row(current, Slot.CURRENT)
    rows = [slots.pop(number, other) for number, other in _listed(shelf, path)]
    # Where the list may not be read, the slots are still told; and pending comes last.
    rows = [*(slots[number] for number in sorted(slots)), *rows]
    pending = shelf.pending(path)
    if pending.state is not State.EMPTY and not current.spent(pending.attempt):
        rows.append(_row(pending, Slot.PENDING))
    return rows


def _row(found: Current | Pending, slot: Slot) -> VersionInfo:
    meta = found.meta
    return VersionInfo(
        version=str(found.version),
        slots=frozenset({slot}),
        attempt=found.attempt,
        fingerprint=meta.fingerprint if meta else None,
        created_at=meta.created_at if meta else None,
    )


def _listed(shelf: Shelf, path: str) -> Iterator[tuple[int, VersionInfo]]:
    try:
        metadata = shelf.kv.metadata(shelf.places.current(path)) or {}
    except StoreError as error:
        if error.fault is not StoreFault.DENIED:
            raise
        return
    versions = metadata.get("versions") or {}
    for number in sorted(map(int, versions)):
        row = versions[str(number)]
        # A mount that deletes by itself writes the time beforehand.
        ends = parse_time(row.get("deletion_time") or "")
        gone = bool(row.get("destroyed")) or (ends is not None and ends <= datetime.now(UTC))
        yield (
            number,
            VersionInfo(
                f"kv-{number}", frozenset(), None, None, parse_time(row["created_time"]), destroyed=gone
            ),
        )
