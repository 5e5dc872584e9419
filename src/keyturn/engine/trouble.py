"""What the engine does about an error of a port: come back later, or ask a person.

Deferred: whatever mends itself or is mended outside keyturn (a venue that is down, a full disk, a
clock that is off). Parked: whatever stays as it is until somebody acts on this account, this store or
this credential. Neither loses anything: the rotation stays in its state.
"""

from __future__ import annotations

import zlib

from keyturn.domain.errors import (
    ConsumerError,
    ConsumerFault,
    ExchangeError,
    ExchangeFault,
    KeyturnError,
    RefusedError,
    StoreError,
    StoreFault,
)
from keyturn.domain.rotation import Park
from keyturn.engine.work import Rest, Work

# The first wait: long enough for a dropped connection, short enough that nobody notices.
_FLOOR_SECONDS = 2.0
# The longest wait: a venue's maintenance ends within hours, and a quarter of an hour more is no loss.
_CAP_SECONDS = 900.0

_PARKED_EXCHANGE = {
    ExchangeFault.INVALID_KEY: Park.MANAGER_KEY,
    ExchangeFault.WRONG_IP: Park.MANAGER_KEY,
    ExchangeFault.MISSING_PERMISSION: Park.MANAGER_KEY,
    ExchangeFault.KEY_QUOTA: Park.KEY_QUOTA,
    ExchangeFault.SECOND_FACTOR: Park.SECOND_FACTOR,
    ExchangeFault.NOT_SUPPORTED: Park.NOT_SUPPORTED,
    ExchangeFault.REJECTED: Park.REJECTED,
}
_PARKED_STORE = {
    StoreFault.DENIED: Park.STORE,
    StoreFault.MISCONFIGURED: Park.STORE,
    StoreFault.CORRUPT: Park.STORE,
}


def backoff(rotation_id: str, failures: int) -> float:
    """Give the seconds to wait after so many failures in a row.

    Doubles from 2 s to 15 min; up to a quarter is taken off by the rotation's id, so that a fleet
    that failed together does not come back together.
    """
    full = min(_CAP_SECONDS, _FLOOR_SECONDS * 2 ** min(failures, 20))
    return float(full * (1 - (zlib.crc32(rotation_id.encode()) % 1000) / 4000))


async def handle(work: Work, error: KeyturnError) -> Rest:
    """Journal what is in the way and say when to come back."""
    if (park := _park_for(error)) is not None:
        return await work.park(park, error.what, error.todo or "Mend it, then: keyturn resume")
    wait = backoff(work.rotation.id, work.rotation.failures)
    if isinstance(error, ExchangeError) and error.retry_after:
        wait = max(wait, error.retry_after)
    return await work.defer(wait, f"{error.what} {error.todo}".strip())


def _park_for(error: KeyturnError) -> Park | None:
    if isinstance(error, ExchangeError):
        return _PARKED_EXCHANGE.get(error.fault)
    if isinstance(error, StoreError):
        return _PARKED_STORE.get(error.fault)
    if isinstance(error, ConsumerError) and error.fault is ConsumerFault.MISCONFIGURED:
        return Park.CONSUMER
    return Park.INVENTORY if isinstance(error, RefusedError) else None
