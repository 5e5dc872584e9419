"""The policies in infra/aws: well-formed, and the rotator's is exactly what the stores call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.ports.store import SecretStore
from keyturn.stores.aws import check
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract_support import put_key, stage_key

from .aws_server import REGION

FOLDER = Path(__file__).parents[2] / "infra" / "aws"
PATH = "bots/mm"
# What the services do in the caller's name, and what a new secret with replicas needs.
INDIRECT = {
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "secretsmanager:ReplicateSecretToRegions",
}
# AWS lets everybody ask who they are.
FREE = {"sts:GetCallerIdentity"}


def actions(name: str, effect: str = "Allow") -> set[str]:
    found = set()
    for statement in json.loads((FOLDER / name).read_text())["Statement"]:
        if statement["Effect"] == effect:
            given = statement["Action"]
            found |= {given} if isinstance(given, str) else set(given)
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.name)
def test_a_policy_is_well_formed(file):
    policy = json.loads(file.read_text())
    assert policy["Version"] == "2012-10-17"
    ids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(set(ids)) == len(ids)
    assert all(sid.isalnum() for sid in ids)
    for statement in policy["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert statement["Effect"] in {"Allow", "Deny"}
        whole = statement.get("Resource") == "*" and statement["Effect"] == "Allow"
        assert not whole or file.name == "key.json", "only a key policy speaks of *, which is the key itself"


@pytest.fixture
def called(aws: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    seen: set[str] = set()
    real = Wire.call

    def call(self: Wire, service: str, method: str, **params: object) -> object:
        seen.add(f"{service}:{self.client(service).meta.method_to_api_mapping[method]}")
        return real(self, service, method, **params)

    monkeypatch.setattr(Wire, "call", call)
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0,))
    return seen


async def everything(store: SecretStore) -> None:
    """Use every method of the port."""
    old = await put_key(store, PATH, "old")
    first, second = Attempt(new_rotation_id(), 1), Attempt(new_rotation_id(), 1)
    staged = await stage_key(store, PATH, first, "a")
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    await stage_key(store, PATH, second, "b")
    await store.read(PATH, Slot.PENDING)
    done = await store.promote(PATH, second, expect_current=old.version)
    done = await store.restore_previous(PATH, expect_current=done.current)
    assert done.previous
    previous = await store.peek(PATH, Slot.PREVIOUS)
    assert previous
    await store.discard(PATH, Slot.PREVIOUS, version=previous.version)
    await store.history(PATH)
    await store.check([PATH])
    store.signature(PATH)  # type: ignore[attr-defined]
    await store.close()


async def test_the_rotator_may_do_what_the_stores_call_and_nothing_else(aws, called):
    await everything(AwsSecretsManager(Wire("sm", region=REGION, endpoint_url=aws), prefix="policy/"))
    await everything(AwsParameterStore(Wire("ssm", region=REGION, endpoint_url=aws), prefix="policy/"))
    assert called - FREE == actions("rotator.json") - INDIRECT


def test_doctor_asks_for_the_rights_of_the_rotator():
    needed = {*check.SECRETS_NEEDED, *check.PARAMETERS_NEEDED, "iam:SimulatePrincipalPolicy"}
    assert needed == actions("rotator.json") - INDIRECT


async def test_a_bot_calls_what_the_consumer_may(aws, called):
    for kind in (AwsSecretsManager, AwsParameterStore):
        wire = Wire("bot", region=REGION, endpoint_url=aws)
        await put_key(kind(wire, prefix="bot/"), PATH, "a")
        called.clear()
        bot = kind(wire, prefix="bot/")
        assert bot.signature(PATH)
        assert bot.peek_sync(PATH, Slot.CURRENT)
        assert bot.read_sync(PATH, Slot.CURRENT)
        assert called <= actions("consumer.json")
        await bot.close()


async def test_a_bot_that_tries_new_keys_calls_what_the_readme_adds_for_it(aws, called):
    for kind in (AwsSecretsManager, AwsParameterStore):
        wire = Wire("prober", region=REGION, endpoint_url=aws)
        await put_key(kind(wire, prefix="prober/"), PATH, "a")
        await stage_key(kind(wire, prefix="prober/"), PATH, Attempt(new_rotation_id(), 1), "b")
        called.clear()
        bot = kind(wire, prefix="prober/")
        assert bot.read_sync(PATH, Slot.PENDING)
        assert called <= {*actions("consumer.json"), "ssm:GetParameters"}
        await bot.close()


async def test_a_person_stages_with_what_intake_allows_and_promotes_nothing(aws, called):
    wire = Wire("person", region=REGION, endpoint_url=aws)
    await put_key(AwsSecretsManager(wire, prefix="person/"), PATH, "a")
    called.clear()
    await stage_key(AwsSecretsManager(wire, prefix="person/"), PATH, Attempt(new_rotation_id(), 1), "b")
    assert called <= actions("intake.json")
    assert actions("intake.json", "Deny") == {"secretsmanager:UpdateSecretVersionStage"}
    await wire.close()
