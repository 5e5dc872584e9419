"""Servers of our own on this machine, reached past the proxy that the environment may name for all others."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping

_HERE = ("127.0.0.1", "localhost", "::1")
_ANSWER_SECONDS = 2.0
# No proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Tell whether a server of ours is up and says 200."""
    try:
        with _DIRECT.open(url, timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        # Another program may have the port, and speak something else.
        return False


def past_proxies(environ: Mapping[str, str], *more: str) -> dict[str, str]:
    """Give the variables with which a process reaches this machine, and these hosts, without a proxy.

    Some programs read the one spelling and some the other; where both are set, most heed the small one.
    """
    said = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    hosts = [host for host in said.split(",") if host.strip()]
    if "*" not in (host.strip() for host in hosts):
        hosts += [host for host in (*_HERE, *more) if host not in hosts]
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts))
