"""What signs the calls: a session of boto3, its credentials, and why they cannot be had.

Credentials come from helpers, files and other services. Their exceptions quote what the helper printed, or
the line that could not be parsed, and either may hold a secret: none gets out, not even as a context.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.machine import proxy_for, usable_proxy
from keyturn.stores.aws import quiet
from keyturn.stores.aws.endpoints import AstrayError, faulty_variable, watch
from keyturn.stores.aws.faults import Failure, Trouble, astray, refusal

_SESSION_NAME = "keyturn"
_TRY = "try `aws sts get-caller-identity`."
_SENDABLE = re.compile(r"[!-~]+")


class Identity:
    """As whom the calls of a store are made.

    Args:
        store: its name, for messages.
        region: of the session.
        profile: of the AWS configuration; None for boto3's default chain.
        seconds: for the whole of an answer of what gives credentials.

    Raises:
        StoreError: `MISCONFIGURED`, `DENIED`, `UNAVAILABLE`; the text names the kind of failure alone.
    """

    def __init__(self, store: str, region: str, profile: str | None, seconds: float) -> None:
        self._region = region
        if (found := faulty_variable(os.environ)) is not None:
            raise _misconfigured(
                f"The variable {found[0]}, which the store {store} heeds, names {found[1].wrong}.",
                f"In {found[0]} {found[1].write}; or unset it.",
            )
        failure: Exception | None = None
        try:
            from keyturn.stores.aws.sessions import bounded_session

            quiet.install()
            with quiet.silently():
                self.session = bounded_session(region, profile, seconds)
                self._credentials = self.session.get_credentials()
        except Exception as error:  # noqa: BLE001 - sorted at once, and never let out
            failure = error
        if failure is not None:
            raise unusable(store, failure)
        self._store = store
        if self._credentials is not None and not self._renewed():
            self._ensure_sendable()

    def assume(self, role: str, external_id: str | None, sts_of: Callable[..., Any]) -> None:
        """Go on as a role; its credentials are fetched by the first call, and anew before they end.

        Args:
            role: its ARN.
            external_id: for the role.
            sts_of: makes a client of STS from a session and boto3's arguments.
        """
        import boto3
        import botocore.session
        from botocore.credentials import (
            AssumeRoleCredentialFetcher,
            CredentialProvider,
            CredentialResolver,
            DeferredRefreshableCredentials,
        )

        source, base = self.session, self._credentials
        if base is None:
            # Without a source nothing can be assumed: let the first call say so.
            return
        extra = {"RoleSessionName": _SESSION_NAME}
        if external_id is not None:
            extra["ExternalId"] = external_id

        def sts(service: str, **arguments: Any) -> Any:
            return sts_of(source, service, **arguments)

        fetcher = AssumeRoleCredentialFetcher(sts, base, role, extra_args=extra)

        class Role(CredentialProvider):  # type: ignore[misc, unused-ignore]
            METHOD = "keyturn-assume-role"

            def load(self) -> Any:
                return DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)

        core = botocore.session.Session()
        core.register_component("credential_provider", CredentialResolver([Role()]))
        self.session = boto3.session.Session(botocore_session=core, region_name=self._region)
        watch(self.session)
        self._credentials = self.session.get_credentials()

    def missing(self) -> Failure | None:
        """Fetch the credentials if they are about to end; give the failure, which comes before any call."""
        if not self._renewed() or not self._credentials.refresh_needed():
            return None
        try:
            with quiet.silently():
                self._credentials.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001 - sorted at once, and never let out
            return lacking(error)
        self._ensure_sendable()
        return None

    def _renewed(self) -> bool:
        from botocore.credentials import RefreshableCredentials

        return isinstance(self._credentials, RefreshableCredentials)

    def _ensure_sendable(self) -> None:
        """Refuse credentials that no header can carry, or that sign nothing right.

        botocore takes them as they are: its own error would quote the header, and AWS would seem silent.
        """
        if not sendable(self._credentials.get_frozen_credentials()):
            raise _misconfigured(
                f"The AWS credentials of the store {self._store} hold a line end or a space.",
                f"Write each alone, without the line end of the file that it came from; {_TRY}",
            )


def sendable(credentials: Any) -> bool:
    """Tell whether these frozen credentials have only characters that AWS gives out."""
    parts = (credentials.access_key, credentials.secret_key, credentials.token or "-")
    return all(_SENDABLE.fullmatch(part) for part in parts)


def ensure_proxy(store: str, url: str) -> None:
    """Refuse a proxy of the environment that cannot be used; botocore would say that AWS takes no connection.

    Raises:
        StoreError: `MISCONFIGURED`.
    """
    proxy = proxy_for(url)
    if proxy is not None and not usable_proxy(proxy):
        raise _misconfigured(
            f"The environment names a proxy for the store {store} that is no HTTP proxy.",
            f"Set {urlsplit(url).scheme}_proxy to http://HOST:PORT, or name the endpoint in no_proxy.",
        )


def lacking(error: Exception) -> Failure:
    """Sort what getting credentials raises; the store's own call was not made.

    The code of a refusal begins with the operation, so that nobody takes it for an answer of the store.
    """
    from botocore import exceptions as known

    kind = type(error).__name__
    if isinstance(error, AstrayError):
        return Failure(Trouble.ASTRAY, error.fault.wrong)
    if isinstance(error, known.ClientError):
        answer = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        failure = refusal(str(answer.get("Code", "")), int(status), str(answer.get("Message", "")))
        trouble = {
            Trouble.REFUSED: Trouble.NO_CREDENTIALS,
            Trouble.UNANSWERED: Trouble.NOT_SENT,
        }.get(failure.trouble, failure.trouble)
        return Failure(trouble, f"{error.operation_name}: {failure.code}")
    transport = isinstance(error, (known.ConnectionError, known.HTTPClientError))
    # The endpoint of ECS and EKS: an agent that starts, or has too much to do.
    container = (
        isinstance(error, known.CredentialRetrievalError) and error.kwargs.get("provider") == "container-role"
    )
    return Failure(Trouble.NOT_SENT if transport or container else Trouble.NO_CREDENTIALS, kind)


def unusable(store: str, error: Exception) -> StoreError:
    """Build the error for credentials that cannot be had, by the kind of the exception."""
    if isinstance(error, ImportError):
        return _misconfigured(
            f"The store {store} is in AWS, and boto3 is not installed.", "pip install 'keyturn[aws]'"
        )
    from botocore import exceptions as known

    kind = type(error).__name__
    if isinstance(error, AstrayError):
        return astray(f"The AWS configuration of the store {store}", error.fault.wrong)
    if isinstance(error, known.ProfileNotFound):
        return _misconfigured(
            f"The AWS configuration has no profile {error.kwargs.get('profile')}.",
            f"Correct `profile` of the store {store} or AWS_PROFILE, or add it to ~/.aws/config.",
        )
    if isinstance(error, known.ConfigParseError):
        return _misconfigured(
            f"The AWS configuration {error.kwargs.get('path')} cannot be read ({kind}).",
            f"Correct that file, then {_TRY}",
        )
    if isinstance(error, (known.InvalidConfigError, known.ConfigNotFound)):
        return _misconfigured(
            f"The AWS configuration of the store {store} does not hold together ({kind}).",
            f"Correct its profile in ~/.aws/config; {_TRY}",
        )
    if lacking(error).trouble is Trouble.NO_CREDENTIALS:
        fault, todo = StoreFault.DENIED, f"Mend the variable, helper or file that they come from; {_TRY}"
    else:
        fault, todo = StoreFault.UNAVAILABLE, f"See that what gives them to this machine runs; {_TRY}"
    what = f"The AWS credentials of the store {store} cannot be had ({kind})."
    return StoreError(fault, what, now="Nothing was written.", todo=todo)


def _misconfigured(what: str, todo: str) -> StoreError:
    return StoreError(StoreFault.MISCONFIGURED, what, now="Nothing was contacted.", todo=todo)
