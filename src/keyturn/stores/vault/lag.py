"""How far each path has come, as far as this process knows: an answer from before that is a late one.

OpenBao's standbys answer reads themselves, and judge check-and-set before they send a write on; they may be
a moment behind the leader (2.6.2, two nodes: up to 0.12 s under load, measured 2026-11-21).
https://openbao.org/docs/configuration/#disable_standby_reads (read 2026-11-21)
"""

from __future__ import annotations

import threading

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.stores.vault.faults import NOTHING

#: How long an answer that is late is waited for, in steps; in seconds.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)


class Newest:
    """The newest version that was written or seen at each path. Safe for many threads."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def of(self, path: str) -> int:
        """Give the newest version that is known; 0 where none is."""
        return self._numbers.get(path, 0)

    def outdates(self, path: str, version: int) -> bool:
        """Tell whether a version that was shown as the newest is not; else keep it in mind."""
        with self._lock:
            known = self._numbers.get(path, 0)
            if version > known:
                self._numbers[path] = version
            return version < known

    def forget(self, path: str) -> None:
        """Know nothing of a path any more."""
        with self._lock:
            self._numbers.pop(path, None)


def late(store: str, path: str) -> StoreError:
    """Say that the server goes on showing an older state than was seen before."""
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"The server of the store {store} shows an older {path} than was seen there before.",
        now=NOTHING,
        todo="Nothing: it is tried again, and then taken as it is. It is a standby that cannot follow its"
        " leader, or the path was deleted, or the server restored from a backup.",
    )
