"""The rules about URLs that need more than one of them, or another than http's: proxies, the journal.

What every URL must hold is in `urls`; the models of the inventory apply it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from keyturn.domain.inventory_book import Book, refuse
from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import Path
from keyturn.domain.urls import UrlFault, host_fault, is_loopback, is_plain, leaves_this_machine, port_fault

_KINDS = "write sqlite:///FILE or postgresql+psycopg://USER@HOST/DB?sslmode=verify-full"
_SQLITE, _POSTGRESQL = "sqlite:///", "postgresql+psycopg://"
_PARTS = re.compile(
    r"(?:(?P<user>[^/?#@:]*)(?P<password>:[^/?#@]*)?@)?(?P<host>\[[^]/?#@]*\]|[^]\[/?#@:]*)"
    r"(?::(?P<port>[^/?#@]*))?(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
#: The modes of libpq that insist on TLS. The others (`prefer` is the default) speak plainly to whoever says
#: that the server has none.
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS (read 2026-11-28)
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
_SECRETS = frozenset({"password", "sslpassword"})
# What names a server beside the URL's host, and before it; the last two are in a file.
_HOSTS, _ELSEWHERE = ("host", "hostaddr"), ("service", "servicefile")


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


def journal_fault(url: str) -> UrlFault | None:
    """Tell why a journal is not opened at a URL; None for one that is."""
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return None
    if not url.startswith(_POSTGRESQL):
        return UrlFault("not a journal that keyturn can keep", _KINDS)
    parts = _PARTS.fullmatch(url.removeprefix(_POSTGRESQL))
    if parts is None or not url.isprintable() or " " in url:
        return UrlFault("not a URL", _KINDS)
    query = parse_qsl(parts["query"] or "", keep_blank_values=True)
    given: dict[str, list[str]] = {}
    for key, value in query:
        given.setdefault(key, []).append(value)
    if parts["password"] is not None or _SECRETS & given.keys():
        return UrlFault("a password in a URL", "write it as `password:` beside it, {env: NAME}")
    if not parts["database"]:
        return UrlFault("names no database", _KINDS)
    if not parts["host"] and "host" not in given:
        return UrlFault("names no server", f"{_KINDS}; for a socket, its folder: ?host=/run/postgresql")
    if parts["host"] and (fault := host_fault(parts["host"], _KINDS)) is not None:
        return fault
    return port_fault(parts["port"]) or _in_the_clear(parts["host"], given)


def _in_the_clear(host: str, given: dict[str, list[str]]) -> UrlFault | None:
    modes = given.get("sslmode", ["prefer"])
    if len(modes) == 1 and modes[0] in ENCRYPTED:
        return None
    hosts = [host] if host else []
    hosts += [name for key in _HOSTS for value in given.get(key, ()) for name in value.split(",")]
    if all(map(_is_here, hosts)) and not any(key in given for key in _ELSEWHERE):
        return None
    return UrlFault(
        "a server on another machine, which may be spoken to without TLS",
        "write ?sslmode=verify-full at its end (or require, which does not look at the certificate)",
    )


def _is_here(host: str) -> bool:
    """Tell whether a host of a query is this machine: the folder of a socket, an address, one with a port."""
    name = host if host.count(":") != 1 else host.partition(":")[0]
    return host.startswith("/") or is_loopback(f"[{name}]" if ":" in name and name[0] != "[" else name)
