"""The one rule for URLs: which of them keyturn calls.

A URL is taken only where every HTTP client of keyturn's (urllib3, aiohttp with yarl, httpx) and the C
library read the same host and port from it, so that what was judged here is what is called there. Plain
`http` shows keys, tokens and notices to the network, and is taken to this machine alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class Use:
    """What a URL is for, and so what it may have.

    Args:
        query: it is called as it is; to another a path is put, which a query would swallow.
        path: it may have one; a proxy has none.
        plain_anywhere: plain `http` is taken to other machines, too.
        user: it may have a user and a password.
    """

    query: bool = False
    path: bool = True
    plain_anywhere: bool = False
    user: bool = False


#: Paths are put to it: an exchange, a server of Vault, an endpoint of AWS.
BASE = Use()
#: Called as it is.
NOTICE = Use(query=True)
#: Sees no more of a call than its host: what goes through it to another machine is https by this same rule.
PROXY = Use(path=False, plain_anywhere=True)
#: As the environment names one, where a password belongs.
PROXY_OF_THE_ENVIRONMENT = Use(path=False, plain_anywhere=True, user=True)


@dataclass(frozen=True, slots=True)
class UrlFault:
    """Why a URL is not taken; quotes nothing of it."""

    wrong: str
    #: Begins with a verb.
    write: str


_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<host>\[[^]/?#]*\]|[^]\[/?#:]*)"
    r"(?::(?P<port>[^/?#]*))?(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
# A backslash is a slash to browsers and to nobody else.
_PLAIN_TEXT = re.compile(r"[!-\[\]-~]*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# The C library takes `127.1`, `2130706433` and `0x7f.1` for addresses; URL parsers take them for names.
# https://url.spec.whatwg.org/#ends-in-a-number-checker (read 2026-11-28)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LONGEST_NAME = 253
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LAST_PORT = 65535

_WRITE_URL = "write https://HOST/..."
_WRITE_PROXY = "write http://HOST:PORT"


def url_fault(url: str, use: Use) -> UrlFault | None:
    """Tell why a URL is not called; None for one that is."""
    write = _WRITE_URL if use.path else _WRITE_PROXY
    if not _PLAIN_TEXT.fullmatch(url):
        return UrlFault(
            "a space, a backslash, a control character or a letter outside ASCII",
            "write plain letters; a host with others in its xn-- form",
        )
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return UrlFault("not a URL with a host", write)
    scheme, user = parts["scheme"].lower(), parts["user"]
    if scheme not in {"http", "https"}:
        return UrlFault("neither https nor http", write)
    if user is not None and (not use.user or "@" in user):
        return UrlFault("a user or a password before the host", f"{write}, without what ends with @")
    if (fault := host_fault(parts["host"], write) or port_fault(parts["port"])) is not None:
        return fault
    if parts["fragment"] is not None:
        return UrlFault("a part after #, which no server is sent", "leave it out")
    if parts["query"] is not None and not use.query:
        return UrlFault("a query, and a path is put behind it", f"{write} up to its path")
    if (parts["path"] or "/") != "/" and not use.path:
        return UrlFault("a path, and a proxy has none", write)
    if scheme == "http" and not use.plain_anywhere and not is_loopback(parts["host"]):
        return UrlFault("plain http to another machine", "write https://, or use a tunnel on 127.0.0.1")
    return None


def is_plain(url: str) -> bool:
    """Tell whether what goes to this URL goes unencrypted."""
    return url[:5].lower() == "http:"


def leaves_this_machine(url: str) -> bool:
    """Tell whether the host of a URL that keeps the rule is another machine, as far as its text tells."""
    parts = _PARTS.fullmatch(url)
    return parts is None or not is_loopback(parts["host"])


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, however names are resolved here.

    `localhost` is by https://www.rfc-editor.org/rfc/rfc6761#section-6.3; names under it, and `localhost.`,
    some resolvers ask a server about.
    """
    name = host.lower()
    if name == "localhost":
        return True
    try:
        if name.startswith("["):
            return IPv6Address(name[1:-1]) == IPv6Address("::1")
        return IPv4Address(name).is_loopback
    except ValueError:
        return False


def host_fault(host: str, write: str) -> UrlFault | None:
    """Tell why a host is none that everybody reads alike; None for one that is.

    Args:
        host: a name, an IPv4 address, or an IPv6 address in brackets.
        write: what to write in place of a URL without one.
    """
    if host in {"", "[]"}:
        return UrlFault("not a URL with a host", write)
    if host.startswith("["):
        return None if _is_v6(host[1:-1]) else UrlFault("no IPv6 address in the brackets", write)
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if _is_v4(host):
            return None
        return UrlFault(
            "a number for a host, which programs read in different ways",
            "write a name, or an address of four numbers, such as 127.0.0.1",
        )
    if len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        return UrlFault("not the name of a host", write)
    return None


def port_fault(port: str | None) -> UrlFault | None:
    """Tell why a port is none; None for one that is, or that was left out."""
    if port is None or (_PORT.fullmatch(port) and int(port) <= _LAST_PORT):
        return None
    return UrlFault("no port that there can be", f"write a number from 1 to {_LAST_PORT}, or none")


def _is_v4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_v6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False
