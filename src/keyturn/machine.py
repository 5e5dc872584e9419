"""Faults of this machine, told as such: a full disk, a closed folder, too many open files, a proxy.

They are no venue's, no server's and no defect of keyturn: whoever reads about them should look here first.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from keyturn.domain.errors import MachineError
from keyturn.domain.urls import PROXY_OF_THE_ENVIRONMENT, is_plain, url_fault

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# As httpx reads them, which Prefect's client is built on; the small spelling wins where both are set.
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# Prefect's client sends them.
_SENT_AS_HEADERS = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")


@dataclass(frozen=True, slots=True)
class Lack:
    """What this machine does not give."""

    #: Follows "this machine".
    words: str
    todo: str


_TOO_MANY_FILES = Lack("has too many files open", "Raise the limit (ulimit -n), or do less at once.")
_NO_MEMORY = Lack("has no memory left", "Give it more memory, or do less at once.")
_NO_ROUTE = Lack("has no route there", "See that this machine's network is up: ip route.")
_FIREWALL = Lack(
    "does not let the connection out", "See this machine's firewall and the rights of the process."
)
_NO_PORTS = Lack("has no local address or port left", "See how many connections are open here: ss -s.")

_LACKS: Mapping[int, Lack] = {
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENOMEM: _NO_MEMORY,
    errno.ENOBUFS: _NO_MEMORY,
    errno.EIO: Lack("cannot read or write its disk", "Check the disk and the mount: dmesg."),
    **dict.fromkeys(NO_SPACE, Lack("has no room left on a disk", "Free disk space, then do it again.")),
    **dict.fromkeys(
        DENIED,
        Lack("refuses access", "Let the user that runs keyturn write there, or choose another folder."),
    ),
}
_LACKS_OF_A_CONNECTION: Mapping[int, Lack] = {
    **{number: _LACKS[number] for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)},
    errno.ENETUNREACH: _NO_ROUTE,
    errno.ENETDOWN: _NO_ROUTE,
    errno.EACCES: _FIREWALL,
    errno.EPERM: _FIREWALL,
    errno.EADDRNOTAVAIL: _NO_PORTS,
}


def lack_of_a_connection(error: OSError) -> Lack | None:
    """Tell what of this machine kept a connection from coming about; None where it may be the other side."""
    return _LACKS_OF_A_CONNECTION.get(_number(error))


def _number(error: OSError) -> int:
    # These two have numbers of their own, and each of them is some errno's, too.
    foreign = isinstance(error, ssl.SSLError | socket.gaierror)
    return 0 if foreign else error.errno or 0


def machine_error(error: OSError, *, now: str) -> MachineError | None:
    """Translate a refusal of the operating system that nobody nearer has; None where it says too little.

    Args:
        error: what the system said. A path in it is shown where it is a whole one.
        now: what is true.
    """
    number = _number(error)
    lack = _LACKS.get(number)
    if lack is None:
        return None
    place = str(error.filename) if isinstance(error.filename, str | os.PathLike) else ""
    where = f" to {place}" if lack.words == "refuses access" else f" ({place})"
    shown = where if place.startswith("/") else ""
    reason = f"{error.strerror}, {errno.errorcode[number]}"
    return MachineError(f"This machine {lack.words}{shown}: {reason}.", now=now, todo=lack.todo)


def with_home(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Give the variables that a process lacks which asks where its user's home is: Prefect does as it starts.

    A container that runs as a number without a name has none. What Prefect keeps lies elsewhere in any case.
    """
    if environ.get("HOME"):
        return {}
    try:
        Path.home()
    except RuntimeError:
        return {"HOME": str(folder)}
    return {}


def proxy_for(url: str) -> str | None:
    """Give the URL of the proxy that the environment names for calls to this one; None for no proxy.

    Whether it is one that can be used is for `usable_proxy`. What goes in plain http stays on this machine,
    and passes no proxy, which may be another.
    """
    if is_plain(url):
        return None
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return _in_full(proxy)


def _in_full(proxy: str) -> str:
    # `proxy.example:3128` is how many write it, and what most programs take.
    return proxy if "://" in proxy else f"http://{proxy}"


def usable_proxy(url: str) -> bool:
    """Tell whether it is the URL of an HTTP proxy: Python's HTTP libraries can use no other by themselves."""
    return url_fault(url, PROXY_OF_THE_ENVIRONMENT) is None


def refuse_environment(environ: Mapping[str, str]) -> None:
    """Refuse variables with which Prefect's client cannot be built, or cannot send anything.

    Raises:
        MachineError: one of them is such; its value, which may hold a password, is not told.
    """
    for name in _PROXY_VARIABLES:
        if (proxy := environ.get(name, "").strip()) and not _usable_by_prefect(_in_full(proxy)):
            raise MachineError(
                f"The variable {name} names a proxy that cannot be used here.",
                now="Nothing was started.",
                todo=f"Set {name} to an HTTP proxy (http://HOST:PORT) or unset it; for a SOCKS proxy:"
                " pip install 'httpx[socks]'",
            )
    for name in _SENT_AS_HEADERS:
        if not environ.get(name, "").isprintable():
            raise MachineError(
                f"The variable {name} holds a line end, or another character that no header can carry.",
                now="Nothing was started.",
                todo=f"Set {name} to the text alone, without the line end of the file that it came from.",
            )


def _usable_by_prefect(proxy: str) -> bool:
    socks = proxy.startswith(("socks5:", "socks5h:")) and find_spec("socksio") is not None
    return socks or usable_proxy(proxy)
