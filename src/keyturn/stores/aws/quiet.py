"""Keeps botocore from logging, and its connections from printing, what our calls carry.

At DEBUG botocore logs whole request bodies, response bodies and signed headers (`botocore.endpoint`,
`botocore.parsers`, `botocore.auth`; seen with 1.44.5, 2026-11-21). Whoever turns DEBUG on for the whole
process, or for botocore alone, must not find a secret in the log. Other users of botocore in the same
process keep their logging: only what is logged inside one of our calls is dropped. The same goes for what
`http.client.HTTPConnection.debuglevel = 1` makes connections print (`stores/unprinted.py`): botocore's are
made in many places, those that fetch credentials among them; the thread tells them whose call it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LIBRARIES = ("boto3", "botocore", "urllib3")
# Those that log values, also where they are first imported during a call.
_KNOWN = ("botocore.auth", "botocore.endpoint", "botocore.httpsession", "botocore.parsers", "botocore.utils")
_calls = threading.local()


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_calls, "ours", False):
            # A helper's output stands in the exception: botocore logs it when it renews credentials.
            record.exc_info = record.exc_text = None
        return record.levelno >= logging.WARNING or not getattr(_calls, "ours", False)


class _Level:
    """`debuglevel` of botocore's connections: 0 inside of our calls, else as it would be without this."""

    def __get__(self, connection: Any, _: object = None) -> int:
        from urllib3.connection import HTTPConnection

        if getattr(_calls, "ours", False):
            return 0
        return int(vars(connection).get("debuglevel", HTTPConnection.debuglevel) if connection else 0)

    def __set__(self, connection: Any, level: int) -> None:
        vars(connection)["debuglevel"] = level


_SILENCE = _Silence()


def install() -> None:
    """Put the filter on every logger of the libraries, and the level on its connections.

    Harmless when they are there already.
    """
    from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection

    for connection in (AWSHTTPConnection, AWSHTTPSConnection):
        if not isinstance(vars(connection).get("debuglevel"), _Level):
            connection.debuglevel = _Level()
    loaded = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LIBRARIES]
    for name in (*_KNOWN, *loaded):
        logging.getLogger(name).addFilter(_SILENCE)


@contextmanager
def silently() -> Iterator[None]:
    """Mark this thread as being inside one of our calls."""
    before = getattr(_calls, "ours", False)
    _calls.ours = True
    try:
        yield
    finally:
        _calls.ours = before
