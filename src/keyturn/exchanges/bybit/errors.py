"""Bybit's errors: what each code means, with the sentence of the documentation that it rests on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from typing import Any

from keyturn.bodies import seconds
from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import SITE_FIRST, ErrorTable, Refusal, Row, barred
from keyturn.exchanges._fields import mapping, millis, name, text

_RENEW = "Make a new key at {console} and store it."
_SUPPORT = "Ask the venue's support."
_KEY_PAGE = "https://bybit-exchange.github.io/docs/v5/user/create-subuid-apikey"
_RATE_PAGE = "https://bybit-exchange.github.io/docs/v5/rate-limit"


def _late(says: str) -> Row:
    return Row(Fault.CLOCK_SKEW, "the request came from another time, by the venue's clock.", says=says)


def _fewer(says: str) -> Row:
    return Row(Fault.RATE_LIMITED, "it asked for fewer calls.", says=says)


def _banned(words: str, says: str) -> Row:
    return Row(Fault.KEY_REFUSED, words, _SUPPORT, says=says)


def _expired(says: str) -> Row:
    return Row(Fault.KEY_REFUSED, "the key has expired.", _RENEW, says=says)


def _wrong(says: str) -> Row:
    return Row(Fault.REJECTED, "it takes the request for a wrong one.", says=says)


def _full(seen: str) -> Row:
    return Row(Fault.KEY_QUOTA, "the account has as many keys as it may have.", seen=seen)


def refusal(body: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
    """Read what an answer refuses; None when it grants.

    Raises:
        LookupError, TypeError, ValueError: it is not in Bybit's form.
    """
    code = name(body["retCode"])
    if code == "0":
        mapping(body["result"])
        return None
    reset = seconds(headers.get("x-bapi-limit-reset-timestamp"))
    return Refusal(
        code,
        text=text(body.get("retMsg")),
        retry_after=None if reset is None else max(0.0, reset / 1000 - time.time()),
        server_time=millis(body["time"]) if body.get("time") else None,
    )


TABLE = ErrorTable(
    page="https://bybit-exchange.github.io/docs/v5/error",
    # The page as of 2026-07-24 (github.com/bybit-exchange/docs at 072c197d0).
    read=date(2026, 11, 28),
    refusal=refusal,
    exact={
        "-1": _late("request expired: o@0, now[] diff[]"),
        # The older text of this code names three faults at once.
        "-2015": Row(
            Fault.UNCLEAR_REFUSAL,
            "it refuses the key, its address or its rights, and does not say which.",
            says="(Spot) Your api key has expired; older: Invalid API-key, IP, or permissions for action.",
        ),
        # "Please retry": it does not say that nothing was done.
        "429": Row(
            Fault.OUTCOME_UNKNOWN,
            "it is busy.",
            says="The trading service is experiencing a high server load. Please retry if you encounter this"
            " issue.",
        ),
        "10000": Row(Fault.OUTCOME_UNKNOWN, "it ran out of time.", says="Server Timeout"),
        # Stands for many things; the text tells a full account apart.
        "10001": _wrong("Request parameter error"),
        "10002": _late("The request time exceeds the time window range."),
        "10003": Row(
            Fault.UNKNOWN_KEY,
            "it does not know the key.",
            SITE_FIRST,
            says="API key is invalid. Check whether the key and domain are matched, there are 4 env: mainnet,"
            " testnet, mainnet-demo, testnet-demo",
        ),
        "10004": Row(
            Fault.KEY_REFUSED,
            "the secret does not belong to the key.",
            says="Error sign, please check your signature generation algorithm.",
        ),
        "10005": Row(
            Fault.MISSING_PERMISSION,
            "the key lacks a right for it.",
            says="Permission denied, please check your API key permissions.",
        ),
        "10006": _fewer("Too many visits. Exceeded the API Rate Limit."),
        "10007": Row(Fault.UNCLEAR_REFUSAL, "it did not accept the key.", says="User authentication failed."),
        "10008": _banned("the account is banned.", "Common banned, please check your account mode"),
        "10009": barred(
            "it does not serve the address or the region that the call comes from.",
            says="Service Restricted: Access is currently unavailable for your region.; older: IP has been"
            " banned.",
        ),
        "10010": Row(
            Fault.WRONG_IP,
            "the call came from an address that the key's list does not have.",
            says="Unmatched IP, please check your API key's bound IP addresses.",
        ),
        # A gateway that sends a request twice gets this for the second, and the first has had its effect.
        "10014": Row(
            Fault.OUTCOME_UNKNOWN,
            "it takes the request for a repeated one.",
            says="Invalid duplicate request.",
        ),
        "10016": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own.", says="Server error."),
        # "The request in the process is not affected": whether this one is in the process, it does not say.
        "10019": Row(
            Fault.OUTCOME_UNKNOWN,
            "it is being restarted.",
            says="ws trade service is restarting, do not accept new request, but the request in the process"
            " is not affected. You can build new connection to be routed to normal service",
        ),
        # Struck out in the page, still sent by old gateways.
        "10018": Row(
            Fault.RATE_LIMITED,
            "it asked for fewer calls from this address.",
            says="Exceeded the IP Rate Limit.",
        ),
        "10017": _wrong("Route not found."),
        "10024": _banned("its compliance rules bar the account.", "Compliance rules triggered"),
        "10027": _banned("the account may not trade.", "Transactions are banned."),
        "10028": Row(
            Fault.REJECTED,
            "the account is not a unified trading account.",
            "Upgrade the account at the venue.",
            says="The API can only be accessed by unified account users.",
        ),
        "10429": _fewer("System level frequency protection"),
        "20096": Row(
            Fault.REJECTED,
            "it wants the owner of the account identified first.",
            "Complete the identification (KYC) at {console}.",
            says="need KYC authentication",
        ),
        "33004": _expired("(Derivatives) Your api key has expired"),
        "81007": Row(
            Fault.NOT_SUPPORTED,
            "Bybit Europe lets no API create keys.",
            says=f"Bybit Europe is not supported create API Key ({_KEY_PAGE})",
        ),
        "131001": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own.", says="openapi svc error"),
    },
    # 10001 "Request parameter error" and -2015 stand for many things; the text tells them apart.
    broad={
        "api key has expired": _expired("(Spot) Your api key has expired"),
        # The page gives no code for a full account.
        "upper limit": _full("The web console's message for a full account, 2026-11-21"),
        "maximum number of api keys": _full("The web console's message for a full account, 2026-11-21"),
    },
    status={
        # And a page of its CDN, for the region.
        403: barred(
            "it bars this address: too many calls, or a region that it does not serve.",
            "keyturn calls again in ten minutes. If it stays so, call from an address in a region that"
            " {venue} serves: run keyturn there, or name an egress_proxy there.",
            says=f"403, access too frequent ... wait for at least 10 minutes ({_RATE_PAGE})",
        ),
    },
)
