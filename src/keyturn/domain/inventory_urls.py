"""The rules about URLs that need more than one of them, or another than http's: proxies, the journal.

What every URL must hold is in `urls`; the models of the inventory apply it.
"""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.domain.inventory_book import Book, refuse
from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import Path
from keyturn.domain.journal_urls import journal_fault
from keyturn.domain.urls import is_plain, leaves_this_machine


def plain_http_passes_no_other_machine(book: Book) -> Iterator[Finding]:
    """A proxy elsewhere would read what goes through it in plain http, whatever host that is for."""
    for path, account, proxy in _proxies(book):
        url = book.inventory.accounts[account].url if account in book.inventory.accounts else None
        if url is not None and is_plain(url) and leaves_this_machine(proxy):
            yield refuse(
                path,
                f"another machine, and the url of {account} is plain http",
                "write https:// there, or leave the proxy out",
            )


def _proxies(book: Book) -> Iterator[tuple[Path, str, str]]:
    """Give every proxy: its place, the account that is called through it, its URL."""
    for name, account in book.inventory.accounts.items():
        if account.egress_proxy is not None:
            yield ("accounts", name, "egress_proxy"), name, account.egress_proxy
    for path, _, entry in book.credentials():
        if entry.egress_proxy is not None:
            yield (*path, "egress_proxy"), entry.account, entry.egress_proxy


def journal_is_at_a_known_kind_of_place(book: Book) -> Iterator[Finding]:
    """The journal is SQLite or PostgreSQL, without a password in its URL, and with TLS to other machines."""
    fault = journal_fault(book.inventory.journal.url)
    if fault is not None:
        yield refuse(("journal", "url"), fault.wrong, fault.write)
