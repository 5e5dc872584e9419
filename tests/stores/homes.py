"""A home for each kind of store: the adapter as it is, its server in this process, without a network.

The network between them is what other tests are about; without it a whole rotation takes a few hundredths of
a second, and can die at any single call that would have gone over the wire.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from moto.core.exceptions import JsonRESTError, ServiceException
from moto.core.responses import ActionResult
from moto.secretsmanager.models import secretsmanager_backends
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.ssm.models import ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from keyturn.domain.inventory import VaultKv2Store as VaultEntry
from keyturn.simulator.vault import Seen, VaultSimulator
from keyturn.simulator.vault_kv import KvMount
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.aws.faults import AwsError, refusal
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.keys import generate_identity
from keyturn.stores.vault.transport import Answer
from keyturn.stores.vault_kv2 import VaultKv2Store, open_vault_kv2
from keyturn.testing.crash import Killed
from keyturn.testing.store_world import Home

from .strict_moto import patch_parameter_store, patch_secrets_manager

T = TypeVar("T")

REGION, ACCOUNT = "eu-central-1", "123456789012"
MOUNT, PENDING = "kt", "keyturn/pending"


class Line:
    """Counts the calls to a server, and lets the process die at one of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.die_at: int | None = None
        self.after = False

    def arm(self, at: int | None, *, after: bool = False) -> None:
        """Die at call number `at`, counted from now: before it is carried out, or after."""
        self.calls, self.die_at, self.after = [], at, after

    def carry(self, name: str, effect: Callable[[], T]) -> T:
        """Make a call."""
        number = len(self.calls)
        self.calls.append(name)
        if number == self.die_at and not self.after:
            raise Killed
        result = effect()
        if number == self.die_at:
            raise Killed
        return result


async def at_once(work: Callable[[], T]) -> T:
    """Do blocking work here and now: nothing blocks without a network."""
    return work()


