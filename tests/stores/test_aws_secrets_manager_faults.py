"""Secrets Manager: what becomes of a write that fails, and what each failure is called."""

from __future__ import annotations

import json

import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.slots import Slot
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    stage_key,
)

from .aws_cases import PATH, WRITES, at, failed, faults, first, name_of, open_store, store
from .aws_server import answer, plain

__all__ = ["faults", "first", "open_store", "store"]

KIND = AwsSecretsManager
CHANGES = ("CreateSecret", "PutSecretValue", "UpdateSecretVersionStage")


@pytest.mark.parametrize("verb", WRITES)
async def test_an_answer_lost_once_is_no_failure(store, faults, first, verb):
    call, after = await at(store, verb, first)
    for operation in CHANGES:
        faults.inject(operation, faults.cut_after, times=1)
    await call()
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("verb", WRITES)
async def test_answers_lost_for_good_are_read_back(store, faults, first, verb):
    call, after = await at(store, verb, first)
    for operation in CHANGES:
        faults.inject(operation, faults.cut_after)
    await call()
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    "fault", ["cut", "500", "503", "unreachable", "throttled", "denied", "denied as xml"]
)
async def test_a_write_that_fails_for_good_changes_nothing(open_store, store, faults, first, verb, fault):
    call, _ = await at(store, verb, first)
    before = await keys_in(store, PATH)
    handlers = {
        "cut": (faults.cut_before, StoreFault.OUTCOME_UNKNOWN),
        "500": (answer(500, "InternalServiceError"), StoreFault.OUTCOME_UNKNOWN),
        "503": (answer(503, "ServiceUnavailable"), StoreFault.OUTCOME_UNKNOWN),
        "unreachable": (faults.unreachable, StoreFault.UNAVAILABLE),
        "throttled": (answer(400, "ThrottlingException", "Rate exceeded"), StoreFault.UNAVAILABLE),
        "denied": (answer(400, "AccessDeniedException", "User is not authorized"), StoreFault.DENIED),
        "denied as xml": (answer(403, "403"), StoreFault.DENIED),
    }
    handler, expected = handlers[fault]
    left = [faults.inject(operation, handler) for operation in CHANGES]
    error = await failed(call())
    assert error.fault is expected
    assert any(operation in error.what for operation in CHANGES)
    for counter in left:
        counter[0] = 0
    assert await keys_in(open_store(), PATH) in {before, (None, before[1], before[2])}
    await call()


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
async def test_throttling_that_passes_is_waited_out(store, faults, first, code):
    for operation in (*CHANGES, "DescribeSecret", "GetSecretValue"):
        faults.inject(operation, answer(400, code, "Rate exceeded"), times=2)
    await put_key(store, PATH, "a")
    assert await key_in(store, PATH, Slot.CURRENT) == "key-a"


@pytest.mark.parametrize("verb", WRITES[:-1])
async def test_a_secret_scheduled_for_deletion_says_how_to_restore_it(aws, store, first, verb):
    call, _ = await at(store, verb, first)
    client = plain(aws, "secretsmanager")
    client.delete_secret(SecretId=name_of(store), RecoveryWindowInDays=7)
    for attempt in (call(), store.peek(PATH, Slot.CURRENT), store.read(PATH, Slot.CURRENT)):
        error = await failed(attempt)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "restore-secret" in error.todo
    client.restore_secret(SecretId=name_of(store))
    await call()


async def test_a_disabled_kms_key_is_named(aws, open_store, first):
    kms = plain(aws, "kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    store = open_store(kms_key_id=key)
    await put_key(store, PATH, "a")
    kms.disable_key(KeyId=key)
    for call in (store.claim(PATH, first), store.read(PATH, Slot.CURRENT)):
        error = await failed(call)
        assert error.fault is StoreFault.MISCONFIGURED
        assert "KMS key" in error.what


async def test_a_missing_right_to_the_kms_key_is_named(store, faults, first):
    await put_key(store, PATH, "a")
    faults.inject("PutSecretValue", answer(400, "AccessDeniedException", "Access to KMS is not allowed"))
    error = await failed(store.claim(PATH, first))
    assert error.fault is StoreFault.DENIED
    assert "kms:GenerateDataKey" in error.todo


async def test_a_full_version_quota_is_no_space(store, faults, first):
    await put_key(store, PATH, "a")
    faults.inject("PutSecretValue", answer(400, "LimitExceededException", "too many versions"))
    assert (await failed(store.claim(PATH, first))).fault is StoreFault.NO_SPACE


async def test_a_value_over_64_kib_is_refused_before_it_is_sent(store, faults, first):
    claim = await store.claim(PATH, first)
    faults.calls()
    material = fake_material("new", note="x" * 65536)
    error = await failed(store.stage(PATH, material, fake_meta("new", first), claim))
    assert error.fault is StoreFault.MISCONFIGURED
    assert faults.calls() == []


async def test_labels_that_lag_behind_are_read_again(store, faults, first):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    stale = store._wire.call("secretsmanager", "describe_secret", SecretId=name_of(store))
    body = json.dumps({"ARN": stale["ARN"], "VersionIdsToStages": stale["VersionIdsToStages"]})
    await store.promote(PATH, first, expect_current=old.version)

    def old_labels(request, **_):
        given = answer(200, "x")(request)
        given.raw._data = body.encode()
        return given

    faults.inject("DescribeSecret", old_labels, times=3)
    current = await store.peek(PATH, Slot.CURRENT)
    assert current.attempt == first
