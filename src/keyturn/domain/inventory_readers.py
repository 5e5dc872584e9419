"""The rules about bots that read with an identity of their own, or as a user of their own."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.domain.inventory import AgeFilesStore, ClientConsumer, WebhookConsumer
from keyturn.domain.inventory_book import Book, refuse, warn
from keyturn.domain.inventory_findings import Finding, listed


def a_recipient_is_one_bots(book: Book) -> Iterator[Finding]:
    """Who holds one identity opens the keys of all that are encrypted for it."""
    taken: dict[str, str] = {}
    for name, consumer in book.inventory.consumers.items():
        if not isinstance(consumer, ClientConsumer | WebhookConsumer) or consumer.recipient is None:
            continue
        path = ("consumers", name, "recipient")
        if consumer.recipient in taken:
            yield warn(
                path,
                f"{taken[consumer.recipient]} has the same: each of the two opens the other's key",
                f"give each bot its own: keyturn client-bundle {name} --new-identity",
            )
        taken.setdefault(consumer.recipient, name)
        if not any(
            _is_in_files(book, each) for _, each, entry in book.credentials() if name in entry.consumers
        ):
            yield warn(path, "none of its keys is in a store of kind age_files", "leave it out")


def _is_in_files(book: Book, credential: str) -> bool:
    entry = book.inventory.credentials[credential]
    names = [book.store(entry), *(mirror.store for mirror in entry.mirrors)]
    # A store that has errors of its own may be one.
    return any(isinstance(book.inventory.stores.get(n or ""), AgeFilesStore | None) for n in names)


def one_group_sees_a_key(book: Book) -> Iterator[Finding]:
    """The files of a key have one group, as every file has."""
    for path, _, entry in book.credentials():
        consumers = [book.inventory.consumers.get(name) for name in entry.consumers]
        groups = sorted({c.group for c in consumers if isinstance(c, ClientConsumer) and c.group})
        if len(groups) > 1:
            yield refuse(
                (*path, "consumers"),
                f"their groups differ ({listed(groups)}), and the files of a key have one",
                "write one group for all of them, or a credential for each",
            )
