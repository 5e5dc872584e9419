"""The moves of the consumer's path, each one write: promote, restore, put; and the end of previous."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from keyturn.domain.errors import StoreError
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Promotion, Slot, SlotInfo
from keyturn.stores.vault.documents import Current, Pending, Pointer, State, mark, material_values
from keyturn.stores.vault.faults import busy, conflict, moved
from keyturn.stores.vault.kv import MovedError
from keyturn.stores.vault.shelf import TRIES, Shelf

# So many versions are destroyed by number, whether they are there or not, without asking which are.
_NAMED_UNSEEN = 40


def promote(shelf: Shelf, path: str, attempt: Attempt, expect: str | None) -> Promotion:
    """Make the staged attempt current; see the port."""
    claimed_by, seen = shelf.seen.pop(path, (None, None))
    if claimed_by != attempt or (seen and seen.version != expect):
        seen = None
    for _ in range(TRIES):
        # In this order: the fence rests on it.
        current, seen = seen or shelf.current(path), None
        if current.version and current.attempt == attempt:
            return _promoted(shelf, path, current)
        pending = shelf.pending(path)
        if pending.state is not State.STAGED or pending.attempt != attempt or current.spent(attempt):
            # Another worker may have promoted it between the two looks.
            now = shelf.current(path)
            if now.version and now.attempt == attempt:
                return Promotion(now.version, now.replaced)
            raise conflict(
                f"Attempt {attempt} is not staged at {path}.",
                "Read the slots again: it was discarded, fenced off, or never staged.",
            )
        if current.version != expect:
            raise moved(path, expect, current.version)
        try:
            shelf.write_current(path, _after(current, pending), current)
        except MovedError:
            continue
        if _clear(shelf, path, pending):
            shelf.cleared[path] = attempt
        return Promotion(pending.version, current.version)
    raise busy(path)


def _after(current: Current, pending: Pending) -> Current:
    return Current(
        version=pending.version,
        attempt=pending.attempt,
        meta=pending.meta,
        values=pending.values,
        others=current.others,
        format=pending.format,
        previous=_pointer(current),
        replaced=current.version,
        promoted=pending.attempt,
    )


def _promoted(shelf: Shelf, path: str, current: Current) -> Promotion:
    pending = shelf.pending(path)
    if pending.state is State.STAGED and pending.attempt == current.attempt:
        _clear(shelf, path, pending)
    return Promotion(str(current.version), current.replaced)


def _clear(shelf: Shelf, path: str, pending: Pending) -> bool:
    # The promotion has happened, whatever becomes of this. Until it is cleared, pending counts as empty
    # because current names its attempt, and the end of the rotation clears it, too.
    with suppress(StoreError):
        shelf.sweep_pending(path, pending.kv)
        return True
    return False


def _pointer(current: Current) -> Pointer | None:
    return Pointer(current.kv, current.version, current.attempt) if current.version else None


def restore_previous(shelf: Shelf, path: str, expect: str) -> Promotion:
    """Swap current and previous; see the port."""
    for _ in range(TRIES):
        current = shelf.current(path)
        if current.version != expect:
            raise moved(path, expect, current.version)
        previous = shelf.previous(path, current.previous)
        if previous is None:
            raise conflict(f"{path} has no previous version to go back to.", "Rotate forward instead.")
        after = replace(
            previous,
            others={k: v for k, v in current.others.items() if k not in previous.values},
            previous=_pointer(current),
            replaced=current.version,
            promoted=current.promoted,
        )
        try:
            shelf.write_current(path, after, current)
        except MovedError:
            continue
        return Promotion(str(previous.version), current.version)
    raise busy(path)


def put(shelf: Shelf, path: str, material: SecretMaterial, meta: KeyMeta, expect: str | None) -> SlotInfo:
    """Write straight to current; see the port."""
    values = material_values(material)
    shelf.formats.check(path, material)
    for _ in range(TRIES):
        current = shelf.current(path)
        if current.version != expect:
            raise moved(path, expect, current.version)
        version = f"{current.kv + 1}-{mark()}"
        after = Current(
            version=version,
            attempt=meta.attempt,
            meta=meta,
            values=values,
            others=current.others,
            format=shelf.formats.of(path),
            previous=_pointer(current),
            replaced=current.version,
            promoted=current.promoted,
        )
        try:
            shelf.write_current(path, after, current)
        except MovedError:
            continue
        return SlotInfo(Slot.CURRENT, version, meta.attempt, meta)
    raise busy(path)


def discard_previous(shelf: Shelf, path: str, version: str) -> None:
    """Empty previous: destroy every version but the newest.

    All of them, because copies of a key may stand under several numbers (a roll-back writes one). What
    a promotion left in pending is cleared on the way.

    A look of this process's own will do, also an old one: a version that was not the newest then is never
    the newest again, and whoever brought its key back to current has written a copy.
    """
    current = shelf.sights.pop(path, None)
    if current is None or current.previous is None or current.previous.version != version:
        current = shelf.current(path)
    if current.previous is None or current.previous.version != version:
        return
    where = shelf.places.current(path)
    # What is newer than our look is not ours to judge.
    older: Iterable[int] = range(1, current.kv)
    if current.kv > _NAMED_UNSEEN:
        versions = (shelf.kv.metadata(where) or {}).get("versions") or {}
        alive = {int(n) for n, row in versions.items() if not row.get("destroyed")}
        older = {current.previous.kv, *alive.intersection(older)}
    shelf.kv.destroy(where, older)
    if current.promoted and shelf.cleared.pop(path, None) == current.promoted:
        return
    pending = shelf.pending(path)
    if pending.state is State.STAGED and current.spent(pending.attempt):
        _clear(shelf, path, pending)
