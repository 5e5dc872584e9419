"""Bybit's errors.

Source of codes and texts: https://bybit-exchange.github.io/docs/v5/error, read 2026-11-21, unless a row says
otherwise. The vendor's text stands above each row.
"""

from __future__ import annotations

from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import ErrorTable, Row, barred

_LATE = Row(Fault.CLOCK_SKEW, "the request came from another time, by the venue's clock.")
_EXPIRED = Row(Fault.KEY_REFUSED, "the key has expired.", "Make a new key at {console} and store it.")
_FULL = Row(Fault.KEY_QUOTA, "the account has as many keys as it may have.")

TABLE = ErrorTable(
    exact={
        # request expired: o@0, now[] diff[]
        "-1": _LATE,
        # Server Timeout
        "10000": Row(Fault.OUTCOME_UNKNOWN, "it ran out of time."),
        # The request time exceeds the time window range.
        "10002": _LATE,
        # API key is invalid. Check whether the key and domain are matched (mainnet, testnet, demo)
        "10003": Row(Fault.UNKNOWN_KEY, "it does not know the key."),
        # Error sign, please check your signature generation algorithm.
        "10004": Row(Fault.KEY_REFUSED, "the secret does not belong to the key."),
        # Permission denied, please check your API key permissions.
        "10005": Row(Fault.MISSING_PERMISSION, "the key lacks a right for it."),
        # Too many visits. Exceeded the API Rate Limit.
        "10006": Row(Fault.RATE_LIMITED, "it asked for fewer calls."),
        # User authentication failed.
        "10007": Row(Fault.UNCLEAR_REFUSAL, "it did not accept the key."),
        # Common banned, please check your account mode
        "10008": Row(Fault.REJECTED, "the account is banned.", "Ask the venue's support."),
        # Service Restricted: Access is currently unavailable for your region.
        "10009": barred("it does not serve the region that the call comes from."),
        # Unmatched IP, please check your API key's bound IP addresses.
        "10010": Row(Fault.WRONG_IP, "the call came from an address that the key's list does not have."),
        # Server error.
        "10016": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own."),
        # Exceeded the IP Rate Limit. (struck out in the page, still sent by old gateways)
        "10018": Row(Fault.RATE_LIMITED, "it asked for fewer calls from this address."),
        # The API can only be accessed by unified account users.
        "10028": Row(
            Fault.REJECTED,
            "the account is not a unified trading account.",
            "Upgrade the account at the venue.",
        ),
        # (Derivatives) Your api key has expired
        "33004": _EXPIRED,
        # Bybit Europe is not supported create API Key
        # https://bybit-exchange.github.io/docs/v5/user/create-subuid-apikey
        "81007": Row(Fault.NOT_SUPPORTED, "Bybit Europe lets no API create keys."),
    },
    # 10001 "Request parameter error" and -2015 stand for many things; the text tells them apart.
    broad={
        # -2015 (Spot) Your api key has expired. Its older text, "Invalid API-key, IP, or permissions for
        # action.", names three faults and stays REJECTED: it must never count as proof that a key is dead.
        "api key has expired": _EXPIRED,
        # The page gives no code for a full account; these are the forms of the web console's message.
        "upper limit": _FULL,
        "maximum number of api keys": _FULL,
    },
    status={
        # "403, access too frequent": wait for at least 10 minutes. And a page of its CDN, for the region.
        # https://bybit-exchange.github.io/docs/v5/rate-limit
        403: barred(
            "it bars this address: too many calls, or a region that it does not serve.",
            "keyturn calls again in ten minutes. If it stays so, call from an address in a region that"
            " {venue} serves: run keyturn there, or name an egress_proxy there.",
        ),
    },
)
