"""The rules of what a credential accepts: rights that a venue adds by itself, and rights it gives up."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.domain.inventory_book import Book, refuse, warn
from keyturn.domain.inventory_findings import Finding, listed


def only_added_rights_are_accepted(book: Book) -> Iterator[Finding]:
    """`accepts` names what the venue adds by itself; all else is a permission, and declared as one."""
    for path, _, entry in book.credentials():
        manifest = book.manifest(entry)
        if manifest is None:
            continue
        known = {each.right for each in manifest.adds}
        if entry.accepts - known:
            yield refuse(
                (*path, "accepts"),
                f"{manifest.name} adds no such right by itself",
                f"write some of: {listed(sorted(known))}" if known else "remove the field",
            )


def a_loss_is_accepted_for_a_reason(book: Book) -> Iterator[Finding]:
    """Who gives up a right of a living key says why, and does not declare it at the same time."""
    for path, _, entry in book.credentials():
        if entry.accept_loss and entry.accept_loss_reason is None:
            yield refuse(
                (*path, "accept_loss_reason"), "is missing beside accept_loss", "write why, in a sentence"
            )
        if entry.accept_loss & (entry.permissions | entry.ip_allowlist):
            yield refuse(
                (*path, "accept_loss"),
                "names what the entry declares, which is not lost",
                "take it out of one of the two",
            )
        if entry.accept_loss_reason and not entry.accept_loss:
            yield warn((*path, "accept_loss_reason"), "nothing is given up", "remove the reason")
