"""The policy of least privilege with which one bot reads its keys from a server: `infra/` filled in.

Nothing asks the server here: what the inventory does not say of an AWS account stays open in the policy,
which grants in the account of the role that it is attached to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyturn.domain.inventory import AwsParameterStore, AwsSecretsManagerStore, StoreEntry, VaultKv2Store

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html (read 2026-11-28)
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


@dataclass(frozen=True, slots=True)
class Place:
    """A key of the bot in the store."""

    path: str
    #: Whether the bot tries each new key from its own address, and so opens what is pending, too.
    tries: bool


def policy(entry: StoreEntry, places: Sequence[Place]) -> str | None:
    """Give the text of the policy; None for a store that no server keeps.

    Args:
        entry: of the store.
        places: of the keys that the bot reads there.
    """
    if isinstance(entry, VaultKv2Store):
        return _vault(entry, places)
    if isinstance(entry, AwsSecretsManagerStore):
        return _aws(entry, "secretsmanager", _of_secrets(entry, places))
    if isinstance(entry, AwsParameterStore):
        return _aws(entry, "ssm", _of_parameters(entry, places))
    return None


def _vault(entry: VaultKv2Store, places: Sequence[Place]) -> str:
    read: list[str] = []
    for place in places:
        read += [f"{entry.mount}/data/{place.path}", f"{entry.mount}/metadata/{place.path}"]
        if place.tries:
            read.append(f"{entry.mount}/data/{entry.pending_prefix}/{place.path}")
    rights = [*((path, "read") for path in [*read, "auth/token/lookup-self"])]
    rights.append(("auth/token/renew-self", "update"))
    return "\n".join(f'path "{path}" {{\n  capabilities = ["{right}"]\n}}\n' for path, right in rights)


def _of_secrets(entry: AwsSecretsManagerStore, places: Sequence[Place]) -> list[dict[str, Any]]:
    def arns(wanted: Sequence[Place]) -> list[str]:
        # AWS adds a hyphen and six characters to the name.
        return [_arn(entry, "secretsmanager", f"secret:{entry.prefix}{p.path}-??????") for p in wanted]

    current = {"ForAnyValue:StringEquals": {"secretsmanager:VersionStage": "AWSCURRENT"}}
    get, found = "secretsmanager:GetSecretValue", list[dict[str, Any]]()
    if steady := [place for place in places if not place.tries]:
        found.append(_allow("ReadCurrent", get, arns(steady), current))
    if trying := [place for place in places if place.tries]:
        # A version is read by its id as well, which no condition on labels allows.
        found.append(_allow("ReadCurrentAndPending", get, arns(trying)))
    return [*found, _allow("SeeThatItChanged", "secretsmanager:DescribeSecret", arns(places))]


def _of_parameters(entry: AwsParameterStore, places: Sequence[Place]) -> list[dict[str, Any]]:
    def arns(wanted: Sequence[Place], more: str = "") -> list[str]:
        names = [f"{entry.prefix}{place.path}".removeprefix("/") for place in wanted]
        return [_arn(entry, "ssm", f"parameter/{name}{more}") for name in names]

    found = [_allow("ReadParameter", "ssm:GetParameter", arns(places))]
    if trying := [place for place in places if place.tries]:
        actions = ["ssm:GetParameter", "ssm:GetParameters"]
        found.append(_allow("ReadPending", actions, [*arns(trying), *arns(trying, ".keyturn*")]))
    return found


def _aws(
    entry: AwsSecretsManagerStore | AwsParameterStore, service: str, statements: list[dict[str, Any]]
) -> str:
    if entry.kms_key_id is not None:
        statements.append(_decrypt(entry, entry.kms_key_id, service))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def _decrypt(entry: AwsSecretsManagerStore | AwsParameterStore, key: str, service: str) -> dict[str, Any]:
    condition = {"StringEquals": {"kms:ViaService": [f"{service}.{entry.region}.amazonaws.com"]}}
    name = key.rpartition(":")[2]
    if name.startswith("alias/"):
        # IAM knows no key by its alias, but as a condition.
        more = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
        return _allow(
            "DecryptThroughTheStore", "kms:Decrypt", [_arn(entry, "kms", "key/*")], condition | more
        )
    where = key if key.startswith("arn:") else _arn(entry, "kms", f"key/{name}")
    return _allow("DecryptThroughTheStore", "kms:Decrypt", [where], condition)


def _allow(
    sid: str, action: str | list[str], resource: list[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    one = resource[0] if len(resource) == 1 else resource
    statement = {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": one}
    return statement | ({"Condition": condition} if condition else {})


def _arn(entry: AwsSecretsManagerStore | AwsParameterStore, service: str, what: str) -> str:
    partition = next((p for begins, p in _PARTITIONS.items() if entry.region.startswith(begins)), "aws")
    return f"arn:{partition}:{service}:{entry.region}:{_account(entry)}:{what}"


def _account(entry: AwsSecretsManagerStore | AwsParameterStore) -> str:
    """Give the AWS account where the inventory names one by an ARN."""
    named = [arn for arn in (entry.kms_key_id, entry.assume_role) if arn and arn.startswith("arn:")]
    return named[0].split(":")[4] if named else "*"
