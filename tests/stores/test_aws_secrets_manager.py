"""Secrets Manager: calls and versions, late promotions, other writers, and what is logged."""

from __future__ import annotations

import json
import logging

import boto3
import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.shelf import CURRENT
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    refused,
    stage_key,
)

from .aws_cases import PATH, failed, faults, first, name_of, open_store, store
from .aws_server import REGION, plain

__all__ = ["faults", "first", "open_store", "store"]

KIND = AwsSecretsManager


# Calls and versions.


async def test_a_rotation_takes_four_calls_and_two_versions(store, faults, first):
    old = await put_key(store, PATH, "old")
    faults.calls()
    claim = await store.claim(PATH, first)
    await store.stage(PATH, fake_material("new"), fake_meta("new", first), claim)
    await store.promote(PATH, first, expect_current=old.version)
    assert faults.calls() == [
        "DescribeSecret",
        "PutSecretValue",
        "PutSecretValue",
        "UpdateSecretVersionStage",
    ]
    await store.discard(PATH, Slot.PREVIOUS, version=old.version)
    assert faults.calls() == ["DescribeSecret", "UpdateSecretVersionStage"]


async def test_a_rotation_looks_five_times_from_the_first_look_to_the_last(open_store, store, faults, first):
    old = await put_key(open_store(), PATH, "old")
    await store.peek(PATH, Slot.CURRENT)
    await stage_key(store, PATH, first, "new")
    await store.read(PATH, Slot.PENDING)
    await store.promote(PATH, first, expect_current=old.version)
    await store.peek(PATH, Slot.CURRENT)
    await store.read(PATH, Slot.PREVIOUS)
    await store.discard(PATH, Slot.PREVIOUS, version=old.version)
    made = faults.calls()
    assert [call for call in made if call in {"DescribeSecret", "GetSecretValue"}] == [
        "GetSecretValue",
        "DescribeSecret",
        "GetSecretValue",
        "DescribeSecret",
        "GetSecretValue",
    ]
    assert len(made) == 5 + 4
    assert await keys_in(open_store(), PATH) == (None, "key-new", None)


async def test_every_put_names_awspending_or_no_label_of_aws(aws, store, first, monkeypatch):
    labels = []
    store._wire.client("secretsmanager").meta.events.register(
        "provide-client-params.secretsmanager.PutSecretValue",
        lambda params, **_: labels.append(params.get("VersionStages")),
    )
    old = await put_key(store, PATH, "old")
    staged = await stage_key(store, PATH, first, "new")
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    await stage_key(store, PATH, Attempt(new_rotation_id(), 1), "newer")
    assert old
    assert {tuple(given) for given in labels} == {("AWSPENDING",), ("keyturn-incoming",)}


async def test_a_bot_reads_with_two_rights_and_by_label(store, faults):
    await put_key(store, PATH, "a")
    faults.calls()
    bot = AwsSecretsManager(store._wire, prefix=store._shelf._prefix)
    asked = []
    store._wire.client("secretsmanager").meta.events.register(
        "provide-client-params.secretsmanager.GetSecretValue",
        lambda params, **_: asked.append(params.get("VersionStage")),
    )
    signature = bot.signature(PATH)
    assert bot.read_sync(PATH, Slot.CURRENT).material == fake_material("a")
    assert bot.peek_sync(PATH, Slot.CURRENT).meta == fake_meta("a", None)
    assert set(faults.calls()) == {"DescribeSecret", "GetSecretValue"}
    assert set(asked) == {"AWSCURRENT"}
    current = await bot.peek(PATH, Slot.CURRENT)
    await put_key(store, PATH, "b", current.version)
    assert bot.signature(PATH) != signature
    assert bot.signature("bots/other") is None


# Late promotions.


@pytest.mark.parametrize("current", [None, "old"])
@pytest.mark.parametrize("how", ["discarded", "claimed by another rotation"])
async def test_a_promotion_that_comes_late_changes_nothing(open_store, first, current, how):
    slow, quick = open_store(), open_store()
    old = await put_key(quick, PATH, current) if current else None
    expect = old.version if old else None
    staged = await stage_key(slow, PATH, first, "new")
    if how == "discarded":
        await quick.discard(PATH, Slot.PENDING, version=staged.version)
    else:
        await quick.claim(PATH, Attempt(new_rotation_id(), 1))
    assert slow._slots._tickets, "the slow worker promotes without looking"
    await refused(slow.promote(PATH, first, expect_current=expect))
    assert await key_in(quick, PATH, Slot.CURRENT) == ("key-old" if current else None)
    shown = await quick.peek(PATH, Slot.CURRENT)
    assert (shown.version if shown else None) == expect, "the copy is the same version"
    assert await quick.peek(PATH, Slot.PREVIOUS) is None


