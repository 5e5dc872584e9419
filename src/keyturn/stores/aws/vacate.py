"""The end of a credential at its path, in Secrets Manager and in Parameter Store."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

from keyturn.domain.slots import Slot
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import Kind
from keyturn.stores.aws.faults import conflict, crowded
from keyturn.stores.aws.labels import SlotReader
from keyturn.stores.aws.page_desk import Desk
from keyturn.stores.aws.pages import Lease
from keyturn.stores.aws.parameters import Parameters
from keyturn.stores.aws.rotation_slots import RotationSlots
from keyturn.stores.aws.shelf import CURRENT, INCOMING, PREVIOUS, Shelf

_MOST_STEPS = 64


def vacate_secret(shelf: Shelf, slots: RotationSlots, path: str, expect: str) -> None:
    """Move AWSCURRENT to a version without a key, and take the labels from all others; see the port."""
    reader, view = SlotReader(shelf), shelf.view(path)
    if view is None:
        return
    current, pending = reader.in_slot(path, view, Slot.CURRENT), reader.pending(path, view)
    if current is not None:
        _expect(path, current.version, expect)
    if pending is not None:
        slots.discard(path, Slot.PENDING, pending.version)
        view = shelf.view(path) or view
    if current is not None:
        opened, token = shelf.open(path, version_id=view.current), uuid4().hex
        beside = documents.beside_the_key(opened) if opened else {}
        shelf.put(path, token, documents.mark_text(Kind.VACANT, beside=beside), INCOMING)
        moved = shelf.move(path, CURRENT, view.current, token)
        shelf.strip(path, INCOMING, token)
        if not moved:
            raise conflict(f"Current of {path} has moved while it was being vacated.")
        view = shelf.view(path) or view
    if view.previous is not None:
        slots.empty_if_promoted(path, view)
        # AWS has put it on what was current.
        shelf.strip(path, PREVIOUS, view.previous)


def vacate_parameter(parameters: Parameters, desk: Desk, path: str, expect: str) -> None:
    """Delete the parameter with its whole history, fields of other people too; see the port.

    The page stays: it holds no secret, and goes on keeping late writers out.
    """
    for _ in range(_MOST_STEPS):
        state = desk.settled(path)
        if state.version:
            _expect(path, state.version, expect)
        if not state.number and state.ledger.pending is None:
            return
        lease = Lease(state.version, time.time() + desk.lease_seconds) if state.number else None
        if desk.save(path, state, replace(state.ledger, pending=None), lease=lease):
            parameters.delete(path, [parameters.name(path)])
            return
    raise crowded(path)


def _expect(path: str, found: str, expect: str) -> None:
    if found != expect:
        raise conflict(f"Current of {path} has moved: expected {expect}, found {found}.")