class AgeHome:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._root, key = folder / "store", folder / "age.key"
        generate_identity(key)
        self._text = key.read_text()

    def clear(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def open(self) -> AgeFilesStore:
        store = AgeFilesStore(self._root, lambda: self._text)
        store._in_thread = at_once
        return store

    def keys_kept(self, path: str) -> set[str]:
        sealer = self.open().sealer()
        return {sealer.open(file.read_bytes())[0].key_ref for file in (self._root / path).glob("*.age")}


class VaultHome:
    """Vault's simulator."""

    def __init__(self, folder: Path) -> None:
        self.line = Line()
        self._simulator = VaultSimulator()
        self._folder, token = folder, folder / "token"
        token.touch(mode=0o600)
        token.write_text(self._simulator.root)
        self._entry = VaultEntry.model_validate(
            {
                "kind": "vault_kv2",
                "addresses": ["http://127.0.0.1:1"],
                "mount": MOUNT,
                "pending_prefix": PENDING,
                "auth": {"method": "token", "token": {"file": str(token)}},
            }
        )

    def clear(self) -> None:
        self._simulator.mounts[MOUNT] = KvMount(2)

    def open(self) -> VaultKv2Store:
        store = open_vault_kv2("vault", self._entry, self._folder)
        store._in_thread = at_once
        store._session._adapter.call = self._call
        return store

    def _call(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: Any = None,
        params: Any = None,
        changes: bool = False,
    ) -> Answer:
        path = url.removeprefix("/v1/")
        seen = Seen(method.upper(), path, token, None, json.loads(json.dumps(body or {})))
        query = {k: str(v) for k, v in (params or {}).items()}
        reply = self.line.carry(f"{method} {path}", lambda: self._simulator.handle(seen, query))
        return Answer(reply.status, json.loads(json.dumps(reply.body or {})))

    def keys_kept(self, path: str) -> set[str]:
        secrets = self._simulator.mounts[MOUNT].secrets
        found = [secrets[where] for where in (path, f"{PENDING}/{path}") if where in secrets]
        held = [version.data or {} for secret in found for version in secret.versions.values()]
        return {data["api_key"] for data in held if "api_key" in data}


class _DirectWire(Wire):
    """Asks moto's rules without botocore and HTTP between."""

    def __init__(self, line: Line) -> None:
        super().__init__("aws", region=REGION, timeout=0.0)
        self._line = line

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await at_once(work)

    def call(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        kind = SecretsManagerResponse if service == "secretsmanager" else SimpleSystemManagerResponse
        asked = kind()
        asked.body, asked.querystring, asked.uri_match = json.dumps(params), {}, {}
        asked.region, asked.current_account, asked.response_headers = REGION, ACCOUNT, {}
        name = "".join(word.title() for word in method.split("_"))
        try:
            answer = self._line.carry(f"{service}:{name}", getattr(asked, method))
        except JsonRESTError as error:
            code, message, status = error.error_type, error.message, int(error.code)
        except ServiceException as error:
            code, message, status = error.code, error.message, 400
        else:
            body = answer.result if isinstance(answer, ActionResult) else json.loads(answer)
            return dict(_dated(body))
        raise AwsError(f"{service}:{name}", refusal(code, status, message), unanswered=False)


def _dated(value: Any) -> Any:
    """Turn the numbers of an answer that are times into times, as botocore does."""
    if isinstance(value, dict):
        return {
            name: datetime.fromtimestamp(each, UTC)
            if name.endswith("Date") and isinstance(each, int | float)
            else _dated(each)
            for name, each in value.items()
        }
    return [_dated(each) for each in value] if isinstance(value, list) else value


class _AwsHome:
    """moto's rules, tightened to AWS's."""

    kind: Callable[..., Any]

    def __init__(self, _folder: Path) -> None:
        self.line = Line()
        self._wire = _DirectWire(self.line)
        self._prefix = ""

    def clear(self) -> None:
        """Begin elsewhere, and forget what was: moto looks through everything for each call."""
        self._prefix = f"{uuid4().hex}/"
        secretsmanager_backends[ACCOUNT][REGION].secrets.clear()
        ssm_backends[ACCOUNT][REGION]._parameters.clear()

    def open(self) -> Any:
        return self.kind(self._wire, prefix=self._prefix)


class SecretsManagerHome(_AwsHome):
    kind = AwsSecretsManager

    def keys_kept(self, path: str) -> set[str]:
        """Give what has a label: AWS deletes the others, in its own time, and takes no order to."""
        secret = secretsmanager_backends[ACCOUNT][REGION].secrets[self._prefix + path]
        return keys_in(v["secret_string"] for v in secret.versions.values() if v["version_stages"])


class ParameterStoreHome(_AwsHome):
    kind = AwsParameterStore

    def keys_kept(self, path: str) -> set[str]:
        """Give the newest version of each parameter, but of those that the next write is to delete.

        A parameter's history can only go with the parameter.
        """
        stored = ssm_backends[ACCOUNT][REGION]._parameters
        own = f"/{self._prefix}{path}"
        newest = {
            name: versions[-1].decrypt(versions[-1].value)
            for name, versions in stored.items()
            if name.startswith(own)
        }
        doomed = json.loads(newest.get(f"{own}.keyturn", "{}")).get("trash", ())
        return keys_in(text for name, text in newest.items() if name not in doomed)


def keys_in(documents: Any) -> set[str]:
    """Give the key refs in documents."""
    read = [json.loads(text) for text in documents]
    return {document["api_key"] for document in read if "api_key" in document}


KINDS: dict[str, Callable[[Path], Home]] = {
    "age files": AgeHome,
    "vault": VaultHome,
    "secrets manager": SecretsManagerHome,
    "parameter store": ParameterStoreHome,
}


def tighten() -> None:
    """Hold moto to AWS's rules in this process."""
    patch_secrets_manager()
    patch_parameter_store()
