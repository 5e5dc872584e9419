"""OKX's errors.

Source of codes and texts: https://www.okx.com/docs-v5/en/#error-code, read 2026-11-21. The vendor's text
stands above each row.
"""

from __future__ import annotations

from keyturn.domain.errors import ExchangeFault as Fault
from keyturn.exchanges._errors import ErrorTable, Row, barred

_FEWER = Row(Fault.RATE_LIMITED, "it asked for fewer calls.")
_UNKNOWN_KEY = Row(Fault.UNKNOWN_KEY, "it does not know the key.")
_LATE = Row(Fault.CLOCK_SKEW, "the request came from another time, by the venue's clock.")
_LACKS = Row(Fault.MISSING_PERMISSION, "the key lacks a right for it.")

#: "API key doesn't exist": the key to delete, not the one that signs.
ABSENT = "59506"

TABLE = ErrorTable(
    exact={
        # Service temporarily unavailable. Please try again later.
        "50001": Row(Fault.VENUE_DOWN, "it is being upgraded."),
        # API endpoint request timeout. (does not mean that the request was successful or failed)
        "50004": Row(Fault.OUTCOME_UNKNOWN, "it ran out of time."),
        # API endpoint is inactive or unavailable.
        "50005": Row(Fault.VENUE_DOWN, "this part of its API is off."),
        # User blocked.
        "50007": Row(Fault.REJECTED, "the account is blocked.", "Ask the venue's support."),
        # Too Many Requests
        "50011": _FEWER,
        # Systems are busy. Please try again later. (it does not say that nothing was done)
        "50013": Row(Fault.OUTCOME_UNKNOWN, "it is busy."),
        # System error. Try again later
        "50026": Row(Fault.OUTCOME_UNKNOWN, "it had an error of its own."),
        # You don't have permission to use this API endpoint
        "50030": _LACKS,
        # This endpoint requires that APIKey must be bound to IP
        "50035": Row(
            Fault.MISSING_PERMISSION,
            "only a key that is bound to addresses may do it.",
            "Bind the manager key to the addresses that keyturn calls from, at {console}.",
        ),
        # Too frequent operations, please try again later
        "50040": _FEWER,
        # This feature is temporarily unavailable while we make some improvements to it.
        "50046": Row(Fault.VENUE_DOWN, "this part of its API is off."),
        # API frozen, please contact customer service.
        "50100": Row(Fault.REJECTED, "the API is frozen for this account.", "Ask the venue's support."),
        # APIKey does not match current environment. (live and demo; no proof that the key is dead)
        "50101": Row(
            Fault.REJECTED,
            "the key belongs to the other of its environments, live and demo.",
            "Correct `environment` in the inventory, or the key.",
        ),
        # Timestamp request expired.
        "50102": _LATE,
        # Request header "OK-ACCESS-PASSPHRASE" cannot be empty.
        "50104": Row(Fault.KEY_REFUSED, "no passphrase is stored with the key."),
        # Request header "OK-ACCESS-PASSPHRASE" incorrect.
        "50105": Row(Fault.KEY_REFUSED, "the passphrase does not belong to the key."),
        # Your IP {param0} is not included in your API key's IP whitelist.
        "50110": Row(Fault.WRONG_IP, "the call came from an address that the key's list does not have."),
        # Invalid OK-ACCESS-KEY.
        "50111": Row(Fault.UNCLEAR_REFUSAL, "it did not accept the key's public part."),
        # Invalid OK-ACCESS-TIMESTAMP.
        "50112": _LATE,
        # Invalid signature.
        "50113": Row(Fault.KEY_REFUSED, "the secret does not belong to the key."),
        # Invalid authorization.
        "50114": Row(Fault.KEY_REFUSED, "it did not accept the key."),
        # API key doesn't exist
        "50119": _UNKNOWN_KEY,
        # This API key doesn't have permission to use this function
        "50120": _LACKS,
        # You can't access our services through the IP address ({param0})
        "50121": barred("it does not serve the address that the call comes from."),
        # Rate limit reached. Please refer to API docs and throttle requests accordingly.
        "58102": _FEWER,
        # Only the API key of the main account has permission.
        "59500": Row(
            Fault.MISSING_PERMISSION,
            "only a key of the main account may do it.",
            "Make the manager key in the main account, at {console}.",
        ),
        # Each account can create up to 50 API keys
        "59501": Row(Fault.KEY_QUOTA, "the account has as many keys as it may have."),
        # This note name already exists. Enter a unique API key note name
        "59502": Row(
            Fault.REJECTED,
            "a key of the sub-account has this label already.",
            "Look at {console}; keyturn finds a key with its own label by itself.",
        ),
        # Each API key can bind up to 20 IP addresses
        "59503": Row(Fault.REJECTED, "a key takes at most 20 addresses.", "Shorten the IP list."),
        # Sub-accounts don't support withdrawals. Please use your main account for withdrawals.
        "59504": Row(Fault.NOT_SUPPORTED, "a sub-account's key can't withdraw."),
        # API key doesn't exist.
        ABSENT: Row(Fault.REJECTED, "the sub-account has no such key."),
        # The sub account of {param0} is suspended.
        "59508": Row(Fault.REJECTED, "the sub-account is suspended.", "Ask the venue's support."),
        # Sub-account does not exist
        "59510": Row(
            Fault.REJECTED,
            "the manager's account has no such sub-account.",
            "Correct `subaccount` in the inventory: OKX takes its name.",
        ),
    },
)
