"""Tells from a ccxt error what the venue refused. Its text, which may quote the request, goes no further."""

from __future__ import annotations

import re

from keyturn.domain.errors import ExchangeFault

# Checked in this order; names of ccxt's error classes (4.5.90, read 2026-11-21). By name, not by class: the
# exchange object may come from a ccxt that this process did not import as `ccxt`.
_FAULTS = (
    ("PermissionDenied", ExchangeFault.MISSING_PERMISSION),
    ("AuthenticationError", ExchangeFault.UNCLEAR_REFUSAL),
    ("RateLimitExceeded", ExchangeFault.RATE_LIMITED),
    ("InvalidNonce", ExchangeFault.CLOCK_SKEW),
    ("NetworkError", ExchangeFault.VENUE_DOWN),
    ("NotSupported", ExchangeFault.NOT_SUPPORTED),
)
# ccxt gives one class for a refused address and for a missing right; the venue's words tell them apart.
_ABOUT_ADDRESS = re.compile(r"\bip\b|ip_|whitelist|allow ?list", re.IGNORECASE)
# Refusals of a key that ccxt 4.5.90 has no class for. OKX: "API key doesn't exist"
# (https://www.okx.com/docs-v5/en/#error-code, read 2026-11-21), which is what a deleted key meets.
_UNMAPPED = re.compile(r'"code":\s*"50119"')


def is_refused_key(error: BaseException) -> bool:
    """Tell whether the venue refused who was calling, and so did nothing (ccxt's AuthenticationError)."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return "AuthenticationError" in names or (
        names[0] == "ExchangeError" and bool(_UNMAPPED.search(str(error)))
    )


def fault_of(error: BaseException) -> ExchangeFault:
    """Translate a ccxt error into the closed set."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if not is_refused_key(error):
        return next((fault for name, fault in _FAULTS if name in names), ExchangeFault.REJECTED)
    if _ABOUT_ADDRESS.search(str(error)):
        return ExchangeFault.WRONG_IP
    return next((fault for name, fault in _FAULTS if name in names), ExchangeFault.UNKNOWN_KEY)
