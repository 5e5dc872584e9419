"""Who may speak to a Prefect server that keyturn starts: whoever knows the string drawn for it.

Loopback is no authentication: any user of this machine, and any page in a browser on it, reaches 127.0.0.1;
and whoever may change a deployment runs commands as the user that serves it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

#: What Prefect's server asks for, and what its clients send: `USER:PASSWORD`.
SERVER_AUTH, CLIENT_AUTH = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
_USER = "keyturn"
_PASSWORD_BYTES = 24
# Names of this machine for itself: no page reaches it by one of them from another origin unnoticed.
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Where Prefect is told its own address, for clients and for browsers.
_ADDRESSES = ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_UI_API_URL", "PREFECT_SERVER_UI_API_URL")
_BY_DEFAULT = "http://127.0.0.1:4200"
# Where websockets 16 logs handshakes with their headers, and frames, of which Prefect's first is the login
# again; in Prefect's server uvicorn gives it its own logger.
_FRAME_LOGGERS = ("websockets.client", "websockets.server", "websockets.protocol", "uvicorn.error")


def draw_auth() -> str:
    """Draw the string for one start of a server."""
    return f"{_USER}:{secrets.token_hex(_PASSWORD_BYTES)}"


def shared_settings(url: str, auth: str) -> dict[str, str]:
    """Give the variables for a server at this URL, and for every process that speaks to it.

    Args:
        url: scheme, host and port.
        auth: the string. Variables of a process are read by its own user alone; its arguments by everybody.
    """
    return {
        "PREFECT_API_URL": f"{url}/api",
        SERVER_AUTH: auth,
        CLIENT_AUTH: auth,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
    }


def own_origins(environ: Mapping[str, str]) -> list[str]:
    """Give the origins (`https://keyturn.example`) at which a server is reached, by its environment."""
    parts = [urlsplit(environ.get(name, "")) for name in _ADDRESSES]
    origins = [f"{part.scheme}://{part.netloc}" for part in parts if part.scheme and part.hostname]
    return list(dict.fromkeys(origins)) or [_BY_DEFAULT]


def own_hosts(environ: Mapping[str, str]) -> frozenset[str]:
    """Give the names, without ports, by which a server is addressed: this machine's own, and its origins'."""
    return _LOOPBACK | {urlsplit(origin).hostname or "" for origin in own_origins(environ)}


def keep_login_out_of_logs() -> None:
    """Let no logger of this process tell the login at DEBUG, whatever level Prefect or a person sets."""
    for name in _FRAME_LOGGERS:
        logging.getLogger(name).addFilter(_is_above_debug)


def _is_above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
