"""What IAM would say to a call by the policies of infra/aws; moto does not ask them.

The part of IAM's logic that they use: a Deny wins, and each condition must hold of the call's own keys.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html (read 2026-11-28)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from keyturn.stores.aws.faults import AwsError, refusal
from keyturn.stores.aws.wire import Wire

FOLDER = Path(__file__).parents[2] / "infra" / "aws"
ACCOUNT, REGION = "123456789012", "eu-central-1"


def policy(name: str, **words: str) -> list[dict[str, Any]]:
    """Give the statements of a policy, its words in capitals replaced."""
    text = (FOLDER / name).read_text()
    for word, value in {"REGION": REGION, "ACCOUNT": ACCOUNT, "KMS_KEY_ID": "k", **words}.items():
        text = text.replace(word, value)
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements


def allows(
    statements: list[dict[str, Any]], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    fitting = [s["Effect"] for s in statements if _fits(s, action, resource, context or {})]
    return "Allow" in fitting and "Deny" not in fitting


def _fits(statement: dict[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    return (
        any(fnmatchcase(action, each) for each in listed(statement["Action"]))
        and any(fnmatchcase(resource, each) for each in listed(statement["Resource"]))
        and all(_holds(*condition, context) for condition in statement.get("Condition", {}).items())
    )


def _holds(operator: str, keys: dict[str, Any], context: Mapping[str, str]) -> bool:
    assert operator in {"StringEquals", "ForAnyValue:StringEquals"}, "of each key one value is in a call here"
    return all(context.get(key) in listed(wanted) for key, wanted in keys.items())


def listed(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def secret(name: str) -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"


def parameter(name: str) -> str:
    """Give the ARN of a parameter, which a version or a label may follow in a call."""
    return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name.partition(':')[0].removeprefix('/')}"


def _resources(service: str, params: dict[str, Any]) -> list[str]:
    if service == "secretsmanager":
        return [secret(params["SecretId"])]
    return [parameter(name) for name in params.get("Names", [params.get("Name", "")])]


@contextmanager
def held_to(statements: list[dict[str, Any]]) -> Iterator[None]:
    """Refuse every call to Secrets Manager and Parameter Store that these statements do not allow."""
    real = Wire.call

    def call(self: Wire, service: str, method: str, **params: Any) -> Any:
        action = f"{service}:{self.client(service).meta.method_to_api_mapping[method]}"
        context = {"secretsmanager:VersionStage": params["VersionStage"]} if "VersionStage" in params else {}
        if service in {"secretsmanager", "ssm"} and not all(
            allows(statements, action, resource, context) for resource in _resources(service, params)
        ):
            raise AwsError(action, refusal("AccessDeniedException", 400, ""), unanswered=False)
        return real(self, service, method, **params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "call", call)
        yield
