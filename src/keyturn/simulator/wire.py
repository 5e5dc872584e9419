"""Name what goes in and out of a simulated exchange: a call, an answer, an answer that says no."""

from __future__ import annotations

import hmac
import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from keyturn.simulator.faults import Faults
from keyturn.simulator.state import KeyRules, SimKey

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(slots=True)
class Call:
    """One request as it arrived, with the clock that judges it.

    ``now_ms`` is the real time, ``clock_ms`` what the exchange believes that the time is. ``effect`` is set
    when the call changed something.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    ip: str
    now_ms: int
    clock_ms: int
    faults: Faults
    key: SimKey | None = None
    rules: KeyRules | None = None
    effect: bool = False

    @property
    def route(self) -> str:
        """Method and path, as tables and faults name a call."""
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and query exactly as they stood in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def query_params(self) -> dict[str, str]:
        """Decode the query string."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(slots=True)
class Reply:
    """An answer in the exchange's own shape; ``code`` and ``outcome`` are for the book of calls."""

    body: object
    status: int = 200
    code: str = "0"
    outcome: str = "ok"
    content_type: str = "application/json"

    def encode(self) -> bytes:
        """Return the body as it goes over the wire."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, separators=(",", ":")).encode()


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the simulator
    """End a call with an answer that says no."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


def alphanumeric(length: int) -> str:
    """Return a random word of letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def signature_matches(expected: str, given: str) -> bool:
    """Compare two signatures without telling by the time how much of them is right."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))
