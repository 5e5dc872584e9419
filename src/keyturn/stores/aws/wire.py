"""Calls to AWS: one session, bounded retries, nothing logged, every failure sorted.

botocore's own retries are off: it does not tell whether an earlier try had left the machine, and that
is the difference between "nothing was written" and "nobody knows".
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from keyturn.domain.errors import ProgrammingError
from keyturn.domain.urls import is_plain
from keyturn.stores.aws import quiet
from keyturn.stores.aws.answers import fits
from keyturn.stores.aws.credentials import Identity, ensure_proxy, lacking
from keyturn.stores.aws.endpoints import AstrayError
from keyturn.stores.aws.faults import ASSUME_ROLE, AwsError, Failure, Trouble, astray, refusal
from keyturn.stores.aws.sessions import bound_client

T = TypeVar("T")

# As many calls as a fleet's sweep keeps in flight, with room for reads beside them.
THREADS = 48
# Seconds before each further try. AWS's write quota of 50 calls a second refills within them.
_PAUSES = (0.1, 0.4, 1.2)
_CONNECT_SECONDS = 5.0
_IDENTITY = {"iam", "sts"}
_ABOUT_THE_ANSWER = {"ResponseMetadata"}


class Wire:
    """AWS in one region, as one identity; safe for many threads.

    Args:
        name: of the store, for messages.
        region: of every call.
        endpoint_url: in place of AWS's own for the store's service; one that speaks plain http is an
            emulator, which stands in for STS and IAM, too.
        profile: of the AWS configuration; None for boto3's default chain.
        assume_role: ARN of a role to take on; its credentials are renewed before they end.
        external_id: for that role.
        timeout: seconds to wait for an answer.
    """

    def __init__(
        self,
        name: str,
        *,
        region: str,
        endpoint_url: str | None = None,
        profile: str | None = None,
        assume_role: str | None = None,
        external_id: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.name = name
        self.region = region
        self.timeout = timeout
        self._endpoint_url = endpoint_url
        self._profile = profile
        self._assume_role = assume_role
        self._external_id = external_id
        self._clients: dict[str, Any] = {}
        self._identity: Identity | None = None
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def call(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        """Make a call; repeat it while its failure may pass.

        Every call that is made here may be repeated: writes carry a token, or name what they replace.

        Raises:
            AwsError: it failed; `unanswered` tells whether a try may have been done.
            StoreError: `MISCONFIGURED`, `DENIED`, `UNAVAILABLE`: there is nothing to sign with.
        """
        client, identity = self._ready(service)
        operation = client.meta.method_to_api_mapping[method]
        action = f"{service}:{operation}"
        shape = client.meta.service_model.operation_model(operation).output_shape
        bound = getattr(client, method)
        unanswered = False
        for pause in (*_PAUSES, 0.0):
            # Before the call, for what goes wrong here has not reached the store for certain.
            answer = identity.missing() or _once(bound, params, shape)
            if isinstance(answer, dict):
                return answer
            failure = answer
            unanswered = unanswered or failure.trouble is Trouble.UNANSWERED
            if failure.trouble in {Trouble.REFUSED, Trouble.NO_CREDENTIALS, Trouble.ASTRAY}:
                break
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing
        raise AwsError(action, failure, unanswered=unanswered)

    def client(self, service: str) -> Any:
        """Give the client of a service; the first caller makes it.

        Raises:
            StoreError: `MISCONFIGURED`, `DENIED`, `UNAVAILABLE`: there is nothing to sign with.
        """
        return self._ready(service)[0]

    def _ready(self, service: str) -> tuple[Any, Identity]:
        with self._lock:
            identity = self._as_whom()
            if service not in self._clients:
                client = None
                # botocore says of some endpoints itself that they are none; its text quotes them.
                with quiet.silently(), suppress(ValueError):
                    client = self._client_of(identity.session, service)
                quiet.install()
                if client is None:
                    raise astray(f"The AWS configuration of the store {self.name}", "no URL with a host")
                ensure_proxy(self.name, client.meta.endpoint_url)
                self._clients[service] = client
            return self._clients[service], identity

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work outside the event loop."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="keyturn-aws")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        """End the threads and the connections. The wire can still be used, and opens new ones then."""
        pool, self._pool = self._pool, None
        if pool:
            await asyncio.to_thread(pool.shutdown)
        clients, self._clients = self._clients, {}
        self._identity = None
        for client in clients.values():
            client.close()

    def _endpoint(self, service: str) -> str | None:
        url = self._endpoint_url
        return None if url and service in _IDENTITY and not is_plain(url) else url

    def _config(self) -> Any:
        from botocore import __version__ as version
        from botocore.config import Config

        return Config(
            connect_timeout=min(self.timeout, _CONNECT_SECONDS),
            read_timeout=self.timeout,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=THREADS,
            tcp_keepalive=True,
            # botocore would put its own together anew for each call, a tenth of the call's cost.
            user_agent=f"keyturn botocore/{version}",
        )

    def _as_whom(self) -> Identity:
        if self._identity is None:
            identity = Identity(self.name, self.region, self._profile, self.timeout)
            if self._assume_role is not None:
                identity.assume(self._assume_role, self._external_id, self._client_of)
            self._identity = identity
        return self._identity

    def _client_of(self, session: Any, service: str, **arguments: Any) -> Any:
        from botocore.config import Config

        # What is not encrypted stays on this machine: a proxy of the environment may be another.
        direct = Config(proxies={})
        endpoint, config = self._endpoint(service), self._config()
        plain = endpoint is not None and is_plain(endpoint)
        given = {
            "region_name": self.region,
            "endpoint_url": endpoint,
            "config": config.merge(direct) if plain else config,
        }
        client = session.client(service, **{**arguments, **given})
        if not plain and is_plain(client.meta.endpoint_url):
            # The AWS configuration names an address that the inventory does not.
            given["config"] = config.merge(direct)
            client = session.client(service, **{**arguments, **given})
        return bound_client(client, self.timeout)


def _once(
    method: Callable[..., dict[str, Any]], params: Mapping[str, Any], shape: Any
) -> dict[str, Any] | Failure:
    """Make one try. No botocore exception gets out, not even as a context: some hold the request."""
    failure: Failure | None = None
    try:
        with quiet.silently():
            answer = method(**params)
        if answer.keys() - _ABOUT_THE_ANSWER and fits(answer, shape):
            return answer
        # botocore takes a body that is no JSON for an empty answer, and any JSON for one of AWS's (1.44.5,
        # seen 2026-11-28): a proxy's page would read as "there is nothing", or "it is done". Whatever is
        # called here answers something.
        return Failure(Trouble.UNANSWERED, "UnreadableAnswer")
    except Exception as error:  # noqa: BLE001 - sorted at once, and never let out
        failure = _sorted(error)
    if failure is None:
        # botocore's own text would quote the parameter, which may be the secret.
        raise ProgrammingError(
            f"a call was built that boto3 does not take: {getattr(method, '__name__', '')}"
        )
    return failure


def _sorted(error: Exception) -> Failure | None:
    """Sort what boto3 raises; None for a mistake in our own call."""
    from botocore import exceptions as known

    if isinstance(error, AstrayError) or (
        isinstance(error, known.ClientError) and error.operation_name.startswith(ASSUME_ROLE)
    ):
        return lacking(error)
    if isinstance(error, known.ClientError):
        answer = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return refusal(str(answer.get("Code", "")), int(status), str(answer.get("Message", "")))
    kind = type(error).__name__
    if isinstance(
        error,
        (
            known.ConnectTimeoutError,
            known.EndpointConnectionError,
            known.ProxyConnectionError,
            known.SSLError,
        ),
    ):
        return Failure(Trouble.NOT_SENT, kind)
    if isinstance(
        error,
        (
            known.CredentialRetrievalError,
            known.NoCredentialsError,
            known.PartialCredentialsError,
            known.SSOError,
            known.TokenRetrievalError,
            known.RefreshWithMFAUnsupportedError,
        ),
    ):
        return Failure(Trouble.NO_CREDENTIALS, kind)
    if isinstance(error, known.ParamValidationError):
        return None
    # The rest (cut connections, time-outs, answers that cannot be read) may have reached AWS.
    return Failure(Trouble.UNANSWERED, kind)
