"""Where calls to AWS go: nowhere that the rule for URLs does not take.

Inventory, environment and AWS configuration may each name an endpoint, of each service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.domain.urls import BASE, NOTICE, UrlFault, url_fault

# AWS_ENDPOINT_URL for all services, and with an underscore and the name of one behind it.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html (read 2026-11-28)
_VARIABLES = "AWS_ENDPOINT_URL"


class AstrayError(Exception):
    """A call was about to go to a URL that keyturn does not call."""

    def __init__(self, fault: UrlFault) -> None:
        super().__init__(fault.wrong)
        self.fault = fault


def faulty_variable(environ: Mapping[str, str]) -> tuple[str, UrlFault] | None:
    """Give a variable of the environment that names no endpoint to call, and why."""
    for name in sorted(environ):
        steers = name.startswith(_VARIABLES) and environ[name]
        if steers and (fault := url_fault(environ[name], BASE)) is not None:
            return name, fault
    return None


def watch(session: Any) -> None:
    """Let no call of a session of boto3 go astray, those included that botocore makes for credentials."""
    session.events.register("before-call", _look)


def _look(params: Mapping[str, Any], **_: Any) -> None:
    """Look where a call goes that is about to be made.

    Raises:
        AstrayError: to a URL that is not called.
    """
    # A call may have a query of its own.
    if (fault := url_fault(params["url"], NOTICE)) is not None:
        raise AstrayError(fault)
