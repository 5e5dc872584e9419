"""Opens the key that a consumer is told of, for as long as one call needs it."""

from __future__ import annotations

from keyturn.domain.errors import ConsumerError, ConsumerFault, StoreError
from keyturn.domain.evidence import Notice
from keyturn.domain.slots import Stored
from keyturn.ports.consumer import ReadKey


async def opened(read: ReadKey, consumer: str, *, now: str) -> Stored | None:
    """Open a slot for a consumer; None when it is empty.

    Raises:
        ConsumerError: `UNREACHABLE`: the store cannot be read; `now` says what is true then.
    """
    try:
        return await read()
    except StoreError as error:
        raise ConsumerError(
            ConsumerFault.UNREACHABLE,
            f"The key for {consumer} could not be read: {error.what}",
            now=now,
            todo=error.todo,
        ) from None


async def key_of(notice: Notice, read: ReadKey, *, now: str, otherwise: ConsumerFault) -> Stored:
    """Open the key that a notice is about.

    Args:
        notice: what the consumer is told.
        read: opens the credential's current slot.
        now: what is true when the key cannot be had.
        otherwise: the fault when another key is current.

    Raises:
        ConsumerError: `UNREACHABLE`: the store cannot be read; `otherwise`: it holds another key.
    """
    stored = await opened(read, notice.consumer, now=now)
    meta = stored.info.meta if stored else None
    if stored is None or meta is None or meta.fingerprint != notice.fingerprint:
        raise ConsumerError(
            otherwise,
            f"The store's current key is not the one that {notice.consumer} was to be given.",
            now=now,
            todo=f"See where the rotation stands: keyturn status {notice.credential}",
        )
    return stored
