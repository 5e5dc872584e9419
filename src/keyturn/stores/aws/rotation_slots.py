"""The verbs of the store port on staging labels, and the argument why they hold.

**The chain.** Every write to pending (a claim, a staged key, the mark that it was emptied) is a new version
that takes AWSPENDING with it, and its id is derived from the id of the version it follows. Two writers that
follow the same version need the same id, and AWS lets one of them have it. So a put is a compare-and-set on
pending: a claim that was overtaken cannot stage, and of many claims one wins. AWSPENDING is never taken
away without a successor. Where it stands on the version that is current or previous, pending is empty; that
is AWS's own sign of a rotation that has finished.

**The pivot.** A promotion moves AWSCURRENT from the version that was seen as current to the staged one. AWS
compares where AWSCURRENT stands, and knows nothing of AWSPENDING; a promotion that was sent before pending
was emptied, and comes after, would still succeed. So whoever takes pending from a staged key then moves
AWSCURRENT to a copy of what is current. The late promotion names a version that is not current any more,
and is refused. The same goes for the roll-back, which makes a copy of the previous key current: AWSCURRENT
never returns to a version that it has left. Bots read the copy as the same version of the same key.
Who dies between the two steps has left a note (`over`, `base`) by which the next writer sees it and goes on.

**What AWS does not offer.** A version cannot be destroyed. Without a label it is out of reach of those who
read by label, and AWS deletes it when it makes room: the newest hundred are kept, and all of the last day.
A rotation puts two versions, an abort two more, a roll-back one; AWS bears one every ten minutes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import uuid4

from keyturn.domain.errors import ProgrammingError, StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Claim, KeyMeta, Promotion, Slot, SlotInfo, Stored
from keyturn.stores.aws import documents
from keyturn.stores.aws.documents import NO_MARKS, Kind, Leaf, Marks, follow, later
from keyturn.stores.aws.faults import conflict, crowded
from keyturn.stores.aws.labels import SlotReader, stored, unfinished
from keyturn.stores.aws.shelf import CURRENT, INCOMING, PENDING, PREVIOUS, Shelf, View
from keyturn.stores.formats import FIELDS

# A fleet's worth of workers after one credential; more is somebody's loop.
_MOST_STEPS = 64


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What this process knows of a claim of its own: enough to promote what it staged in one call."""

    attempt: Attempt
    #: The version that has AWSPENDING by our own last put.
    pending: str
    #: The version that had AWSCURRENT before, and how the port shows it.
    current: str
    shown: str | None
    staged: bool = False


def _copy_id(current: str, source: str) -> str:
    return hashlib.sha256(f"keyturn copy of {source} over {current}".encode()).hexdigest()


