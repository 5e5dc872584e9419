"""What a simulated Bybit says when it says no; the sources are named in :mod:`.bybit`."""

from __future__ import annotations

from keyturn.simulator.core import SimExchange
from keyturn.simulator.wire import Refusal, Reply

_TEXTS = {
    10001: "Request parameter error.",
    10002: "The request time exceeds the time window range.",
    10003: "API key is invalid.",
    10004: "Error sign, please check your signature generation algorithm.",
    10005: "Permission denied, please check your API key permissions.",
    10006: "Too many visits. Exceeded the API Rate Limit.",
    10007: "User authentication failed.",
    10010: "Unmatched IP, please check your API key's bound IP addresses.",
    10016: "Server error.",
    10017: "Route not found.",
    33004: "Your api key has expired.",
}
_REFUSALS = frozenset({10002, 10003, 10004, 10005, 10007, 10010, 33004})
_STATUS = {10003: 401, 10007: 401, 10017: 404}


class BybitErrors(SimExchange):
    """An exchange with Bybit's errors."""

    def refuse(self, code: int, text: str | None = None) -> Refusal:
        """Make one of the exchange's errors."""
        return Refusal(self.error(code, text))

    def error(self, code: int, text: str | None = None) -> Reply:
        """Answer with an error."""
        body = {
            "retCode": code,
            "retMsg": text or _TEXTS[code],
            "result": {},
            "retExtInfo": {},
            "time": self.clock_ms(),
        }
        outcome = "refused" if code in _REFUSALS else "failed"
        return Reply(body, _STATUS.get(code, 200), str(code), outcome)
