"""Builds the consumer that an inventory entry describes."""

from __future__ import annotations

from pathlib import Path

from keyturn.domain.inventory import ClientConsumer, FileConsumer, WebhookConsumer
from keyturn.ports.consumer import Consumer, ReadKey


def build(
    name: str,
    entry: ClientConsumer | WebhookConsumer | FileConsumer,
    *,
    credential: str,
    base: Path,
    read_current: ReadKey,
    read_pending: ReadKey,
) -> Consumer:
    """Build one consumer; nothing is contacted yet.

    Args:
        name: of the consumer in the inventory.
        entry: what the inventory says of it.
        credential: the credential that it uses.
        base: the folder of the inventory, which relative paths start from.
        read_current: opens the key that is current: some consumers are handed it, and with it is checked who
            speaks in their name.
        read_pending: opens the key that is pending, for reports of those that try it.
    """
    if isinstance(entry, ClientConsumer):
        from keyturn.consumers.client import MailboxConsumer

        return MailboxConsumer(
            name,
            credential,
            base / entry.mailbox,
            entry.group,
            read_current=read_current,
            read_pending=read_pending,
        )
    if isinstance(entry, WebhookConsumer):
        from keyturn.consumers.webhook import HttpConsumer
        from keyturn.stores.keys import resolve_secret

        return HttpConsumer(
            name,
            entry.url,
            lambda: resolve_secret(entry.hmac_key, base),
            timeout=entry.timeout.total_seconds(),
            read_current=read_current,
        )
    from keyturn.consumers.file import RenderedFile

    return RenderedFile(name, entry, base=base, read_current=read_current)
