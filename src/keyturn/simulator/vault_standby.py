"""A standby that answers reads itself, from what it has heard of its leader so far, as OpenBao's do.

What it would write it sends on; but what it refuses by what it knows, it refuses itself, check-and-set
included (OpenBao 2.6.2, two nodes on raft, 2026-11-21).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from keyturn.simulator.vault import Seen, VaultSimulator
from keyturn.simulator.vault_kv import Reply

_READS = frozenset({"GET", "LIST"})


class VaultStandby(VaultSimulator):
    """The standby of a simulator. It hears of what was written there when it is told to.

    Args:
        leader: whom it follows.
    """

    def __init__(self, leader: VaultSimulator) -> None:
        super().__init__(leader.root)
        self._leader = leader
        # Of tokens it is told at once: one that it does not know it asks the leader about.
        self.rights, self.roles, self.doors = leader.rights, leader.roles, leader.doors
        self.catch_up()

    def catch_up(self) -> None:
        """Hear of all that the leader has written."""
        with self._leader.lock:
            self.mounts = copy.deepcopy(self._leader.mounts)

    def handle(self, seen: Seen, query: Mapping[str, str]) -> Reply:
        """Answer from what was heard, or send it on."""
        mount, rest = self._mount(seen.path)
        if mount is not None:
            heard = self.mounts
            self.mounts = heard if seen.method in _READS else copy.deepcopy(heard)
            own = super().handle(seen, query)
            self.mounts = heard
            kind, _, path = rest.partition("/")
            if (
                seen.method in _READS
                or own.status >= 400
                or (kind == "destroy" and not mount.exists("data", path))
            ):
                return own
        with self._leader.lock:
            return self._leader.handle(seen, query)
