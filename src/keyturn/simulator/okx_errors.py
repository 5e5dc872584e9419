"""What a simulated OKX says when it says no; the sources are named in :mod:`.okx`."""

from __future__ import annotations

from keyturn.simulator.core import SimExchange
from keyturn.simulator.wire import Refusal, Reply

# Code -> (HTTP status, text), as in the table of error codes.
_ERRORS: dict[int, tuple[int, str]] = {
    50000: (400, "Body for POST request cannot be empty."),
    50002: (400, "JSON syntax error"),
    50006: (400, 'Invalid Content-Type. Please use "application/JSON".'),
    50011: (429, "Too Many Requests"),
    50014: (400, "Parameter {} can not be empty."),
    50026: (500, "System error. Try again later"),
    50035: (403, "This endpoint requires that APIKey must be bound to IP"),
    50102: (401, "Timestamp request expired."),
    50103: (401, 'Request header "OK-ACCESS-KEY" cannot be empty.'),
    50104: (401, 'Request header "OK-ACCESS-PASSPHRASE" cannot be empty.'),
    50105: (401, 'Request header "OK-ACCESS-PASSPHRASE" incorrect.'),
    50106: (401, 'Request header "OK-ACCESS-SIGN" cannot be empty.'),
    50107: (401, 'Request header "OK-ACCESS-TIMESTAMP" cannot be empty.'),
    50110: (401, "Your IP {} is not included in your API key's IP whitelist."),
    50111: (401, "Invalid OK-ACCESS-KEY."),
    50112: (401, "Invalid OK-ACCESS-TIMESTAMP."),
    50113: (401, "Invalid signature."),
    50115: (405, "Invalid request method."),
    50119: (401, "API key doesn't exist"),
    50120: (200, "This API key doesn't have permission to use this function"),
    51000: (400, "Parameter {} error"),
    59500: (200, "Only the API key of the main account has permission."),
    59501: (200, "Each account can create up to 50 API keys"),
    59502: (200, "This note name already exists. Enter a unique API key note name"),
    59503: (200, "Each API key can bind up to 20 IP addresses"),
    59504: (200, "Sub-accounts don't support withdrawals. Please use your main account for withdrawals."),
    59505: (200, "The passphrase format is incorrect."),
    59506: (200, "API key doesn't exist."),
    59510: (200, "Sub-account does not exist"),
}
_REFUSALS = frozenset({50035, 50120, 59500})
_AUTHENTICATION = range(50100, 50120)


class OkxErrors(SimExchange):
    """An exchange with OKX's errors."""

    def refuse(self, code: int, about: str = "") -> Refusal:
        """Make one of the exchange's errors; ``about`` fills the gap in its text."""
        return Refusal(self.error(code, about))

    def error(self, code: int, about: str = "", *, status: int | None = None) -> Reply:
        """Answer with an error; ``status`` in place of its usual one."""
        usual, text = _ERRORS[code]
        body: dict[str, object] = {"msg": text.format(about), "code": str(code)}
        authentication = code in _AUTHENTICATION
        if not authentication:
            body["data"] = []
        outcome = "refused" if authentication or code in _REFUSALS else "failed"
        return Reply(body, status or usual, str(code), outcome)