class RotationSlots:
    """Changes the slots of each path; every method blocks."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._reader = SlotReader(shelf)
        self._tickets: dict[str, _Ticket] = {}

    # Claim and stage.

    def claim(self, path: str, attempt: Attempt) -> Claim:
        """Put a claim at the end of the chain."""
        view = self._shelf.view(path) or self._begin(path)
        if view.current is None:
            view = self._begin(path)
        if self._shelf.formats.of(path) is not FIELDS:
            opened = self._shelf.open(path, label=CURRENT)
            self._shelf.formats.check_room(path, documents.beside_the_key(opened) if opened else {})
        head = view.pending or view.current
        for _ in range(_MOST_STEPS):
            self._refuse_placed(path, attempt, view)
            leaf = self._reader.leaf(path, head, view)
            if head is None or leaf is None:
                # It lost its label between the two looks.
                view = self._seen(path)
                head = view.pending or view.current
                continue
            if later(leaf.attempt, attempt):
                raise conflict(
                    f"Attempt {attempt} may not claim {path}: attempt {leaf.attempt} came after it.",
                    "Nothing to do here: a later attempt goes on with this rotation.",
                )
            if unfinished(leaf, view):
                self._fence_off(path, leaf)
                view = self._seen(path)
            if leaf.kind is Kind.CLAIM and leaf.attempt == attempt and view.pending == head:
                return self._claimed(path, attempt, head, view)
            marks = self._marks(path, leaf, view)
            token = follow(head)
            text = documents.mark_text(Kind.CLAIM, attempt, marks)
            if self._shelf.put(path, token, text, PENDING, source=view.pending):
                if marks.base:
                    self._fence_off(path, Leaf(token, Kind.CLAIM, token, attempt, marks=marks))
                    view = self._seen(path)
                    self._refuse_placed(path, attempt, view)
                return self._claimed(path, attempt, token, view)
            head, view = token, self._seen(path)
        raise crowded(path)

    def stage(self, path: str, material: SecretMaterial, meta: KeyMeta, claim: Claim) -> SlotInfo:
        """Put the key after its claim; one call, where the claim was made in this process."""
        if not self._holds(path, claim):
            raise conflict(f"Attempt {claim.attempt} has no claim on {path}.")
        self._shelf.formats.check(path, material)
        beside = self._beside(path)
        token = follow(claim.version)
        text = documents.key_text(path, material, meta, claim.attempt, beside, self._shelf.formats.of(path))
        if not self._shelf.put(path, token, text, PENDING, source=claim.version):
            raise conflict(
                f"The claim of attempt {claim.attempt} on {path} no longer holds.",
                "Read pending: another worker took the slot, or this attempt is staged already.",
            )
        ticket = self._tickets.get(path)
        if ticket and ticket.pending == claim.version:
            self._tickets[path] = _Ticket(ticket.attempt, token, ticket.current, ticket.shown, staged=True)
        return SlotInfo(Slot.PENDING, token, claim.attempt, meta)

    def own_staged(self, path: str) -> Stored | None:
        """Open the key that this process has staged, in one call; None when it stands in pending no more.

        That it has AWSPENDING alone says that it waits: a promotion, which needs no other call than this
        process's own, would have put AWSCURRENT beside it.
        """
        ticket = self._tickets.get(path)
        opened = self._shelf.open(path, label=PENDING) if ticket and ticket.staged else None
        if not ticket or not opened or opened.leaf.id != ticket.pending or opened.labels != (PENDING,):
            return None
        return stored(path, Slot.PENDING, opened)

    def _claimed(self, path: str, attempt: Attempt, token: str, view: View) -> Claim:
        current = self._reader.in_slot(path, view, Slot.CURRENT)
        if view.current:
            self._tickets[path] = _Ticket(attempt, token, view.current, current.version if current else None)
        return Claim(attempt, token)

    def _refuse_placed(self, path: str, attempt: Attempt, view: View) -> None:
        for slot in (Slot.CURRENT, Slot.PREVIOUS):
            leaf = self._reader.in_slot(path, view, slot)
            if leaf and leaf.attempt == attempt:
                raise conflict(
                    f"Attempt {attempt} may not claim {path}: what it staged was promoted already.",
                    "Read the slots again and go on from what they hold.",
                )

    def _marks(self, path: str, leaf: Leaf, view: View) -> Marks:
        """Give what the successor of a version must say: that it dethrones a staged key, if it does."""
        staged = leaf.kind is Kind.KEY and self._reader.is_staged(path, leaf, view)
        return Marks(over=leaf.id, base=view.current) if staged else NO_MARKS

    def _holds(self, path: str, claim: Claim) -> bool:
        """Tell whether a claim is there. Whether it was overtaken shows when its successor is put."""
        try:
            claimed = self._shelf.leaf(path, claim.version)
        except StoreError as error:
            if error.fault is not StoreFault.DENIED:
                raise
            # Who hands a key in may read nothing. A version that a claim names and that has AWSPENDING is it.
            view = self._shelf.view(path)
            return view is not None and view.pending == claim.version
        return claimed is not None and claimed.kind is Kind.CLAIM and claimed.attempt == claim.attempt

    def _beside(self, path: str) -> dict[str, object]:
        """Give the fields beside the key that is current, which the next one keeps."""
        view = self._known_current(path)
        if view is not None and not view.more:
            return {}
        try:
            opened = self._shelf.open(path, label=CURRENT)
        except StoreError as error:
            if error.fault is not StoreFault.DENIED or view or self._shelf.formats.of(path) is not FIELDS:
                raise
            # Handed in by somebody who may read nothing (infra/aws/intake.json).
            return {}
        return documents.beside_the_key(opened) if opened else {}

    def _known_current(self, path: str) -> Leaf | None:
        ticket = self._tickets.get(path)
        return self._shelf.leaf(path, ticket.current) if ticket else None

    # The pivot and the way back.

    def promote(self, path: str, attempt: Attempt, expect_current: str | None) -> Promotion:
        """Move AWSCURRENT to the staged version; one call, where it was staged in this process."""
        ticket = self._tickets.pop(path, None)
        known = ticket and ticket.staged and (ticket.attempt, ticket.shown) == (attempt, expect_current)
        # Read before the claim, and still true if AWS agrees: whoever took pending away since has moved
        # AWSCURRENT off this version.
        if ticket and known and self._shelf.move(path, CURRENT, ticket.current, ticket.pending):
            return Promotion(ticket.pending, expect_current)
        for _ in range(_MOST_STEPS):
            view = self._shelf.view(path)
            slots = self._reader.in_slots(path, view) if view else {}
            current, pending = slots.get(Slot.CURRENT), slots.get(Slot.PENDING)
            if current and current.attempt == attempt:
                return Promotion(current.version, expect_current)
            if view is None or not pending or pending.attempt != attempt or pending.kind is not Kind.KEY:
                raise conflict(
                    f"Attempt {attempt} is not staged at {path}.",
                    "Read the slots again: it was discarded, fenced off, or never staged.",
                )
            self._expect(path, current, expect_current)
            if self._shelf.move(path, CURRENT, view.current, pending.id):
                return Promotion(pending.version, expect_current)
        raise crowded(path)

    def restore_previous(self, path: str, expect_current: str) -> Promotion:
        """Make a copy of previous current."""
        self._tickets.pop(path, None)
        view = self._shelf.view(path)
        slots = self._reader.in_slots(path, view) if view else {}
        self._expect(path, slots.get(Slot.CURRENT), expect_current)
        previous = slots.get(Slot.PREVIOUS)
        if view is None or previous is None:
            raise conflict(f"{path} has no previous version to go back to.", "Rotate forward instead.")
        if not self._make_current(path, view, previous.id):
            raise conflict(f"Current of {path} has moved while it was being rolled back.")
        return Promotion(previous.version, expect_current)

    def put(self, path: str, material: SecretMaterial, meta: KeyMeta, expect_current: str | None) -> SlotInfo:
        """Put a version beside the slots, then move AWSCURRENT to it."""
        self._shelf.formats.check(path, material)
        self._tickets.pop(path, None)
        view = self._shelf.view(path)
        if view is None or view.current is None:
            self._expect(path, None, expect_current)
            view = self._begin(path)
        current = self._reader.in_slot(path, view, Slot.CURRENT)
        self._expect(path, current, expect_current)
        self.empty_if_promoted(path, view)
        beside = self._shelf.open(path, version_id=current.id) if current and current.more else None
        token = uuid4().hex
        others = documents.beside_the_key(beside) if beside else {}
        text = documents.key_text(path, material, meta, meta.attempt, others, self._shelf.formats.of(path))
        self._shelf.put(path, token, text, INCOMING)
        moved = self._shelf.move(path, CURRENT, view.current, token)
        self._shelf.strip(path, INCOMING, token)
        if not moved:
            raise conflict(f"Current of {path} has moved: it is not {expect_current or 'none'} any more.")
        return SlotInfo(Slot.CURRENT, token, meta.attempt, meta)

    @staticmethod
    def _expect(path: str, current: Leaf | None, expect_current: str | None) -> None:
        found = current.version if current else None
        if found != expect_current:
            raise conflict(
                f"Current of {path} has moved: expected {expect_current or 'none'}, found {found or 'none'}.",
                "Read current again and decide anew.",
            )

    # Discard.

    def discard(self, path: str, slot: Slot, version: str) -> None:
        """Take the labels from a version, and fence off what may still be under way."""
        if slot is Slot.CURRENT:
            raise ProgrammingError("current is never discarded")
        if slot is Slot.PREVIOUS and self._discarded_as_seen(path, version):
            return
        view = self._shelf.view(path)
        if view is None:
            return
        if slot is Slot.PENDING:
            self._tickets.pop(path, None)
            self._discard_pending(path, view, version)
        else:
            self._discard_previous(path, view, version)

    def _discard_pending(self, path: str, view: View, version: str) -> None:
        leaf = self._reader.pending(path, view)
        if leaf is None or version not in {leaf.version, leaf.marks.over}:
            return
        if unfinished(leaf, view):
            self._fence_off(path, leaf)
        if leaf.kind is Kind.EMPTY or version != leaf.version:
            return
        self._empty(path, leaf, view)

    def _empty(self, path: str, leaf: Leaf, view: View) -> None:
        """Put the mark of an empty slot after a version."""
        token, marks = follow(leaf.id), self._marks(path, leaf, view)
        text = documents.mark_text(Kind.EMPTY, leaf.attempt, marks)
        if self._shelf.put(path, token, text, PENDING, source=leaf.id):
            if marks.base:
                self._fence_off(path, Leaf(token, Kind.EMPTY, token, leaf.attempt, marks=marks))
            return
        # Somebody else wrote after it: it is out of pending, and may be left to be fenced off.
        successor = self._shelf.leaf(path, token)
        if successor and unfinished(successor, self._seen(path)):
            self._fence_off(path, successor)

    def _discard_previous(self, path: str, view: View, version: str) -> None:
        previous = self._reader.in_slot(path, view, Slot.PREVIOUS)
        if previous is None or previous.version != version:
            return
        self.empty_if_promoted(path, view)
        labelled = view.previous
        if labelled is None:
            return
        for label in view.labels[labelled]:
            if label in {PREVIOUS, INCOMING}:
                self._shelf.strip(path, label, labelled)

    def _discarded_as_seen(self, path: str, version: str) -> bool:
        """Take the label off previous without looking again; False when it has to be looked at.

        AWS refuses when AWSPREVIOUS stands elsewhere. AWSPENDING needs no look either: where it was seen
        on another version, it never comes back to this one.
        """
        view, previous = self._shelf.sight(path), self._reader.sighted_previous(path)
        pending = self._shelf.known(path, view.pending) if view else None
        if not view or not previous or previous.version != version or INCOMING in view.labels[previous.id]:
            return False
        if pending is None or pending.version == previous.version:
            return False
        return self._shelf.move(path, PREVIOUS, previous.id, None)

    def empty_if_promoted(self, path: str, view: View) -> None:
        """Take AWSPENDING from a previous key that is about to lose its place: it must not look staged."""
        pending = self._reader.leaf(path, view.pending, view)
        previous = self._reader.leaf(path, self._reader.previous_id(path, view), view)
        if pending and previous and pending.kind is Kind.KEY and pending.version == previous.version:
            self._empty(path, pending, view)

    # Steps.

    def _fence_off(self, path: str, leaf: Leaf) -> None:
        """Move AWSCURRENT to a copy of itself, unless the dethroned key won the race and is current."""
        for _ in range(_MOST_STEPS):
            view = self._seen(path)
            current = self._reader.leaf(path, view.current, view)
            if current is None or current.version == leaf.marks.over:
                return
            before = self._reader.previous_id(path, view)
            if self._make_current(path, view, current.id, previous=before):
                # AWS has put AWSPREVIOUS on what was copied.
                self._shelf.move(path, PREVIOUS, current.id, before)
                return
        raise crowded(path)

    def _make_current(self, path: str, view: View, source: str, previous: str | None = None) -> bool:
        """Move AWSCURRENT from its holder to a new copy of a version; False when it stands elsewhere."""
        opened = self._shelf.open(path, version_id=source)
        if opened is None or view.current is None:
            return False
        token = _copy_id(view.current, source)
        # Taken: whoever began this copy before us has put the same.
        self._shelf.put(path, token, documents.copy_of(opened, previous), INCOMING)
        moved = self._shelf.move(path, CURRENT, view.current, token)
        self._shelf.strip(path, INCOMING, token)
        return moved

    def _begin(self, path: str) -> View:
        """Make the secret, or its first version; the first one is current at once, and holds no key."""
        token = self._shelf.first_id(path)
        view = self._shelf.view(path)
        if view is None:
            self._shelf.create(path, token)
        elif view.current is None:
            self._shelf.put(path, token, documents.mark_text(Kind.VACANT), PENDING)
            self._shelf.move(path, CURRENT, None, token)
        return self._seen(path)

    def _seen(self, path: str) -> View:
        view = self._shelf.view(path)
        if view is None:
            raise StoreError(
                StoreFault.UNAVAILABLE,
                f"The secret {path} does not show.",
                now="Nothing was written to it.",
                todo="Try again: AWS may lag behind. If it does not pass, see who deletes it.",
            )
        return view
