"""Tells from a ccxt error what the venue refused, by the venue's error table: the one that its driver has.

ccxt's classes do not tell: an address that is not listed, a ban and a key that is unknown are all
`AuthenticationError`s. They judge only where keyturn has no table for the venue, or the error carries no
answer of the venue. The error's text, which may quote the request, goes no further.
"""

from __future__ import annotations

import json
import re
from typing import Any

from keyturn.bodies import UNREADABLE
from keyturn.domain.errors import KEY_FAULTS, ExchangeFault

# The venue refused who was calling, and so did nothing.
_CALLER = KEY_FAULTS | {ExchangeFault.WRONG_IP, ExchangeFault.MISSING_PERMISSION}
# Checked in this order; names of ccxt's error classes (4.5.90, read 2026-11-28). By name, not by class: the
# exchange object may come from a ccxt that this process did not import as `ccxt`. None of them says that a
# key is unknown: an account that is suspended has its keys still.
_BY_CLASS = (
    ("AccountSuspended", ExchangeFault.KEY_REFUSED),
    ("PermissionDenied", ExchangeFault.MISSING_PERMISSION),
    ("AuthenticationError", ExchangeFault.UNCLEAR_REFUSAL),
    ("RateLimitExceeded", ExchangeFault.RATE_LIMITED),
    ("InvalidNonce", ExchangeFault.CLOCK_SKEW),
    ("NetworkError", ExchangeFault.VENUE_DOWN),
    ("NotSupported", ExchangeFault.NOT_SUPPORTED),
)
# ccxt gives one class for a refused address and for a missing right; the venue's words tell them apart,
# unless they name the key as well ("Invalid API-key, IP, or permissions for action.").
_ABOUT_ADDRESS = re.compile(r"\bip\b|ip_|whitelist|allow ?list", re.IGNORECASE)
_ABOUT_KEY_TOO = re.compile(r"invalid api[ -]?key, ip", re.IGNORECASE)
# ccxt's text for an answer that is not in the venue's form: id, method, URL, status, reason, body.
_STATUS = re.compile(r"\S+ (?:GET|POST|PUT|DELETE|PATCH) \S+ (\d{3}) ")
_TOO_MANY_REQUESTS = 429


class CannotSignError(Exception):
    """The exchange object could not sign a call: what is stored is no key of this kind. Nothing was sent."""


def is_refused_key(error: BaseException, exchange: Any = None) -> bool:
    """Tell whether the venue refused who was calling, and so did nothing; see `fault_of`."""
    return fault_of(error, exchange) in _CALLER


def fault_of(error: BaseException, exchange: Any = None) -> ExchangeFault:
    """Translate a ccxt error into the closed set, as the venue's driver would.

    Args:
        error: what a call raised.
        exchange: the ccxt object that made it. None: the venue is the id that ccxt begins its texts with.
    """
    if isinstance(error, CannotSignError):
        return ExchangeFault.CANNOT_SIGN
    if "BaseError" not in {kind.__name__ for kind in type(error).__mro__}:
        return ExchangeFault.REJECTED
    text = str(error)
    table = _table(exchange, text)
    if table is None:
        return _by_class(error, text)
    answer = _answer(text)
    if answer is not None:
        try:
            refusal = table.refusal(answer, {})
        except UNREADABLE:
            refusal = None
        if refusal is not None:
            return ExchangeFault(table.judge(refusal, changes=False).fault)
    if status := _STATUS.match(text):
        row = table.status.get(int(status[1]))
        # What answered was not the venue's API: no word on the key.
        down = (
            ExchangeFault.RATE_LIMITED if int(status[1]) == _TOO_MANY_REQUESTS else ExchangeFault.VENUE_DOWN
        )
        return row.fault if row else down
    return _by_class(error, text)


def _table(exchange: Any, text: str) -> Any:
    """Find the venue's table, imported when it is first needed: most bots never meet a refusal."""
    from keyturn.exchanges import catalog

    names = [text.partition(" ")[0]]
    if exchange is not None:
        # A site of a venue is a class derived from the venue's own, and so is a bot's.
        names = [kind.__name__ for kind in type(exchange).__mro__]
    return next((table for name in names if (table := catalog.errors_of(name))), None)


def _answer(text: str) -> dict[str, Any] | None:
    """Read the venue's answer from the text of a ccxt error; None when it carries none."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _by_class(error: BaseException, text: str) -> ExchangeFault:
    names = {kind.__name__ for kind in type(error).__mro__}
    fault = next((fault for name, fault in _BY_CLASS if name in names), ExchangeFault.REJECTED)
    about_address = _ABOUT_ADDRESS.search(text) and not _ABOUT_KEY_TOO.search(text)
    if fault in {ExchangeFault.MISSING_PERMISSION, ExchangeFault.UNCLEAR_REFUSAL} and about_address:
        return ExchangeFault.WRONG_IP
    return fault
