"""OKX's errors: what each code means, with the sentence of the documentation that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import SITE_FIRST, ErrorTable, Refusal, Row, barred
from keyturn.exchanges._fields import name, rows, text

_SUPPORT = "Ask the venue's support."
_MAIN = "Make the manager key in the main account, at {console}."

#: "API key doesn't exist": the key to delete, not the one that signs.
ABSENT = "59506"


def _late(says: str) -> Row:
    return Row(Fault.CLOCK_SKEW, "the request came from another time, by the venue's clock.", says=says)


def _fewer(says: str) -> Row:
    return Row(Fault.RATE_LIMITED, "it asked for fewer calls.", says=says)


def _off(words: str, says: str) -> Row:
    return Row(Fault.VENUE_DOWN, words, says=says)


def _open(words: str, says: str) -> Row:
    return Row(Fault.OUTCOME_UNKNOWN, words, says=says)


def _banned(words: str, says: str) -> Row:
    return Row(Fault.KEY_REFUSED, words, _SUPPORT, says=says)


def _refused(words: str, says: str) -> Row:
    return Row(Fault.KEY_REFUSED, words, says=says)


def _unclear(says: str) -> Row:
    return Row(Fault.UNCLEAR_REFUSAL, "it did not accept the key.", says=says)


def _unknown(says: str) -> Row:
    return Row(Fault.UNKNOWN_KEY, "it does not know the key.", SITE_FIRST, says=says)


def _lacks(says: str, words: str = "the key lacks a right for it.", todo: str = "") -> Row:
    return Row(Fault.MISSING_PERMISSION, words, todo, says=says)


def _wrong(says: str) -> Row:
    return Row(Fault.REJECTED, "it takes the request for a wrong one.", says=says)


def refusal(body: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
    """Read what an answer refuses; None when it grants.

    Raises:
        LookupError, TypeError, ValueError: it is not in OKX's form.
    """
    code = name(body["code"])
    if code == "0":
        # Whatever OKX grants is a list of objects.
        rows(body["data"])
        return None
    # 1 and 2: all or some of a batch failed; what failed stands with each entry.
    if code in {"1", "2"} and body.get("data"):
        failed = rows(body["data"])[0]
        return Refusal(name(failed["sCode"]), text=text(failed.get("sMsg")))
    return Refusal(code, text=text(body.get("msg")))


_REST = {
    "50000": _wrong("Body for a POST request cannot be empty."),
    "50002": _wrong("JSON syntax error"),
    "50006": _wrong('Invalid Content-Type. Please use "application/JSON".'),
    "50014": _wrong("Parameter {param0} cannot be empty."),
    "50015": _wrong("Either parameter {param0} or {param1} is required."),
    "50016": _wrong("Parameter {param0} does not match parameter {param1}"),
    "50024": _wrong("Parameter {param0} and {param1} cannot exist at the same time."),
    "50025": _wrong("Parameter {param0} count exceeds the limit {param1}."),
    "50115": _wrong("Invalid request method."),
    "51000": _wrong("Parameter {param0} error"),
    "59505": _wrong("The passphrase format is incorrect."),
    "50001": _off("it is being upgraded.", "Service temporarily unavailable. Please try again later."),
    "50004": _open(
        "it ran out of time.",
        "API endpoint request timeout. (does not mean that the request was successful or failed, please check"
        " the request result)",
    ),
    "50005": _off("this part of its API is off.", "API endpoint is inactive or unavailable."),
    "50007": _banned("the account is blocked.", "User blocked."),
    "50008": _unclear("User doesn't exist."),
    "50009": _banned("the account is frozen.", "Account is frozen due to stop-out."),
    "50011": _fewer("Too Many Requests"),
    "50012": _banned("the account's state does not allow it.", "Account status invalid."),
    # It does not say that nothing was done.
    "50013": _open("it is busy.", "Systems are busy. Please try again later."),
    "50026": _open("it had an error of its own.", "System error. Try again later"),
    "50027": _banned("the account may not trade.", "This account is restricted from trading."),
    "50030": _lacks("You don't have permission to use this API endpoint"),
    "50035": _lacks(
        "This endpoint requires that APIKey must be bound to IP",
        "only a key that is bound to addresses may do it.",
        "Bind the manager key to the addresses that keyturn calls from, at {console}.",
    ),
    "50040": _fewer("Too frequent operations, please try again later"),
    # The first of the two has had its effect.
    "50042": _open("it takes the request for a repeated one.", "Repeated request"),
    "50046": _off(
        "this part of its API is off.",
        "This feature is temporarily unavailable while we make some improvements to it.",
    ),
    "50100": _banned("the API is frozen for this account.", "API frozen, please contact customer service."),
    "50101": Row(
        Fault.KEY_REFUSED,
        "the key belongs to the other of its environments, live and demo.",
        "Correct `environment` in the inventory, or the key.",
        says="APIKey does not match current environment.",
    ),
    "50102": _late("Timestamp request expired."),
    "50104": _refused(
        "no passphrase is stored with the key.", 'Request header "OK-ACCESS-PASSPHRASE" cannot be empty.'
    ),
    "50105": _refused(
        "the passphrase does not belong to the key.", 'Request header "OK-ACCESS-PASSPHRASE" incorrect.'
    ),
    "50110": Row(
        Fault.WRONG_IP,
        "the call came from an address that the key's list does not have.",
        says="Your IP {param0} is not included in your API key's IP whitelist.",
    ),
    # The form of the key is wrong, or the key is unknown: the page does not say.
    "50111": _unclear("Invalid OK-ACCESS-KEY."),
    "50112": _late("Invalid OK-ACCESS-TIMESTAMP."),
    "50113": _refused("the secret does not belong to the key.", "Invalid signature."),
    "50114": _refused("it did not accept the key.", "Invalid authorization."),
    "50119": _unknown("API key doesn't exist"),
    "50120": _lacks("This API key doesn't have permission to use this function"),
    "50121": barred(
        "it does not serve the address that the call comes from.",
        says="You can't access our services through the IP address ({param0})",
    ),
    "58102": _fewer("Rate limit reached. Please refer to API docs and throttle requests accordingly."),
    "59500": _lacks(
        "Only the API key of the main account has permission.",
        "only a key of the main account may do it.",
        _MAIN,
    ),
    "59501": Row(
        Fault.KEY_QUOTA,
        "the account has as many keys as it may have.",
        says="Each account can create up to 50 API keys",
    ),
    "59502": Row(
        Fault.REJECTED,
        "a key of the sub-account has this label already.",
        "Look at {console}; keyturn finds a key with its own label by itself.",
        says="This note name already exists. Enter a unique API key note name",
    ),
    "59503": Row(
        Fault.REJECTED,
        "a key takes at most 20 addresses.",
        "Shorten the IP list.",
        says="Each API key can bind up to 20 IP addresses",
    ),
    "59504": Row(
        Fault.NOT_SUPPORTED,
        "a sub-account's key can't withdraw.",
        says="Sub-accounts don't support withdrawals. Please use your main account for withdrawals.",
    ),
    ABSENT: Row(Fault.REJECTED, "the sub-account has no such key.", says="API key doesn't exist."),
    # Of the sub-account, not of the key that signs.
    "59508": Row(
        Fault.REJECTED,
        "the sub-account is suspended.",
        _SUPPORT,
        says="The sub account of {param0} is suspended.",
    ),
    "59510": Row(
        Fault.REJECTED,
        "the manager's account has no such sub-account.",
        "Correct `subaccount` in the inventory: OKX takes its name.",
        says="Sub-account does not exist",
    ),
    "59604": _lacks(
        "Only the API key of the main account can access this API.",
        "only a key of the main account may do it.",
        _MAIN,
    ),
}
# What a bot's private stream hears when it logs in.
_STREAM = {
    "60005": _unclear("Invalid apiKey"),
    "60006": _late("Timestamp request expired"),
    "60007": _refused("the secret does not belong to the key.", "Invalid sign"),
    "60009": _unclear("Login failure"),
    "60011": _unclear("Please log in"),
    "60014": _fewer("Requests too frequent"),
    "60024": _refused("the passphrase does not belong to the key.", "Wrong passphrase"),
    "60032": _unknown("API key doesn't exist"),
}

TABLE = ErrorTable(
    page="https://www.okx.com/docs-v5/en/#error-code",
    # The page as of 2026-07-22, in a public copy.
    read=date(2026, 11, 28),
    refusal=refusal,
    exact={**_REST, **_STREAM},
)
