"""moto's Secrets Manager and Parameter Store tightened to AWS's documented rules.

Each patch names the rule of AWS that moto 5.2.5 lacks.
"""

from __future__ import annotations

import json
import threading
import time
from functools import cache
from typing import Any

from moto.kms.models import kms_backends
from moto.secretsmanager import models
from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceExistsException,
    SecretNotFoundException,
    SecretsManagerClientError,
)
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.ssm import models as ssm
from moto.ssm.exceptions import ValidationException

from .slow_region import SLOW_REGION, SLOW_SECONDS

Backend = models.SecretsManagerBackend
LOCK = threading.RLock()
LARGEST, MOST_LABELS = 65536, 20
OWN_LABELS = ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS")


def found(backend: Any, secret_id: str) -> Any:
    """Give a secret that may be changed. Scheduled for deletion: refused, whatever is asked."""
    if not backend._is_valid_identifier(secret_id):
        raise SecretNotFoundException
    secret = backend.secrets[secret_id]
    if secret.is_deleted():
        raise InvalidRequestException(
            "You can't perform this operation on the secret because it was marked for deletion."
        )
    return secret


def holder(secret: Any, label: str) -> str | None:
    return next((i for i, v in secret.versions.items() if label in v["version_stages"]), None)


def need_key(backend: Any, kms_key_id: str | None, code: str) -> None:
    """A key that is disabled or not there neither encrypts nor decrypts."""
    if not kms_key_id or kms_key_id == Backend.DEFAULT_KMS_KEY_ALIAS:
        return
    kms = kms_backends[backend.account_id][backend.region_name]
    key = kms.keys.get(kms_key_id.rpartition("/")[2])
    if key is None or not key.enabled:
        raise SecretsManagerClientError(code, "The KMS key is not available, enabled, or in a valid state.")


def put(
    backend: Any,
    secret_id: str,
    secret_string: Any,
    secret_binary: Any,
    client_request_token: str,
    version_stages: list[str],
) -> str:
    token = client_request_token
    with LOCK:
        secret = found(backend, secret_id)
        backend._client_request_token_validator(token)
        need_key(backend, secret.kms_key_id, "EncryptionFailure")
        if len(version_stages) > MOST_LABELS:
            raise InvalidParameterException("You can't attach more than 20 staging labels to a version.")
        if len(str(secret_string or secret_binary or "").encode()) > LARGEST:
            raise InvalidParameterException("The secret value is too long.")
        old = secret.versions.get(token)
        if old is not None:
            # A version never changes, whatever label it has; the same again does nothing.
            if (old.get("secret_string"), old.get("secret_binary")) != (secret_string, secret_binary):
                raise ResourceExistsException("You can't use this ClientRequestToken: it is in use.")
            return str(secret.to_short_dict(include_version_stages=True, version_id=token))
        labels = list(version_stages)
        if not secret.versions and "AWSCURRENT" not in labels:
            labels.append("AWSCURRENT")
        version = {"version_id": token, "createdate": time.time(), "version_stages": []}
        if secret_string is not None:
            version["secret_string"] = secret_string
        if secret_binary is not None:
            version["secret_binary"] = secret_binary
        secret.versions[token] = version
        for label in labels:
            attach(secret, label, token)
        return str(secret.to_short_dict(include_version_stages=True, version_id=token))


def attach(secret: Any, label: str, version_id: str) -> None:
    """A label is on one version; AWSPREVIOUS follows AWSCURRENT, and so does the default version."""
    before = holder(secret, label)
    if before == version_id:
        return
    if before is not None:
        secret.versions[before]["version_stages"].remove(label)
    secret.versions[version_id]["version_stages"].append(label)
    secret.changed_at = time.monotonic()
    if label == "AWSCURRENT":
        secret.default_version_id = version_id
        if before is not None:
            attach(secret, "AWSPREVIOUS", before)


def move(
    backend: Any,
    secret_id: str,
    version_stage: str,
    remove_from_version_id: str | None,
    move_to_version_id: str | None,
) -> Any:
    """All is checked before anything is changed."""
    label, source, target = version_stage, remove_from_version_id, move_to_version_id
    with LOCK:
        secret = found(backend, secret_id)
        for version_id in (source, target):
            if version_id and version_id not in secret.versions:
                raise InvalidParameterException(f"Not a valid version: {version_id}")
        now = holder(secret, label)
        if target and now not in (None, target) and source != now:
            raise InvalidParameterException(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently"
                f" attached to version {now}, so you must name that version in RemoveFromVersionId."
            )
        if source and now != source:
            raise InvalidParameterException(f"The staging label {label} is not attached to version {source}.")
        if label == "AWSCURRENT" and not target:
            raise InvalidParameterException("You can only move staging label AWSCURRENT to another version.")
        if target:
            if len(secret.versions[target]["version_stages"]) >= MOST_LABELS:
                raise SecretsManagerClientError("LimitExceededException", "Too many staging labels.")
            attach(secret, label, target)
        elif source:
            secret.versions[source]["version_stages"].remove(label)
        return secret.arn, secret.name


