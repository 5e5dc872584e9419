"""The policies in infra/aws: well-formed, and the rotator's is exactly what the stores call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyturn.domain.errors import StoreError
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.ports.store import SecretStore
from keyturn.stores.aws import check
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract_support import fake_material, fake_meta, put_key, stage_key

from . import iam
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
    rotator = AwsSecretsManager(Wire("rotator", region=REGION, endpoint_url=aws), prefix="person/")
    await put_key(rotator, PATH, "a")
    first, second = Attempt(new_rotation_id(), 1), Attempt(new_rotation_id(), 1)
    overtaken = await rotator.claim(PATH, first)
    claim = await rotator.claim(PATH, second)
    called.clear()
    intake = iam.policy("intake.json", PREFIX="person/", PATH=PATH)
    with iam.held_to(intake):
        person = AwsSecretsManager(Wire("person", region=REGION, endpoint_url=aws), prefix="person/")
        for refused in (
            person.stage(PATH, fake_material("c"), fake_meta("c", first), overtaken),
            person.read(PATH, Slot.CURRENT),
            person.read(PATH, Slot.PENDING),
        ):
            with pytest.raises(StoreError):
                await refused
        await person.stage(PATH, fake_material("b"), fake_meta("b", second), claim)
        with pytest.raises(StoreError):
            await person.promote(PATH, second, expect_current=None)
    current = await rotator.peek(PATH, Slot.CURRENT)
    promoted = await rotator.promote(PATH, second, expect_current=current.version)
    assert promoted.previous == current.version
    assert (await rotator.read(PATH, Slot.CURRENT)).material == fake_material("b")
    await rotator.close()
    await person.close()


def test_the_intake_reads_no_live_key_by_any_name_of_it():
    """AWSPENDING rests on the version that was promoted last, so it would open the live key as well."""
    intake, where = iam.policy("intake.json", PREFIX="p/", PATH=PATH), iam.secret(f"p/{PATH}")
    for stage in (None, "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"):
        context = {"secretsmanager:VersionStage": stage} if stage else {}
        for action in ("secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"):
            assert not iam.allows(intake, action, where, context)
    assert iam.allows(intake, "secretsmanager:PutSecretValue", where)
    assert not iam.allows(intake, "secretsmanager:PutSecretValue", iam.secret("p/bots/other"))


def test_a_consumer_decrypts_and_nothing_else_with_the_key_and_through_the_stores_alone():
    words = {"ROTATOR_ROLE": "rotator", "CONSUMER_ROLE": "bot"}
    by_key = [
        s
        for s in iam.policy("key.json", **words)
        if any(principal.endswith("role/bot") for principal in iam.listed(s["Principal"]["AWS"]))
    ]
    own = iam.policy("consumer.json", PREFIX="p/", PATH=PATH)
    key = f"arn:aws:kms:{iam.REGION}:{iam.ACCOUNT}:key/k"
    for statements in (by_key, own):
        for action in (
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:Decrypt",
            "kms:CreateGrant",
            "kms:ReEncryptFrom",
        ):
            for via in ("secretsmanager", "ssm", "s3", None):
                context = {"kms:ViaService": f"{via}.{iam.REGION}.amazonaws.com"} if via else {}
                expected = action == "kms:Decrypt" and via in {"secretsmanager", "ssm"}
                assert iam.allows(statements, action, key, context) is expected


def test_the_rotators_policy_reaches_its_prefix_alone_and_with_an_empty_one_everything():
    """Why doctor asks IAM about a secret that is none of keyturn's."""
    for prefix, reached in (("keyturn/", False), ("", True)):
        rotator = iam.policy("rotator.json", PREFIX=prefix)
        assert iam.allows(rotator, "secretsmanager:GetSecretValue", iam.secret(f"{prefix}{PATH}"))
        assert iam.allows(rotator, "secretsmanager:GetSecretValue", iam.secret("kt-nobodys-1")) is reached
