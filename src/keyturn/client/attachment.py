"""What a bot calls: attach an exchange object, or read the current key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from keyturn.client.copies import Recipe
from keyturn.client.credential import Credential
from keyturn.client.holder import Holder
from keyturn.client.link import Link
from keyturn.client.mailbox import Mailbox
from keyturn.client.source import Source
from keyturn.client.watcher import Watcher
from keyturn.domain.errors import InventoryError, RefusedError
from keyturn.domain.material import SecretMaterial

#: Seconds between two looks: one listing of the mailbox, and one `stat` where the store is on this machine.
INTERVAL = 0.25
#: Seconds that a bot has for a signed call of its own before keyturn makes one to confirm.
VERIFY_AFTER = 5.0
# What an acknowledgement has room for.
_CALL_LENGTH = 200


class Attachment:
    """An exchange object that is kept on the current credential, until it is detached."""

    def __init__(self, link: Link, holder: Holder, watcher: Watcher) -> None:
        self._link = link
        self._holder = holder
        self._watcher = watcher

    @property
    def attached(self) -> bool:
        """Whether calls on the object are signed with the credential's key.

        False once it is detached, and from the moment when the bot sets another key on it: then the
        object is signed with that one, keyturn confirms no key for this bot, and the log says so.
        """
        return self._link.active

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that the next call is signed with; empty if the bot set another."""
        return self._holder.current.fingerprint if self._link.active or not self.watching else ""

    @property
    def watching(self) -> bool:
        """Whether the store is being watched."""
        return self._watcher.alive

    def credential(self) -> Credential:
        """Give key, secret and passphrase of one moment, for code that signs by itself.

        It is what the store had as current at the last look, as for the object's own calls. Call it for
        each signature. `confirm` tells keyturn that such a call worked; a refusal of it is not reported.

        Raises:
            RefusedError: it is detached, so nobody looks whether the key has changed.
        """
        self._watcher.resume()
        if not self._watcher.alive:
            raise RefusedError(
                f"The exchange object is detached from {self._holder.credential}.",
                now="Its key is watched no longer, so it may be an old one.",
                todo="Attach it again, or call keyturn.client.current(), which reads the store.",
            )
        return Credential(self._holder.current)

    def confirm(self, credential: Credential, call: str) -> None:
        """Take note that a call which the bot signed itself came back well.

        keyturn takes the bot's word: it revokes the key before once everything that must confirm has. Give
        `verify_with=None` to `attach`, so that no call of keyturn's own confirms in the place of this code.

        Args:
            credential: what signed it. An older one than the current confirms nothing.
            call: method and path, without parameters: it stands in the journal.
        """
        self._holder.note_success(credential.loaded, call[:_CALL_LENGTH])

    def on_swap(self, callback: Callable[[str], None]) -> None:
        """Have `callback(fingerprint)` called after each swap, in the thread that made it. Keep it short."""
        self._link.callbacks.append(callback)

    def detach(self) -> None:
        """Stop watching, and leave the exchange and its copies on the key that they have.

        Doing it twice is harmless.
        """
        self._watcher.stop()
        for link in {self._link, *self._watcher.objects}:
            link.unhook()

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
    bundle: str | Path | None = None,
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

    Objects of one process may share a credential and a consumer: a key is acknowledged when all of them are
    on it, their private streams, too. Each process needs a consumer of its own in the inventory. Attach after
    a fork; what was attached before follows its key in the new process, too, and confirms none.

    Copies follow the key, too, and so does what is made of a pickle, which holds none (`docs/bots.md`). An
    object on which the bot sets another key is attached no longer; the log and `Attachment.attached` say so.

    Args:
        exchange: the ccxt object. An async one must be used in one event loop.
        credential: its name in the inventory.
        inventory: `keyturn.yaml`; or give `bundle` or `source`.
        bundle: the folder that `keyturn client-bundle` made for this bot, in place of the inventory.
        consumer: this bot's name in the inventory, for this process alone; not needed if the credential
            has one client consumer.
        source: where to read the credential, in place of an inventory.
        mailbox: with `source`: the folder of the mailboxes; without one nothing is acknowledged.
        interval: seconds between two looks at the store. By default four looks a second at a mailbox and
            an `age_files` store, two at a server; a notice has the key read at once.
        verify_with: the exchange's method that makes a harmless signed call, to confirm a key when the bot
            makes no signed call itself, and to try a pending key. None: the bot's own calls alone confirm.
        verify_after: seconds that the bot has for a call of its own.

    Raises:
        InventoryError: the inventory cannot be read, or does not know the credential or the consumer.
        RefusedError: there is no current key, the object is of another venue, or it cannot be attached.
        StoreError: the store cannot be read. Later failures of the store keep the present key.
    """
    place = _place(inventory, bundle)
    found, name, box = _found(credential, place, consumer, source, mailbox, interval)
    recipe = Recipe(credential, place, source, interval)
    holder = _holder(found, recipe)
    link = Link(exchange, holder, _running_loop(), recipe)
    _same_venue(exchange, _venue(holder, recipe), credential)
    pace = interval or INTERVAL
    watcher = Watcher(
        link, holder, box, name, interval=pace, verify_with=verify_with, verify_after=verify_after
    )
    link.hook()
    watcher.start()
    return Attachment(link, holder, watcher)


def follow(exchange: Any, recipe: Recipe) -> None:
    """Attach an object that came out of a pickle; it follows its key and confirms none.

    Raises:
        InventoryError, RefusedError, StoreError: as for `attach`.
    """
    found = recipe.source or _located(recipe.credential, recipe.place, recipe.interval)
    holder = _holder(found, recipe)
    link = Link(exchange, holder, _running_loop(), recipe)
    # `attach` may take it over, as it may a copy.
    link.is_copy = True
    interval = recipe.interval or INTERVAL
    watcher = Watcher(link, holder, None, "", interval=interval, verify_with=None, verify_after=VERIFY_AFTER)
    link.hook()
    watcher.start()


def _holder(found: Source, recipe: Recipe) -> Holder:
    if recipe.source is not None:
        return Holder(found, recipe.credential)
    return Holder(
        found, recipe.credential, lambda: _located(recipe.credential, recipe.place, recipe.interval)
    )


def _venue(holder: Holder, recipe: Recipe) -> str:
    """Give the venue of a credential; empty for a key that was put without keyturn, of a given source."""
    if holder.current.exchange or recipe.source is not None:
        return holder.current.exchange
    from keyturn.client.bundle import read_settings

    return read_settings(recipe.place).exchange(recipe.credential)


def _same_venue(exchange: Any, venue: str, credential: str) -> None:
    """See that the object is of the credential's venue, or of a site or a subclass of it.

    Raises:
        RefusedError: it is of another one, which would be sent the key.
    """
    from keyturn.exchanges.catalog import manifests

    names = {getattr(exchange, "id", ""), *(kind.__name__ for kind in type(exchange).__mro__)}
    if venue not in manifests() or (wanted := manifests()[venue].ccxt_id) in names:
        return
    raise RefusedError(
        f"The exchange object is of {exchange.id}, and {credential} is a key of {wanted}.",
        now="Nothing was attached; the key was not given to the object.",
        todo=f"Attach a ccxt.{wanted}() object, or name the credential of {exchange.id}.",
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def current(
    credential: str,
    *,
    inventory: str | Path | None = None,
    bundle: str | Path | None = None,
    source: Source | None = None,
) -> SecretMaterial:
    """Read the current key of a credential, for a bot that does not use ccxt.

    Call `reveal()` where the values are needed, and read again after a refusal.

    Raises:
        InventoryError: the inventory cannot be read or does not know the credential.
        RefusedError: the store holds no current key.
        StoreError: the store cannot be read.
    """
    found = source or _located(credential, _place(inventory, bundle), None)
    return Holder(found, credential).current.material


def _place(inventory: str | Path | None, bundle: str | Path | None) -> Path | None:
    """Give where the bot's settings are: a file is an inventory, and a folder a bundle.

    Raises:
        InventoryError: the folder of a bundle is not there.
    """
    if bundle is None:
        return Path(inventory).absolute() if inventory is not None else None
    folder = Path(bundle).absolute()
    if not os.path.isdir(folder):  # noqa: PTH112 - False, and no error, where this user cannot pass
        raise InventoryError(
            f"The bundle {folder} is not a folder that this user can come to.",
            now="The bot has no key.",
            todo="Pass the folder that `keyturn client-bundle` made.",
        )
    return folder


def _found(
    credential: str,
    place: Path | None,
    consumer: str | None,
    source: Source | None,
    mailbox: str | Path | None,
    interval: float | None,
) -> tuple[Source, str, Mailbox | None]:
    if source is not None:
        name = consumer or credential
        return source, name, Mailbox(Path(mailbox) / name) if mailbox is not None else None
    from keyturn.client.bundle import read_settings

    return _located(credential, place, interval), *read_settings(place).mailbox(credential, consumer)


def _located(credential: str, place: Path | None, interval: float | None) -> Source:
    from keyturn.client.bundle import read_settings
    from keyturn.client.settings import REMOTE_INTERVAL

    return read_settings(place).source(credential, interval or REMOTE_INTERVAL)
