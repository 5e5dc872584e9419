"""What broke when no answer came: in words that quote no error, and whether to look at this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from keyturn.domain.errors import ExchangeFault
from keyturn.machine import lack_of_a_connection

_LOOK_AT_THE_PROXY = (
    "See that the egress_proxy in the inventory is right, runs, and lets this machine through."
)


@dataclass(frozen=True, slots=True)
class Break:
    """What broke. The fault holds where nothing left this machine."""

    words: str
    fault: ExchangeFault = ExchangeFault.VENUE_DOWN
    todo: str = ""


TOO_LATE = Break("the call waited for its turn for too long, and was not sent")
NO_ROOTS = Break(
    "the list of trusted authorities cannot be read here",
    ExchangeFault.MACHINE,
    "Install it again: pip install --force-reinstall certifi",
)

# By the class of the cause that ccxt names; the first that fits.
_BREAKS: Mapping[type[BaseException], Break] = {
    aiohttp.ClientConnectorDNSError: Break(
        "its name could not be resolved here",
        ExchangeFault.MACHINE,
        "See that this machine resolves names (getent hosts NAME) and that `url` in the inventory is right.",
    ),
    aiohttp.ClientConnectorCertificateError: Break("its certificate is not trusted"),
    aiohttp.ClientSSLError: Break("the TLS handshake failed"),
    aiohttp.ClientProxyConnectionError: Break(
        "the egress proxy could not be reached", ExchangeFault.MACHINE, _LOOK_AT_THE_PROXY
    ),
    aiohttp.ClientHttpProxyError: Break(
        "the egress proxy refused", ExchangeFault.MACHINE, _LOOK_AT_THE_PROXY
    ),
    aiohttp.ConnectionTimeoutError: Break("no connection came about in time"),
    ConnectionRefusedError: Break("it refused the connection"),
    aiohttp.ClientConnectorError: Break("no connection came about"),
    TimeoutError: Break("no answer came in time"),
    aiohttp.ClientConnectionError: Break("the connection was cut"),
    aiohttp.ClientPayloadError: Break("the answer was cut"),
}
_UNRESOLVED_PROXY = Break(
    "the name of the egress proxy could not be resolved here", ExchangeFault.MACHINE, _LOOK_AT_THE_PROXY
)
UNUSABLE_PROXY = Break(
    "the egress proxy is no HTTP proxy, and no other can be used",
    ExchangeFault.MACHINE,
    "Write egress_proxy in the inventory as http://HOST:PORT.",
)


def what_broke(error: BaseException, *, proxied: bool) -> Break:
    """Name what broke without quoting the error, whose text holds the request's URL.

    Args:
        error: what ccxt raised.
        proxied: the call went by an egress proxy, which then is what resolves the venue's name.
    """
    cause = error.__cause__ or error
    refused = cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause
    if isinstance(refused, OSError) and (lack := lack_of_a_connection(refused)):
        return Break(f"this machine {lack.words}", ExchangeFault.MACHINE, lack.todo)
    if proxied and isinstance(cause, aiohttp.ClientConnectorDNSError):
        return _UNRESOLVED_PROXY
    if isinstance(refused, ConnectionRefusedError) and not isinstance(
        cause, aiohttp.ClientProxyConnectionError
    ):
        return _BREAKS[ConnectionRefusedError]
    known = next((each for kind, each in _BREAKS.items() if isinstance(cause, kind)), None)
    return known or Break(f"the request failed ({type(cause).__name__})")
