"""Sessions of botocore whose helpers read within bounds: instance metadata, container agents, SSO, STS.

botocore has no public way to bound what it reads, and reads each answer to its end (1.44.5, seen 2026-11-28).
What a `credential_process` prints it reads whole, too; that is a program of this machine, which the AWS
configuration names.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from keyturn.stores.aws.answers import Bounded
from keyturn.stores.aws.endpoints import watch

# Where the providers of credentials that ask over HTTP by themselves keep what asks (instances, containers).
_FETCHERS = ("_role_fetcher", "_fetcher")


def bounded_session(region: str | None, profile: str | None, seconds: float) -> Any:
    """Make a session of boto3 that gives on no answer which is longer, or slower, than a store's, and whose
    calls go to no URL that keyturn does not call.

    Args:
        region: of the session.
        profile: of the AWS configuration; None for boto3's default chain.
        seconds: for the whole of an answer.

    Raises:
        Exception: botocore's own; its text may quote what could not be parsed.
    """
    import boto3
    import botocore.session

    class BoundedSession(botocore.session.Session):  # type: ignore[misc, unused-ignore]
        def create_client(self, *args: Any, **kwargs: Any) -> Any:
            return bound_client(super().create_client(*args, **kwargs), seconds)

    core = BoundedSession()
    session = boto3.session.Session(botocore_session=core, profile_name=profile, region_name=region)
    watch(session)
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    for provider in core.get_component("credential_provider").providers:
        for name in _FETCHERS:
            if (fetcher := getattr(provider, name, None)) is not None:
                fetcher._session = Bounded(fetcher._session, seconds)  # noqa: SLF001 - see above
    return session


@cache
def _loader(paths: str | None) -> Any:
    """Give what reads the descriptions of services: a tenth of a second each, which all sessions share.

    Args:
        paths: where the AWS configuration says that there are more of them.
    """
    from botocore.loaders import create_loader

    return create_loader(paths)


def bound_client(client: Any, seconds: float) -> Any:
    """Let a client of botocore read its answers within bounds."""
    endpoint = client._endpoint  # noqa: SLF001 - botocore has no public way to bound what it reads
    if not isinstance(endpoint.http_session, Bounded):
        endpoint.http_session = Bounded(endpoint.http_session, seconds)
    return client
