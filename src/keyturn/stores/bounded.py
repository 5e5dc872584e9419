"""Read the answer of a store's server within bounds, for the clients that stand on urllib3."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from keyturn.bodies import STORE_LIMIT, Body, BodyError

_PIECE = 1 << 16


class _Response(Protocol):
    """What of urllib3's response is used."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes: ...

    def close(self) -> None: ...


def read_within(response: _Response, seconds: float) -> bytes:
    """Read the whole body, unpacked. The connection is closed when that is not to be had.

    Args:
        response: with its headers come, and nothing of the body read.
        seconds: for the whole of it; urllib3's own time-out begins anew with each byte.

    Raises:
        BodyError: the body is too long, too slow, or cannot be unpacked.
        urllib3.exceptions.HTTPError: the connection broke.
    """
    ends = time.monotonic() + seconds
    whole = False
    try:
        body = Body(STORE_LIMIT, response.headers.get("Content-Encoding") or "")
        while piece := response.read1(_PIECE, decode_content=False):
            body.feed(piece)
            _in_time(ends)
        content = body.whole()
        whole = True
    finally:
        if not whole:
            response.close()
    return content


def _in_time(ends: float) -> None:
    if time.monotonic() > ends:
        raise BodyError("the answer does not come to an end")