async def test_a_promotion_that_comes_after_the_roll_back_changes_nothing(open_store, first):
    store, slow = open_store(), open_store()
    old = await put_key(store, PATH, "old")
    staged = await stage_key(slow, PATH, first, "new")
    ticket = slow._slots._tickets[PATH]
    promoted = await slow.promote(PATH, first, expect_current=old.version)
    await store.restore_previous(PATH, expect_current=promoted.current)
    await store.discard(PATH, Slot.PREVIOUS, version=staged.version)
    slow._slots._tickets[PATH] = ticket
    await refused(slow.promote(PATH, first, expect_current=old.version))
    assert await keys_in(store, PATH) == (None, "key-old", None)


async def test_a_discard_that_was_cut_short_is_finished_by_the_next(open_store, store, faults, first):
    slow = open_store()
    old = await put_key(slow, PATH, "old")
    staged = await stage_key(slow, PATH, first, "new")
    left = faults.inject("UpdateSecretVersionStage", faults.cut_before)
    error = await failed(store.discard(PATH, Slot.PENDING, version=staged.version))
    assert error.fault is StoreFault.OUTCOME_UNKNOWN
    left[0] = 0
    other = open_store()
    pending = await other.peek(PATH, Slot.PENDING)
    assert (pending.attempt, pending.meta) == (first, None), "it must still show that something is to be done"
    await other.discard(PATH, Slot.PENDING, version=pending.version)
    assert await other.peek(PATH, Slot.PENDING) is None
    await refused(slow.promote(PATH, first, expect_current=old.version))
    assert await keys_in(other, PATH) == (None, "key-old", None)


async def test_a_previous_key_outlives_the_fence(store, first):
    one = await put_key(store, PATH, "1")
    two = await put_key(store, PATH, "2", one.version)
    staged = await stage_key(store, PATH, first, "new")
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    assert await keys_in(store, PATH) == (None, "key-2", "key-1")
    await store.restore_previous(PATH, expect_current=two.version)
    assert await keys_in(store, PATH) == (None, "key-1", "key-2")


async def test_a_promoted_key_never_looks_staged_again(store, first):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    promoted = await store.promote(PATH, first, expect_current=old.version)
    one = await put_key(store, PATH, "1", promoted.current)
    await put_key(store, PATH, "2", one.version)
    assert await keys_in(store, PATH) == (None, "key-2", "key-1")


async def test_a_vacated_path_shows_no_key_that_was_promoted_there(aws, store, first):
    await stage_key(store, PATH, first, "a")
    done = await store.promote(PATH, first, expect_current=None)
    await store.vacate(PATH, expect_current=done.current)
    assert await keys_in(store, PATH) == (None, None, None)
    assert await store.peek(PATH, Slot.PENDING) is None


# Other writers and odd secrets.


async def test_a_current_moved_by_somebody_else_is_a_conflict(aws, store, first):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    plain(aws, "secretsmanager").put_secret_value(SecretId=name_of(store), SecretString='{"theirs": "yes"}')
    await refused(store.promote(PATH, first, expect_current=old.version))
    current = await store.peek(PATH, Slot.CURRENT)
    assert current.meta is None
    assert await key_in(store, PATH, Slot.PENDING) == "key-new"


async def test_a_pending_label_taken_by_somebody_else_is_a_conflict(aws, open_store, store, first):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    plain(aws, "secretsmanager").put_secret_value(
        SecretId=name_of(store), SecretString="theirs", VersionStages=["AWSPENDING"]
    )
    await refused(open_store().promote(PATH, first, expect_current=old.version))
    assert (await store.peek(PATH, Slot.PENDING)).meta is None


async def test_a_secret_that_is_not_ours_is_shown_and_left_alone(aws, store, first):
    theirs = {"api_key": "key-theirs", "secret": "not-a-real-secret-x", "testnet": True, "note": "hi"}
    client = plain(aws, "secretsmanager")
    client.create_secret(Name=name_of(store), SecretString=json.dumps(theirs))
    current = await store.peek(PATH, Slot.CURRENT)
    assert (current.meta, current.attempt) == (None, None)
    assert await key_in(store, PATH, Slot.CURRENT) == "key-theirs"
    staged = await stage_key(store, PATH, first, "new")
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    value = client.get_secret_value(SecretId=name_of(store), VersionStage="AWSCURRENT")
    assert json.loads(value["SecretString"]) == theirs


