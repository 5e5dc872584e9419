"""Deribit's errors.

Source of codes and texts: "RPC Error Codes", https://docs.deribit.com/articles/errors, read 2026-11-21. The
vendor's name of the error and its text stand above each row.
"""

from __future__ import annotations

from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import ErrorTable, Row

_FEWER = Row(Fault.RATE_LIMITED, "it asked for fewer calls.")
_OFF = Row(Fault.VENUE_DOWN, "this part of its API is off.")
_LACKS = Row(Fault.MISSING_PERMISSION, "the key's scope does not reach that far.")
_FACTOR = Row(Fault.SECOND_FACTOR, "it demands a second factor for it.")

#: HTTP 200, `result.security_key_authorization_required`: https://docs.deribit.com/articles/security-keys
CHALLENGE = "security_key_authorization_required"
#: invalid_credentials: Invalid credentials have been used.
INVALID_CREDENTIALS = "13004"
#: unauthorized: Wrong or expired authorization token or bad signature. Wrong addresses come here too.
UNAUTHORIZED = "13009"

LATE = Row(Fault.CLOCK_SKEW, "the request came from another time, by the venue's clock.")
UNCLEAR = Row(
    Fault.UNCLEAR_REFUSAL, "it does not know the key, or the key is disabled, or the secret is not the key's."
)
WRONG_IP = Row(
    Fault.WRONG_IP,
    "the call came from an address that the key's list does not have (it has the same code for a bad"
    " signature, which this one does not seem to be).",
)

TABLE = ErrorTable(
    exact={
        # api_not_enabled: User didn't enable API for the Account.
        "9999": Row(Fault.MISSING_PERMISSION, "the account has its API switched off."),
        # authorization_required: Authorization issue, invalid or absent signature etc.
        "10000": WRONG_IP,
        # error: Some general failure, no public information available.
        "10001": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own."),
        # too_many_requests: Allowed request rate has been exceeded.
        "10028": _FEWER,
        # retry: Request can't be processed right now and should be retried.
        "10040": Row(Fault.VENUE_DOWN, "it is busy."),
        # settlement_in_progress
        "10041": Row(Fault.VENUE_DOWN, "it is settling."),
        # too_many_concurrent_requests
        "10066": _FEWER,
        # permission_denied: Permission for the operation has been denied.
        "11042": _LACKS,
        # system_maintenance: System is under maintenance.
        "11051": Row(Fault.VENUE_DOWN, "it is under maintenance."),
        # unauthenticated_public_requests_temporarily_disabled
        "11056": _OFF,
        # internal_server_error: Unhandled server error.
        "11094": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own."),
        # security_key_authorization_over_limit: Too many failed security key authorizations.
        "12998": _FACTOR,
        INVALID_CREDENTIALS: UNCLEAR,
        # request_failed: Request failed because of invalid input or internal failure.
        "13008": Row(Fault.OUTCOME_UNKNOWN, "it took offence, or had an error of its own."),
        UNAUTHORIZED: WRONG_IP,
        # unavailable_in_subaccount: Subaccount restrictions.
        "13012": Row(Fault.REJECTED, "a sub-account can't do it.", "Use a key of the main account."),
        # forbidden: Not enough permissions to execute the request, forbidden.
        "13021": _LACKS,
        # method_switched_off_by_admin: API method temporarily switched off by the administrator.
        "13025": _OFF,
        # temporarily_unavailable: The requested service is not responding or processing the response takes
        # too long.
        "13028": Row(Fault.OUTCOME_UNKNOWN, "it ran out of time."),
        # scope_exceeded: Error returned after the user tried to edit / delete an API key using an authorized
        # key connection with insufficient scope.
        "13403": _LACKS,
        # unavailable: Method is currently not available.
        "13503": _OFF,
        # security_key_authorization_error
        "13668": _FACTOR,
        # timed_out: Server did not manage to process request when it was valid.
        "13888": Row(Fault.OUTCOME_UNKNOWN, "it ran out of time."),
        # security_key_setup_required: Not allowed without a full security key setup.
        "13904": Row(
            Fault.SECOND_FACTOR,
            "it wants a second factor set up for the account first.",
            "Set up the account's security keys at {console}.",
        ),
        CHALLENGE: _FACTOR,
    },
    broad={
        # 13008 with a reason; the code for a full account is not published.
        "max_api_keys": Row(Fault.KEY_QUOTA, "the account has as many keys as it may have."),
        "too_many_api_keys": Row(Fault.KEY_QUOTA, "the account has as many keys as it may have."),
    },
)
