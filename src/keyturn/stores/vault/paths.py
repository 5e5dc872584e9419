"""Paths, checked before any client library sees them.

`requests` brings `a/../b` and `%2e%2e` into their normal form before it sends them, so that a path could
leave its folder, or the mount. (Seen with hvac 2.4.0, 2026-11-21.)
"""

from __future__ import annotations

import re

from keyturn.domain.errors import StoreError
from keyturn.stores.vault.faults import misconfigured

# As the inventory's, but here for every caller: plain characters only, no `.` or `..` as a segment.
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*\Z")
_LONGEST = 400


class Places:
    """Where a credential stands on a mount: the consumer's path, and the pending one.

    Args:
        mount: of the KV engine.
        pending_prefix: the folder of pending versions, on the same mount.
    """

    def __init__(self, mount: str, pending_prefix: str) -> None:
        self.mount = checked(mount)
        self.pending_prefix = checked(pending_prefix)

    def current(self, path: str) -> str:
        """Give the path that consumers read.

        Raises:
            StoreError: `MISCONFIGURED` for a path that could be normalised, or of the pending folder.
        """
        path = checked(path)
        if f"{path}/".startswith(f"{self.pending_prefix}/"):
            raise misconfigured(
                f"{path} lies in {self.pending_prefix}, the folder of pending versions.",
                "Give the credential another path, or the store another `pending_prefix`.",
            )
        return path

    def pending(self, path: str) -> str:
        """Give the path of the pending version; raises what `current` raises."""
        return f"{self.pending_prefix}/{self.current(path)}"


def checked(path: str) -> str:
    """Give the path back if it is plain.

    Raises:
        StoreError: `MISCONFIGURED`.
    """
    if len(path) <= _LONGEST and _PATH.match(path):
        return path
    raise _refusal(path)


def _refusal(path: str) -> StoreError:
    return misconfigured(
        f"{path[:_LONGEST]!r} is not a path for this store.",
        "Use letters, digits, `.`, `_`, `-` and `/`; each part begins with a letter or a digit.",
    )