async def test_bytes_that_somebody_put_over_current_are_kept_when_the_staged_key_is_discarded(
    aws, open_store, store, faults, first
):
    await put_key(store, PATH, "old")
    staged = await stage_key(store, PATH, first, "new")
    client, theirs = plain(aws, "secretsmanager"), b"\x00\xffnot-a-real-secret"
    client.put_secret_value(SecretId=name_of(store), SecretBinary=theirs)
    opened = store._shelf.open(PATH, label=CURRENT)
    assert "not-a-real-secret" not in repr(opened)
    faults.inject("PutSecretValue", faults.cut_after, times=8)
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    now = client.get_secret_value(SecretId=name_of(store))
    assert now["SecretBinary"] == theirs
    assert now["VersionId"] != opened.leaf.id, (
        "a promotion that comes late names a version that is not current"
    )
    assert await open_store().peek(PATH, Slot.PENDING) is None
    await store.claim(PATH, Attempt(new_rotation_id(), 1))


async def test_fields_beside_the_key_are_kept(aws, store, first):
    theirs = {"api_key": "key-t", "secret": "not-a-real-secret-x", "testnet": True, "note": {"a": [1]}}
    client = plain(aws, "secretsmanager")
    client.create_secret(Name=name_of(store), SecretString=json.dumps(theirs))
    old = await store.peek(PATH, Slot.CURRENT)
    await stage_key(store, PATH, first, "new")
    done = await store.promote(PATH, first, expect_current=old.version)
    await put_key(store, PATH, "by-hand", done.current)
    value = client.get_secret_value(SecretId=name_of(store), VersionStage="AWSCURRENT")
    document = json.loads(value["SecretString"])
    assert (document["api_key"], document["testnet"], document["note"]) == ("key-by-hand", True, {"a": [1]})


@pytest.mark.parametrize(
    "content", ["not json", "[1]", "{}", '{"api_key": "x"}', '{"api_key": 1, "secret": 2}']
)
async def test_what_is_no_credential_is_called_so(aws, store, content):
    plain(aws, "secretsmanager").create_secret(Name=name_of(store), SecretString=content)
    assert (await store.peek(PATH, Slot.CURRENT)).meta is None
    assert (await failed(store.read(PATH, Slot.CURRENT))).fault is StoreFault.CORRUPT


async def test_a_key_that_a_person_edited_is_not_ours_any_more(aws, store):
    await put_key(store, PATH, "a")
    client = plain(aws, "secretsmanager")
    document = json.loads(client.get_secret_value(SecretId=name_of(store))["SecretString"])
    document["api_key"] = "key-edited"
    client.put_secret_value(SecretId=name_of(store), SecretString=json.dumps(document))
    assert (await store.peek(PATH, Slot.CURRENT)).meta is None


async def test_an_empty_secret_gets_a_first_version_that_deploys_nothing(aws, store, first):
    client = plain(aws, "secretsmanager")
    client.create_secret(Name=name_of(store), Description="made by Terraform, without a value")
    assert await store.peek(PATH, Slot.CURRENT) is None
    await stage_key(store, PATH, first, "a")
    value = client.get_secret_value(SecretId=name_of(store), VersionStage="AWSCURRENT")
    assert "not-a-real-secret" not in value["SecretString"], "AWS makes the first version current at once"
    assert await keys_in(store, PATH) == ("key-a", None, None)
    await store.promote(PATH, first, expect_current=None)
    assert await keys_in(store, PATH) == (None, "key-a", None)


async def test_replicas_that_lag_behind_are_named(aws, open_store):
    store = open_store(replica_regions=("eu-west-1",))
    await put_key(store, PATH, "a")
    assert await store.spread(PATH) == []
    wider = open_store(replica_regions=("eu-west-1", "us-east-2"))
    assert await wider.spread(PATH) == ["region us-east-2 (no replica)"]
    findings = await open_store(replica_regions=("us-east-2",)).check([PATH])
    assert any(not f.ok and "us-east-2" in f.detail for f in findings)


# Nothing secret is logged.


async def test_nothing_secret_is_logged_with_everything_at_debug(store, faults, first, caplog):
    caplog.set_level(logging.DEBUG)
    loud = [
        logging.getLogger(name) for name in ("botocore", "botocore.parsers", "botocore.endpoint", "urllib3")
    ]
    for logger in loud:
        logger.setLevel(logging.DEBUG)
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    await store.read(PATH, Slot.PENDING)
    await store.promote(PATH, first, expect_current=old.version)
    faults.inject("GetSecretValue", faults.cut_before)
    await failed(store.read(PATH, Slot.CURRENT))
    await store.check([PATH])
    said = "".join(f"{r.name} {r.getMessage()} {r.exc_info}" for r in caplog.records)
    for secret in ("not-a-real-secret", "key-new", "not-a-real-secret-token"):
        assert secret not in said


async def test_others_may_log_their_own_calls(aws, store, caplog):
    caplog.set_level(logging.DEBUG)
    await put_key(store, PATH, "a")
    boto3.session.Session().client("sts", region_name=REGION, endpoint_url=aws).get_caller_identity()
    assert any(r.name == "botocore.endpoint" for r in caplog.records)
