"""One credential on the mount: its two documents, and the fence between them.

Two paths cannot be written in one step, so the order of steps carries the safety. A promotion reads
current, then pending, then writes current over the version it had read. Whoever takes a staged key away
(a discard, or the claim of a later attempt) first changes pending, so that it is no longer there to read,
and then moves current on by one version (the fence). Take any promotion of that key. Either it read
pending after the change: then it found nothing. Or before: then it had read current earlier still, and its
write either came before the fence, so that the promotion had happened when the discard ended, or comes
after, names a version that is no longer the newest, and is refused. There is no third case.
"""

from __future__ import annotations

from dataclasses import replace

from keyturn.domain.labels import Attempt
from keyturn.stores.formats import SINGLE, Formats, UncarriedError, no_room
from keyturn.stores.vault.documents import (
    Current,
    Pending,
    Pointer,
    Snapshot,
    read_current,
    read_pending,
)
from keyturn.stores.vault.kv import Kv, MovedError
from keyturn.stores.vault.paths import Places

# A step that another writer overtakes is done again on what that one left. Each of 32 writers at once
# loses to the others at most, and a path has one or two.
TRIES = 40
# Secrets of pending versions are destroyed when they are over. A worker that died before it did that
# is made up for by the next, this far back: more than a mount keeps by default (10).
_SWEEP_BACK = 16


class Shelf:
    """Reads and writes the documents of one mount.

    Args:
        kv: the mount.
        places: which paths belong to a credential.
        formats: how its documents look.
    """

    def __init__(self, kv: Kv, places: Places, formats: Formats = SINGLE) -> None:
        self.kv = kv
        self.places = places
        self.formats = formats
        #: What the claims of this process saw of current. The fence does not ask when current was read, only
        #: that it was before pending; so a promotion may go by it. Holds no secret.
        self.seen: dict[str, tuple[Attempt, Current]] = {}
        #: What this process saw of current when it last opened previous. Holds no secret.
        self.sights: dict[str, Current] = {}
        #: The attempts whose pending versions this process has destroyed after their promotion.
        self.cleared: dict[str, Attempt] = {}

    def current(self, path: str) -> Current:
        """Read the consumer's path."""
        found = read_current(path, self.kv.read(self.places.current(path)), self.formats.of(path))
        if (sight := self.sights.get(path)) and sight.kv != found.kv:
            self.sights.pop(path, None)
        return found

    def pending(self, path: str) -> Pending:
        """Read the pending path."""
        where = self.places.pending(path)
        return read_pending(where, self.kv.read(where))

    def waits(self, path: str, pending: Pending) -> bool:
        """Tell whether a staged key is still to be promoted.

        Who promotes it destroys it in pending; for one that died in between current is asked. Not for a key
        that this process has claimed pending for: if another has promoted it like that, current's
        check-and-set and the journal's refuse whatever comes of it here.
        """
        claimed_by, _ = self.seen.get(path, (None, None))
        return claimed_by == pending.attempt or not self.current(path).spent(pending.attempt)

    def previous(self, path: str, pointer: Pointer | None) -> Current | None:
        """Read the version that a pointer names; None when it was destroyed or pruned."""
        if pointer is None:
            return None
        seen = self.kv.read(self.places.current(path), pointer.kv)
        if seen.data is None or seen.kv != pointer.kv:
            return None
        found = read_current(path, seen, self.formats.of(path))
        return found if found.version else None

    def sighted(self, path: str) -> Current:
        """Read the consumer's path, and keep in mind where previous stands."""
        found = self.current(path)
        self.sights[path] = replace(found, values={}, others={})
        return found

    def write_current(self, path: str, document: Current, over: Current) -> int:
        """Write the consumer's path over what was read; raises `MovedError`.

        Raises:
            StoreError: as of `Kv.write`; `MISCONFIGURED` when what else stands there leaves no room.
        """
        problem = ""
        try:
            content = document.document()
        except UncarriedError as error:
            problem = str(error)
        if problem:
            raise no_room(path, problem)
        return self.kv.write(self.places.current(path), content, over.kv)

    def write_pending(self, path: str, document: Pending, cas: int) -> int:
        """Write the pending path over version `cas`; raises `MovedError`."""
        return self.kv.write(self.places.pending(path), document.document(), cas)

    def sweep_pending(self, path: str, upto: int) -> None:
        """Destroy the pending versions up to a number: secrets that are over."""
        where = self.places.pending(path)
        self.kv.destroy(where, range(max(1, upto - _SWEEP_BACK + 1), upto + 1))

    def fence(self, path: str, attempt: Attempt | None) -> None:
        """Move current on, so that no promotion that is under way can still write it.

        Consumers see the same content under another number. Nothing is written when the attempt was
        promoted: then there is nothing left to keep out.
        """
        where = self.places.current(path)
        seen: Snapshot = self.kv.read(where)
        if read_current(path, seen).spent(attempt):
            return
        document = Current().document() if seen.data is None else seen.data
        try:
            written = self.kv.write(where, document, seen.kv)
        except MovedError:
            # Somebody else moved it since we looked, which fences as well.
            return
        if seen.data is None:
            # Where there was nothing to read there is nothing again; the number stays used up.
            self.kv.destroy(where, [written])
