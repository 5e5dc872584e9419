"""The moves of the pending slot: claim, stage, discard."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from keyturn.domain.errors import StoreError
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Slot, SlotInfo
from keyturn.stores.vault.documents import Current, Pending, State, mark, material_values
from keyturn.stores.vault.faults import busy, conflict
from keyturn.stores.vault.kv import MovedError
from keyturn.stores.vault.shelf import TRIES, Shelf


def claim(shelf: Shelf, path: str, attempt: Attempt) -> Claim:
    """Reserve pending for an attempt; see the port."""
    for _ in range(TRIES):
        current = shelf.current(path)
        shelf.formats.check_room(path, current.others)
        pending = shelf.pending(path)
        _may_claim(path, attempt, current, pending)
        if pending.state is State.CLAIMED and pending.attempt == attempt:
            if pending.owes:
                shelf.fence(path, None)
            return Claim(attempt, pending.version)
        displaced = pending.state in {State.STAGED, State.DOOMED}
        owes = pending.owes or (displaced and not current.spent(pending.attempt))
        # `stage` finds in its claim the version to write over, and needs no right to read.
        version = f"{pending.kv + 1}.{attempt}.{mark()}"
        mine = Pending(state=State.CLAIMED, version=version, attempt=attempt, fence=attempt, owes=owes)
        try:
            shelf.write_pending(path, mine, pending.kv)
        except MovedError:
            continue
        if owes:
            shelf.fence(path, pending.attempt if displaced else None)
        elif not current.others:
            shelf.seen[path] = attempt, replace(current, values={})
        if displaced:
            # The claim stands; what this cannot clear now, the next one does.
            with suppress(StoreError):
                shelf.sweep_pending(path, pending.kv)
        return Claim(attempt, version)
    raise busy(path)


def _may_claim(path: str, attempt: Attempt, current: Current, pending: Pending) -> None:
    fence = pending.fence
    if fence and fence.rotation_id == attempt.rotation_id and fence.number > attempt.number:
        raise conflict(
            f"Attempt {attempt} may not claim {path}: attempt {fence} came after it.",
            "Nothing to do here: a later attempt goes on with this rotation.",
        )
    previous = current.previous.attempt if current.previous else None
    if current.spent(attempt) or attempt in {current.attempt, previous}:
        raise conflict(
            f"Attempt {attempt} may not claim {path}: it was promoted, or a later one was.",
            "Read the slots again and go on from what they hold.",
        )


def stage(shelf: Shelf, path: str, material: SecretMaterial, meta: KeyMeta, held: Claim) -> SlotInfo:
    """Write to the claimed pending slot; see the port. Needs the right to write there, and no other."""
    number, _, rest = held.version.partition(".")
    owner, _, _ = rest.rpartition(".")
    lost = conflict(
        f"The claim of attempt {held.attempt} on {path} no longer holds.",
        "Read pending: another worker took the slot, or this attempt is staged already.",
    )
    if not number.isdigit() or owner != str(held.attempt):
        raise lost
    shelf.formats.check(path, material)
    version = f"{int(number) + 1}-{mark()}"
    staged = Pending(
        state=State.STAGED,
        version=version,
        attempt=held.attempt,
        meta=meta,
        values=material_values(material),
        format=shelf.formats.of(path),
        fence=held.attempt,
    )
    try:
        shelf.write_pending(path, staged, int(number))
    except MovedError:
        raise lost from None
    return SlotInfo(Slot.PENDING, version, held.attempt, meta)


def discard(shelf: Shelf, path: str, version: str) -> None:
    """Empty pending and destroy its content; see the port.

    The slot goes on showing the version until the fence is up: a discard that was cut short is found
    by the next look, and done again.
    """
    for _ in range(TRIES):
        pending = shelf.pending(path)
        if pending.state is State.EMPTY or pending.version != version:
            return
        try:
            if _discarded(shelf, path, pending):
                return
        except MovedError:
            continue
    raise busy(path)


def _discarded(shelf: Shelf, path: str, pending: Pending) -> bool:
    """Take one pass; False when it has to be looked at again."""
    empty = Pending(fence=pending.fence)
    if pending.state is State.STAGED:
        if shelf.current(path).spent(pending.attempt):
            shelf.sweep_pending(path, pending.kv)
            return True
        doomed = Pending(
            state=State.DOOMED,
            version=pending.version,
            attempt=pending.attempt,
            fence=pending.fence,
            owes=True,
        )
        shelf.write_pending(path, doomed, pending.kv)
        return False
    if pending.owes:
        shelf.fence(path, pending.attempt)
    if pending.state is State.DOOMED:
        # While the slot still shows: a worker that dies here leaves something to find.
        shelf.sweep_pending(path, pending.kv - 1)
    shelf.write_pending(path, empty, pending.kv)
    return True
