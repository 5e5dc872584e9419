"""Keeps botocore from logging what our calls carry.

At DEBUG botocore logs whole request bodies, response bodies and signed headers (`botocore.endpoint`,
`botocore.parsers`, `botocore.auth`; seen with 1.44.5, 2026-11-21). Whoever turns DEBUG on for the whole
process, or for botocore alone, must not find a secret in the log. Other users of botocore in the same
process keep their logging: only what is logged inside one of our calls is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


_SILENCE = _Silence()


def install() -> None:
    """Put the filter on every logger of the libraries; harmless when it is there already."""
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
