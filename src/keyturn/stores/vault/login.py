"""The ways to log in, each by hvac's own method; every secret is fetched anew at each login."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hvac.api.auth_methods import JWT, AppRole, Aws, Kubernetes

from keyturn.bodies import seconds
from keyturn.domain.errors import KeyturnError, StoreError
from keyturn.domain.inventory import VaultAppRole, VaultAuth, VaultAws, VaultJwt, VaultKubernetes, VaultToken
from keyturn.files import SMALL, read_file
from keyturn.stores.keys import resolve_secret
from keyturn.stores.vault.faults import FOREIGN, denied, misconfigured, silent
from keyturn.stores.vault.transport import Answer, ListedAdapter

# Whatever else stood in a header would end in an error of the HTTP library's that quotes it.
_TOKEN = re.compile(r"[!-~]+")
# For the whole of an answer of what gives this machine its AWS credentials.
_HELPER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, and for how long it is good. A lease of 0 does not end."""

    token: str = field(repr=False)
    lease: float
    renewable: bool


class Login:
    """Logs in as the inventory says.

    Args:
        name: of the store, for messages.
        auth: the inventory's entry.
        adapter: the way to the server.
        base: the folder of the inventory, which relative file names start from.
    """

    def __init__(self, name: str, auth: VaultAuth, adapter: ListedAdapter, base: Path) -> None:
        self._name = name
        self._auth = auth
        self._adapter = adapter
        self._base = base

    @property
    def by_token(self) -> bool:
        """Whether there is only a given token, and nothing to log in with."""
        return isinstance(self._auth, VaultToken)

    def __call__(self) -> Grant:
        """Log in.

        Raises:
            StoreError: `DENIED`, `MISCONFIGURED`, `UNAVAILABLE`.
        """
        if isinstance(self._auth, VaultToken):
            return self._given(self._auth)
        answer = self._ask()
        if answer.status != 200 or not isinstance(answer.body.get("auth"), dict):
            raise self._refused(answer)
        auth = answer.body["auth"]
        token = auth.get("client_token")
        if not isinstance(token, str):
            raise silent(self._name, FOREIGN, may_be_done=False)
        self._ensure_sendable(token, "See that nothing changes the server's answers on their way.")
        return Grant(token, self._lease(auth.get("lease_duration")), bool(auth.get("renewable")))

    def _ask(self) -> Answer:
        auth, adapter = self._auth, self._adapter
        if isinstance(auth, VaultAppRole):
            secret_id = self._secret(lambda: resolve_secret(auth.secret_id, self._base))
            return _answer(
                AppRole(adapter).login(auth.role_id, secret_id, use_token=False, mount_point=auth.mount)
            )
        if isinstance(auth, VaultKubernetes):
            # The kubelet replaces this file while the pod runs.
            jwt = self._secret(lambda: _file(self._base / auth.token_file))
            return _answer(Kubernetes(adapter).login(auth.role, jwt, use_token=False, mount_point=auth.mount))
        if isinstance(auth, VaultJwt):
            jwt = self._secret(lambda: resolve_secret(auth.token, self._base))
            return _answer(JWT(adapter).jwt_login(auth.role, jwt, use_token=False, path=auth.mount))
        assert isinstance(auth, VaultAws)  # noqa: S101 - the last of the union
        return self._by_aws(auth)

    def _by_aws(self, auth: VaultAws) -> Answer:
        from keyturn.stores.aws import quiet
        from keyturn.stores.aws.credentials import sendable, unusable
        from keyturn.stores.aws.endpoints import AstrayError
        from keyturn.stores.aws.sessions import bounded_session

        failure, keys = None, None
        try:
            # A profile may assume a role, and botocore logs what STS answers.
            quiet.install()
            with quiet.silently():
                found = bounded_session(None, None, _HELPER_SECONDS).get_credentials()
                keys = found.get_frozen_credentials() if found else None
        except ImportError:
            raise misconfigured(
                f"The store {self._name} logs in with AWS, and boto3 is not installed.",
                "pip install 'keyturn[aws]'",
            ) from None
        except Exception as error:  # noqa: BLE001 - sorted at once, and never let out
            failure = error
        if isinstance(failure, AstrayError):
            raise misconfigured(
                f"The AWS configuration with which the store {self._name} logs in names"
                f" {failure.fault.wrong}.",
                f"In its place {failure.fault.write}; see AWS_ENDPOINT_URL_STS and ~/.aws/config.",
            )
        if failure is not None:
            raise unusable(self._name, failure)
        if keys is None:
            raise misconfigured(
                f"The store {self._name} logs in with AWS, and this machine has no AWS credentials.",
                "Give it a role, or set up the AWS configuration: aws sts get-caller-identity",
            )
        if not sendable(keys):
            raise misconfigured(
                f"The AWS credentials that the store {self._name} logs in with hold a line end or a space.",
                "Write each alone, without the line end of the file that it came from.",
            )
        return _answer(
            Aws(self._adapter).iam_login(
                keys.access_key,
                keys.secret_key,
                session_token=keys.token,
                header_value=auth.header_value,
                role=auth.role,
                use_token=False,
                region=auth.region,
                mount_point=auth.mount,
            )
        )

    def _given(self, auth: VaultToken) -> Grant:
        token = self._secret(lambda: resolve_secret(auth.token, self._base))
        self._ensure_sendable(
            token, "Write the token alone, one line of plain letters, where the inventory says."
        )
        answer = self._adapter.call("get", "/v1/auth/token/lookup-self", token=token)
        if answer.status != 200:
            # It may be dead, or just not allowed to ask: the next call tells.
            return Grant(token, 0.0, renewable=False)
        lasting = answer.data.get("type") == "batch" or not answer.data.get("renewable")
        return Grant(token, self._lease(answer.data.get("ttl")), renewable=not lasting)

    def _lease(self, given: object) -> float:
        """Read for how long a token is good; null and 0 are for ever.

        Raises:
            StoreError: `UNAVAILABLE`, it is no time.
        """
        lease = seconds(given or 0)
        if lease is None:
            raise silent(self._name, FOREIGN, may_be_done=False)
        return lease

    def _secret(self, fetch: Callable[[], str]) -> str:
        try:
            return fetch().strip()
        except KeyturnError as error:
            problem, todo = error.what, error.todo
        raise misconfigured(f"The store {self._name} has nothing to log in with. {problem}", todo)

    def _ensure_sendable(self, token: str, todo: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise misconfigured(
                f"The token of the store {self._name} is empty, or holds characters that no token has.", todo
            )

    def _refused(self, answer: Answer) -> StoreError:
        method, mount = self._auth.method, getattr(self._auth, "mount", "")
        if answer.status == 404 or "no handler for route" in answer.errors:
            return misconfigured(
                f"The store {self._name} has no login at auth/{mount}.",
                "Correct `mount` of the store's `auth`, or enable it: vault auth enable",
            )
        return denied(
            f"The store {self._name} refused the login by {method} at auth/{mount} (HTTP {answer.status}).",
            "See that role and secret are right, not used up and not expired, then try again.",
        )


def _answer(given: object) -> Answer:
    if not isinstance(given, Answer):
        raise TypeError(type(given).__name__)
    return given


def _file(path: Path) -> str:
    problem = ""
    try:
        if text := read_file(path, SMALL, links=True).decode().strip():
            return text
        problem = "is empty"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is not text"
    raise misconfigured(f"The token file {path} {problem}.", "See that the pod mounts its service account.")
