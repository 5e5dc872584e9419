"""Ports for servers that are started by number."""

from __future__ import annotations

import random
import socket

# Below what systems give to connections (Linux from 32768, macOS from 49152): in the seconds until the
# server is up, no connection of another test gets it.
_LOWEST, _HIGHEST = 15_000, 32_000


def free_port() -> int:
    """Give a port of the loopback that nobody listens on, and that no connection is given meanwhile."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
