"""The end of a credential at its path: no key is left there to find, and all older versions are destroyed."""

from __future__ import annotations

from keyturn.stores.vault.documents import Current, Pending, State
from keyturn.stores.vault.faults import busy, moved
from keyturn.stores.vault.kv import MovedError
from keyturn.stores.vault.shelf import TRIES, Shelf


def vacate(shelf: Shelf, path: str, expect: str) -> None:
    """Empty all slots; see the port.

    Current goes first: no promotion that is under way can come after that write, since it names the
    version before it.
    """
    for _ in range(TRIES):
        current = shelf.current(path)
        if current.version and current.version != expect:
            raise moved(path, expect, current.version)
        try:
            newest = current.kv
            if current.version:
                empty = Current(others=current.others, promoted=current.promoted)
                newest = shelf.write_current(path, empty, current)
            pending = shelf.pending(path)
            if pending.state is not State.EMPTY:
                newest_pending = shelf.write_pending(path, Pending(fence=pending.fence), pending.kv)
                shelf.sweep_pending(path, newest_pending - 1)
        except MovedError:
            continue
        where = shelf.places.current(path)
        versions = (shelf.kv.metadata(where) or {}).get("versions") or {}
        older = [int(n) for n, row in versions.items() if int(n) < newest and not row.get("destroyed")]
        shelf.kv.destroy(where, older)
        return
    raise busy(path)
