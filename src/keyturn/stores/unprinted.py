"""Connections of urllib3 that print nothing of what they carry.

`http.client.HTTPConnection.debuglevel = 1`, set anywhere in a process, makes all connections on `http.client`
print requests and answers to stdout: tokens and secrets among them (Python 3.11 to 3.14).
"""

from __future__ import annotations

from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Plain(HTTPConnection):
    debuglevel = 0


class _Tls(HTTPSConnection):
    debuglevel = 0


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


_POOLS: dict[str, Any] = {"http": _PlainPool, "https": _TlsPool}


def unprinted(manager: PoolManager) -> PoolManager:
    """Let a manager without connections yet open such as print nothing; give it back."""
    manager.pool_classes_by_scheme = _POOLS
    return manager
