"""Builds the consumer that an inventory entry describes."""

from __future__ import annotations

from pathlib import Path

from keyturn.domain.inventory import ClientConsumer, FileConsumer, WebhookConsumer
from keyturn.ports.consumer import Consumer, ReadCurrent


def build(
    name: str,
    entry: ClientConsumer | WebhookConsumer | FileConsumer,
    *,
    credential: str,
    base: Path,
    read_current: ReadCurrent,
) -> Consumer:
    """Build one consumer; nothing is contacted yet.

    Args:
        name: of the consumer in the inventory.
        entry: what the inventory says of it.
        credential: the credential that it uses.
        base: the folder of the inventory, which relative paths start from.
        read_current: for consumers that are handed the key itself.
    """
    if isinstance(entry, ClientConsumer):
        from keyturn.consumers.client import MailboxConsumer

        return MailboxConsumer(name, credential, base / entry.mailbox, entry.group)
    if isinstance(entry, WebhookConsumer):
        from keyturn.consumers.webhook import HttpConsumer
        from keyturn.stores.keys import resolve_secret

        return HttpConsumer(
            name,
            entry.url,
            lambda: resolve_secret(entry.hmac_key, base),
            timeout=entry.timeout.total_seconds(),
        )
    from keyturn.consumers.file import RenderedFile

    return RenderedFile(name, entry, base=base, read_current=read_current)
