"""The two functions that a bot calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from keyturn.client.holder import Holder
from keyturn.client.link import Link
from keyturn.client.mailbox import Mailbox
from keyturn.client.source import Source
from keyturn.client.watcher import Watcher
from keyturn.domain.material import SecretMaterial

#: Seconds between two looks: one listing of the mailbox, and one `stat` where the store is on this machine.
INTERVAL = 0.25
#: Seconds that a bot has for a signed call of its own before keyturn makes one to confirm.
VERIFY_AFTER = 5.0


class Attachment:
    """An exchange object that is kept on the current credential, until it is detached."""

    def __init__(self, link: Link, holder: Holder, watcher: Watcher) -> None:
        self._link = link
        self._holder = holder
        self._watcher = watcher

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that the next call is signed with."""
        return self._holder.current.fingerprint

    @property
    def watching(self) -> bool:
        """Whether the store is being watched."""
        return self._watcher.alive

    def on_swap(self, callback: Callable[[str], None]) -> None:
        """Have `callback(fingerprint)` called after each swap, in the thread that made it. Keep it short."""
        self._link.callbacks.append(callback)

    def detach(self) -> None:
        """Stop watching and leave the exchange on the key that it has. Doing it twice is harmless."""
        self._watcher.stop()
        self._link.unhook()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(
    exchange: Any,
    credential: str,
    *,
    inventory: str | Path | None = None,
    consumer: str | None = None,
    source: Source | None = None,
    mailbox: str | Path | None = None,
    interval: float | None = None,
    verify_with: str | None = "fetch_balance",
    verify_after: float = VERIFY_AFTER,
) -> Attachment:
    """Keep a ccxt exchange object, sync, async or pro, on the current key of a credential.

    The key is swapped between calls, within a second of its promotion; a call in flight keeps the key
    that it was signed with. A call that the venue refused for its key is made once more if another key
    is current by then, which is safe for orders: a refused caller had no effect. After the first signed
    call that works with a new key, the notice about it is acknowledged.

    Objects of one process may share a credential and a consumer, such as one for orders and one for
    streams: a key is acknowledged when all of them are on it, their private streams, too. Each process
    needs a consumer of its own in the inventory: of another process nothing is known here. Attach after a
    fork; what was attached before follows its key in the new process, too, and confirms none.

    Args:
        exchange: the ccxt object. An async one must be used in one event loop.
        credential: its name in the inventory.
        inventory: `keyturn.yaml`; or give `source`.
        consumer: this bot's name in the inventory, for this process alone; not needed if the credential
            has one client consumer.
        source: where to read the credential, in place of an inventory.
        mailbox: with `source`: the folder of the mailboxes; without one nothing is acknowledged.
        interval: seconds between two looks at the store. By default four looks a second at a mailbox and
            an `age_files` store, and two at a server; a notice has the key read at once in any case.
        verify_with: the exchange's method that makes a harmless signed call. It is called to confirm a
            key when the bot makes no signed call itself, and to try a pending key. None: the bot's
            own calls alone confirm.
        verify_after: seconds that the bot has for a call of its own.

    Raises:
        InventoryError: the inventory cannot be read, or does not know the credential or the consumer.
        RefusedError: there is no current key, or the object cannot be attached.
        StoreError: the store cannot be read. Later failures of the store keep the present key.
    """
    found, name, box = _found(credential, inventory, consumer, source, mailbox, interval)
    holder = Holder(found, credential, None if source else lambda: _located(credential, inventory, interval))
    link = Link(exchange, holder, _running_loop())
    watcher = Watcher(
        link,
        holder,
        box,
        name,
        interval=interval or INTERVAL,
        verify_with=verify_with,
        verify_after=verify_after,
    )
    link.hook()
    watcher.start()
    return Attachment(link, holder, watcher)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def current(
    credential: str, *, inventory: str | Path | None = None, source: Source | None = None
) -> SecretMaterial:
    """Read the current key of a credential, for a bot that does not use ccxt.

    Call `reveal()` where the values are needed, and read again after a refusal.

    Raises:
        InventoryError: the inventory cannot be read or does not know the credential.
        RefusedError: the store holds no current key.
        StoreError: the store cannot be read.
    """
    if source is None:
        from keyturn.client.settings import read_inventory, source_of

        entries, base = read_inventory(inventory)
        source = source_of(entries, base, credential)
    return Holder(source, credential).current.material


def _found(
    credential: str,
    inventory: str | Path | None,
    consumer: str | None,
    source: Source | None,
    mailbox: str | Path | None,
    interval: float | None,
) -> tuple[Source, str, Mailbox | None]:
    if source is not None:
        name = consumer or credential
        return source, name, Mailbox(Path(mailbox) / name) if mailbox is not None else None
    from keyturn.client.settings import mailbox_of, read_inventory

    entries, base = read_inventory(inventory)
    return _located(credential, inventory, interval), *mailbox_of(entries, base, credential, consumer)


def _located(credential: str, inventory: str | Path | None, interval: float | None) -> Source:
    from keyturn.client.settings import REMOTE_INTERVAL, read_inventory, source_of

    entries, base = read_inventory(inventory)
    return source_of(entries, base, credential, pace=interval or REMOTE_INTERVAL)
