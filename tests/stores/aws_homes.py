"""Homes for the two kinds of AWS: moto's classes in this process, held to AWS's rules."""

from __future__ import annotations

import json
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

from keyturn.stores.aws.faults import AwsError, refusal
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire

from .homes import Line, at_once
from .strict_moto import tighten

T = TypeVar("T")

REGION, ACCOUNT = "eu-central-1", "123456789012"

tighten()


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
