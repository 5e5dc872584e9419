"""The slots of a secret, read from where its staging labels stand."""

from __future__ import annotations

from keyturn.domain.slots import Slot, SlotInfo, Stored
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import Kind, Leaf, Opened
from keyturn.stores.aws.shelf import CURRENT, PENDING, PREVIOUS, Shelf, View

_LABELS = {Slot.CURRENT: CURRENT, Slot.PENDING: PENDING, Slot.PREVIOUS: PREVIOUS}


class SlotReader:
    """Tells what stands in the slots of each path; every method blocks, and only reads."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def info(self, path: str, slot: Slot) -> SlotInfo | None:
        """Tell what stands in a slot."""
        if slot is Slot.CURRENT and not self._shelf.met(path):
            # Nothing is known of its versions: where the label stands would be half of the answer.
            opened = self._shelf.open(path, label=CURRENT)
            leaf = opened.leaf if opened and opened.leaf.holds_key else None
        else:
            view = self._shelf.view(path)
            leaf = self.in_slot(path, view, slot) if view else None
        return leaf.info(slot) if leaf else None

    def read(self, path: str, slot: Slot) -> Stored | None:
        """Open a slot. Current takes one call, and no right but to read AWSCURRENT."""
        opened = self._shelf.open(path, label=CURRENT) if slot is Slot.CURRENT else None
        if slot is Slot.PREVIOUS and (expected := self.sighted_previous(path)):
            opened = self._shelf.open(path, label=PREVIOUS)
            if opened and opened.leaf.id != expected.id:
                opened = None
        if opened is None and slot is not Slot.CURRENT:
            view = self._shelf.view(path)
            leaf = self.in_slot(path, view, slot) if view else None
            opened = self._shelf.open(path, version_id=leaf.id) if leaf and leaf.holds_key else None
        return stored(path, slot, opened)

    def sighted_previous(self, path: str) -> Leaf | None:
        """Tell which version stands in previous for as long as it has AWSPREVIOUS, by what was seen last.

        A version with AWSPREVIOUS is not in the slot when what is current was copied from it, the mark of
        a fence that was cut short. One that has left AWSCURRENT behind is copied by a roll-back alone, and
        loses AWSPREVIOUS in that very move, for good. So if it was in the slot once, then the label tells.
        """
        view = self._shelf.sight(path)
        current = self._shelf.known(path, view.current) if view else None
        previous = self._shelf.known(path, view.previous) if view else None
        if not current or not previous or not previous.holds_key or current.marks.copied == previous.id:
            return None
        return previous

    def in_slots(self, path: str, view: View) -> dict[Slot, Leaf]:
        """Tell what stands in each slot that is not empty."""
        found = {slot: self.in_slot(path, view, slot) for slot in Slot}
        return {slot: leaf for slot, leaf in found.items() if leaf}

    def in_slot(self, path: str, view: View, slot: Slot) -> Leaf | None:
        """Tell what stands in a slot; None where it is empty."""
        if slot is Slot.PENDING:
            return self.pending(path, view)
        version_id = view.current if slot is Slot.CURRENT else self.previous_id(path, view)
        leaf = self.leaf(path, version_id, view)
        return leaf if leaf and leaf.holds_key else None

    def pending(self, path: str, view: View) -> Leaf | None:
        """Tell what stands in pending: a claim, a staged key, or what is still being emptied."""
        leaf = self.leaf(path, view.pending, view)
        if leaf is None or leaf.kind is Kind.VACANT:
            return None
        if leaf.kind is Kind.KEY:
            return leaf if self.is_staged(path, leaf, view) else None
        if leaf.kind is Kind.EMPTY:
            # Still to be fenced off: shown as reserved, so that who was emptying it comes back.
            return leaf if unfinished(leaf, view) else None
        return leaf

    def is_staged(self, path: str, leaf: Leaf, view: View) -> bool:
        """Tell a key that waits for its promotion from one that was promoted."""
        placed = (view.current, self.previous_id(path, view))
        return not any(p and p.version == leaf.version for p in (self.leaf(path, i, view) for i in placed))

    def previous_id(self, path: str, view: View) -> str | None:
        """Name the version in the previous slot."""
        if view.previous is None:
            return None
        current = self.leaf(path, view.current, view)
        if current and current.marks.copied == view.previous:
            # AWS moved AWSPREVIOUS by itself when the copy became current, and nobody has put it back yet.
            return current.marks.previous
        return view.previous

    def leaf(self, path: str, version_id: str | None, view: View) -> Leaf | None:
        """Tell what a version is, by a label of its own where it has one."""
        if version_id is None:
            return None
        labels = view.labels.get(version_id, ())
        by = next((label for label in _LABELS.values() if label in labels), None)
        return self._shelf.leaf(path, version_id, label=by)


def stored(path: str, slot: Slot, opened: Opened | None) -> Stored | None:
    """Give an opened version as the port shows it; None when it holds no key.

    Raises:
        StoreError: `CORRUPT`.
    """
    if opened is None or not opened.leaf.holds_key:
        return None
    return Stored(opened.leaf.info(slot), documents.material_of(path, opened))


def unfinished(leaf: Leaf, view: View) -> bool:
    """Tell whether a staged key lost pending to this version, and its late promotion could succeed."""
    return leaf.marks.base is not None and view.current == leaf.marks.base
