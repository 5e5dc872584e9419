"""What the methods of a simulated Deribit have in common; the sources are named in :mod:`.deribit`."""

from __future__ import annotations

from typing import Any

from keyturn.simulator.core import SimExchange
from keyturn.simulator.deribit_tokens import Tokens
from keyturn.simulator.state import SimKey
from keyturn.simulator.wire import Call, Refusal, Reply

_ERRORS: dict[int, tuple[int, str]] = {
    10028: (429, "too_many_requests"),
    11050: (400, "bad_request"),
    11094: (500, "internal_server_error"),
    13004: (400, "invalid_credentials"),
    13008: (400, "request_failed"),
    13009: (401, "unauthorized"),
    13021: (403, "forbidden"),
    13403: (403, "scope_exceeded"),
    13668: (400, "security_key_authorization_error"),
    -32601: (400, "Method not found"),
    -32602: (400, "Invalid params"),
    -32700: (400, "Parse error"),
}
_REFUSALS = frozenset({13004, 13009, 13021, 13403, 13668})


class DeribitDesk(SimExchange):
    """An exchange with Deribit's errors and its access log."""

    #: Whether a list of keys shows their secrets.
    secrets_in_list = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.access_log: dict[str, list[dict[str, object]]] = {}
        self.tokens = Tokens()

    def refuse(self, code: int, reason: str | None = None, param: str | None = None) -> Refusal:
        """Make one of the exchange's errors."""
        return Refusal(self.error(code, reason, param))

    def log_access(self, call: Call, key: SimKey, event: str) -> None:
        """Write a line into the access log of the key's account."""
        lines = self.access_log.setdefault(key.account.uid, [])
        lines.append(
            {
                "id": len(lines) + 1,
                "timestamp": call.clock_ms,
                "ip": call.ip,
                "country": "",
                "city": "",
                "log": event,
                "data": key.ref,
            }
        )

    def error(
        self, code: int, reason: str | None = None, param: str | None = None, *, status: int | None = None
    ) -> Reply:
        """Answer with an error; ``status`` in place of its usual one."""
        usual, text = _ERRORS[code]
        error: dict[str, object] = {"message": text, "code": code}
        if reason is not None:
            error["data"] = {"reason": reason, **({"param": param} if param else {})}
        now = self.clock_ms()
        outcome = "refused" if code in _REFUSALS else "failed"
        return Reply(envelope({"error": error}, now, now, None), status or usual, str(code), outcome)


def envelope(
    content: dict[str, object], started_ms: int, now_ms: int, request_id: object
) -> dict[str, object]:
    """Wrap a result or an error as JSON-RPC with Deribit's times."""
    started, ended = started_ms * 1000, max(now_ms, started_ms) * 1000
    body = {"jsonrpc": "2.0", **content, "usIn": started, "usOut": ended, "usDiff": ended - started}
    body["testnet"] = False
    return body if request_id is None else {"id": request_id, **body}
