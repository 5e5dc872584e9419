"""Deribit's errors: what each code means, with its name and the sentence that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from keyturn.bodies import seconds
from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import ErrorTable, Late, Refusal, Row
from keyturn.exchanges._fields import mapping, millis, name, text

_SUPPORT = "Ask the venue's support."
#: HTTP 200, `result.security_key_authorization_required`: https://docs.deribit.com/articles/security-keys
CHALLENGE = "security_key_authorization_required"
#: Unknown, disabled or not the secret's: one code for the three.
INVALID_CREDENTIALS = "13004"
#: A bad signature, a wrong address, a wrong clock: one code for the three.
UNAUTHORIZED = "13009"

# A signature holds for 60 seconds ("Authentication" page, read 2026-11-21). The venue judges skew and travel
# time together, and its answer tells the skew alone: what is left of the window must be more than a call
# takes.
_VALID_SECONDS = 60.0
_ADDRESS = (
    "the call came from an address that the key's list does not have (it has the same code for a bad"
    " signature, which this one does not seem to be)."
)


def _fewer(says: str) -> Row:
    return Row(Fault.RATE_LIMITED, "it asked for fewer calls.", says=says)


def _off(says: str, words: str = "this part of its API is off.") -> Row:
    return Row(Fault.VENUE_DOWN, words, says=says)


def _open(says: str, words: str = "it had an error of its own.") -> Row:
    return Row(Fault.OUTCOME_UNKNOWN, words, says=says)


def _lacks(says: str) -> Row:
    return Row(Fault.MISSING_PERMISSION, "the key's scope does not reach that far.", says=says)


def _factor(says: str) -> Row:
    return Row(Fault.SECOND_FACTOR, "it demands a second factor for it.", says=says)


def _locked(words: str, says: str) -> Row:
    return Row(Fault.KEY_REFUSED, words, _SUPPORT, says=says)


def _full(seen: str) -> Row:
    return Row(Fault.KEY_QUOTA, "the account has as many keys as it may have.", seen=seen)


def _wrong(says: str) -> Row:
    return Row(Fault.REJECTED, "it takes the request for a wrong one.", says=says)


def refusal(body: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
    """Read what an answer refuses; None when it grants.

    Raises:
        LookupError, TypeError, ValueError: it is not in Deribit's form.
    """
    error = body.get("error")
    if error is None:
        result = body["result"]
        challenged = isinstance(result, dict) and bool(result.get(CHALLENGE))
        return Refusal(CHALLENGE) if challenged else None
    error = mapping(error)
    data = error.get("data")
    told = data if isinstance(data, dict) else {}
    return Refusal(
        name(error["code"]),
        text=f"{text(error.get('message'))} {text(told.get('reason'))}",
        retry_after=seconds(told.get("wait")),
        server_time=millis(int(name(body["usIn"])) // 1000) if body.get("usIn") else None,
    )


UNCLEAR = Row(
    Fault.UNCLEAR_REFUSAL,
    "it does not know the key, or the key is disabled, or the secret is not the key's.",
    says="invalid_credentials: Invalid credentials have been used.",
)

TABLE = ErrorTable(
    page="https://docs.deribit.com/articles/errors",
    # The page as of 2026-03-07, in public copies (github.com/joaquinbejar/deribit-base, doc/DeribitAPI.md).
    read=date(2026, 11, 28),
    refusal=refusal,
    late=Late(frozenset({INVALID_CREDENTIALS, UNAUTHORIZED}), _VALID_SECONDS / 2),
    exact={
        "-32602": _wrong("Invalid params"),
        "-32601": _wrong("Method not found"),
        "-32700": _wrong("Parse error"),
        "-32000": _wrong("Missing params"),
        "11029": _wrong("invalid_arguments: Some invalid input has been detected."),
        "11049": _wrong("bad_arguments: Several bad arguments have been passed."),
        "11050": _wrong("bad_request: Request has not been parsed properly."),
        "13010": _wrong("value_required: Invalid input, missing value."),
        "13016": _wrong("invalid_input: Invalid input."),
        "13020": _wrong("not_found: Instrument is not found, invalid instrument name."),
        "9999": Row(
            Fault.MISSING_PERMISSION,
            "the account has its API switched off.",
            seen="ccxt 4.5.90, 2026-11-28, and not in the page: User didn't enable API for the Account",
        ),
        "10000": Row(
            Fault.WRONG_IP,
            _ADDRESS,
            says="authorization_required: Authorization issue, invalid or absent signature etc.",
        ),
        "10001": _open("error: Some general failure, no public information available."),
        "10028": _fewer("too_many_requests: Allowed request rate has been exceeded."),
        "10040": _off(
            "retry: Request can't be processed right now and should be retried.", words="it is busy."
        ),
        "10041": _off("settlement_in_progress: Settlement is in progress.", words="it is settling."),
        "10047": _fewer(
            "matching_engine_queue_full: Reached limit of pending Matching Engine requests for user."
        ),
        "10048": _off("not_on_this_server: The requested operation is not available on this server."),
        "10066": _fewer(
            "too_many_concurrent_requests: The client has sent too many public requests that have not yet"
            " been executed."
        ),
        # "Some errors which are not considered as very often": whether anything was done, it does not say.
        "11031": _open(
            "other_error <Error>: Some errors which are not considered as very often, more info may be"
            " specified in <Error>."
        ),
        "11042": _lacks("permission_denied: Permission for the operation has been denied."),
        "11051": _off("system_maintenance: System is under maintenance.", words="it is under maintenance."),
        "11056": _off("unauthenticated_public_requests_temporarily_disabled"),
        "11094": _open("internal_server_error: Some unhandled error on server."),
        "11098": _locked("the account is locked.", "account_locked: Account locked."),
        "12998": _factor(
            "security_key_authorization_over_limit: Too many failed security key authorizations."
        ),
        "13002": Row(
            Fault.KEY_REFUSED,
            "the account is blocked.",
            _SUPPORT,
            seen="ccxt 4.5.90, 2026-11-28, and not in the page: account_blocked, Account is blocked by admin",
        ),
        INVALID_CREDENTIALS: UNCLEAR,
        "13007": Row(
            Fault.UNCLEAR_REFUSAL,
            "it did not accept the key.",
            says="user_not_found: User's security code has been changed or wrong.",
        ),
        "13008": _open(
            "request_failed: Request failed because of invalid input or internal failure.",
            words="it took offence, or had an error of its own.",
        ),
        UNAUTHORIZED: Row(
            Fault.WRONG_IP,
            _ADDRESS,
            says="unauthorized: Wrong or expired authorization token or bad signature.",
        ),
        "13012": Row(
            Fault.REJECTED,
            "a sub-account can't do it.",
            "Use a key of the main account.",
            says="unavailable_in_subaccount: Subaccount restrictions.",
        ),
        "13021": _lacks("forbidden: Not enough permissions to execute the request, forbidden."),
        "13025": _off(
            "method_switched_off_by_admin: API method temporarily switched off by the administrator."
        ),
        "13028": _open(
            "temporarily_unavailable: The requested service is not responding or processing the response"
            " takes too long.",
            words="it ran out of time.",
        ),
        "13403": _lacks(
            "scope_exceeded: Error returned after the user tried to edit / delete an API key using an"
            " authorized key connection with insufficient scope."
        ),
        "13503": _off("unavailable: Method is currently not available."),
        "13666": _open(
            "request_cancelled_by_user: Request was cancelled by the user with other api request.",
            words="it says that the request was cancelled.",
        ),
        "13668": _factor("security_key_authorization_error"),
        "13888": _open(
            "timed_out: Server did not manage to process request when it was valid.",
            words="it ran out of time.",
        ),
        "13904": Row(
            Fault.SECOND_FACTOR,
            "it wants a second factor set up for the account first.",
            "Set up the account's security keys at {console}.",
            says="security_key_setup_required: Not allowed without a full security key setup.",
        ),
        CHALLENGE: _factor(
            "security_key_authorization_required (https://docs.deribit.com/articles/security-keys)"
        ),
    },
    broad={
        # 13008 with a reason; the code for a full account is not published.
        "max_api_keys": _full(
            "No page and no capture shows it: the reason of 13008 as other limits are named, 2026-11-28"
        ),
        "too_many_api_keys": _full(
            "No page and no capture shows it: the reason of 13008 as other limits are named, 2026-11-28"
        ),
    },
)
