"""Which URLs of a journal are opened: as `urls`, for SQLite and PostgreSQL."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from keyturn.domain.urls import UrlFault, host_fault, is_loopback, port_fault

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