def stages(secret: Any) -> dict[str, list[str]]:
    """Versions without a label are not shown."""
    return {i: v["version_stages"] for i, v in secret.versions.items() if v["version_stages"]}


def list_versions(response: Any) -> str:
    with LOCK:
        backend = response.backend
        secret = found(backend, response._get_param("SecretId"))
        deprecated = response._get_param("IncludeDeprecated", if_none=False)
        rows = [
            {"VersionId": i, "CreatedDate": v["createdate"], "VersionStages": v["version_stages"]}
            for i, v in secret.versions.items()
            if v["version_stages"] or deprecated
        ]
        first = int(response._get_param("NextToken") or 0)
        # Smaller pages than are asked for: AWS may give fewer, and a client must follow.
        page = {"ARN": secret.arn, "Name": secret.name, "Versions": rows[first : first + 5]}
        if first + 5 < len(rows):
            page["NextToken"] = str(first + 5)
        return json.dumps(page)


def patch_secrets_manager() -> None:
    SecretNotFoundException.code = 400  # 404 in moto
    models.FakeSecret._form_version_ids_to_stages = stages
    Backend.put_secret_value = put
    Backend.update_secret_version_stage = move
    SecretsManagerResponse.list_secret_version_ids = list_versions
    create, get, describe = Backend.create_secret, Backend.get_secret_value, Backend.describe_secret

    def create_strictly(self: Any, name: str, *args: Any, **kwargs: Any) -> str:
        with LOCK:
            existing = self.secrets.get(name)
            if existing is not None and existing.is_deleted():
                raise InvalidRequestException(
                    "You can't create this secret because one of its name is already scheduled for deletion."
                )
            if name in self.secrets and existing is not None:
                raise ResourceExistsException(
                    f"The operation failed because the secret {name} already exists."
                )
            need_key(self, kwargs.get("kms_key_id"), "EncryptionFailure")
            created = str(create(self, name, *args, **kwargs))
            self.secrets[name].changed_at = time.monotonic()
            return created

    def get_strictly(self: Any, secret_id: str, version_id: str, version_stage: str) -> Any:
        with LOCK:
            secret = found(self, secret_id)
            need_key(self, secret.kms_key_id, "DecryptionFailure")
            if not version_id and version_stage and holder(secret, version_stage) is None:
                raise models.ResourceNotFoundException(
                    f"Secrets Manager can't find the secret value for staging label: {version_stage}"
                )
            return get(self, secret_id, version_id, version_stage)

    def describe_strictly(self: Any, secret_id: str) -> Any:
        with LOCK:
            secret = describe(self, secret_id)
            late = time.monotonic() - getattr(secret, "changed_at", 0.0) < SLOW_SECONDS
            for replica in getattr(secret, "replicas", ()):
                if replica.region == SLOW_REGION and replica.status != "Failed":
                    replica.config["Status"] = "InProgress" if late else "InSync"
            return secret

    Backend.create_secret = create_strictly
    Backend.get_secret_value = get_strictly
    Backend.describe_secret = describe_strictly


def patch_parameter_store() -> None:
    """A standard parameter takes 4 KiB, an advanced one 8 KiB; two writes at once are one after the other."""
    original = ssm.SimpleSystemManagerBackend.put_parameter

    def put_parameter(self: Any, name: str, description: str, value: str, *args: Any, **kwargs: Any) -> Any:
        tier = kwargs.get("tier")
        if len(value.encode()) > (4096 if tier in (None, "Standard") else 8192):
            raise ValidationException(
                "Parameter value is longer than the tier allows: length less than or equal"
            )
        with LOCK:
            return original(self, name, description, value, *args, **kwargs)

    ssm.SimpleSystemManagerBackend.put_parameter = put_parameter


def patch_lookups() -> None:
    """Find a secret by its name at once, and by its ARN as moto does: it looks through all for each call."""
    by_key, holds = models.SecretsStore.__getitem__, models.SecretsStore.__contains__

    def get(self: Any, key: str) -> Any:
        secret = dict.get(self, key)
        return by_key(self, key) if secret is None else secret

    models.SecretsStore.__getitem__ = get
    models.SecretsStore.__contains__ = lambda self, key: dict.__contains__(self, key) or holds(self, key)


@cache
def tighten() -> None:
    """Hold moto to AWS's rules in this process, once."""
    patch_secrets_manager()
    patch_parameter_store()
    patch_lookups()
