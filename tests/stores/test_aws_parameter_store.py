"""Parameter Store: faults at each write, writers at the same moment, and the page's compare-and-set."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import pytest

from keyturn.domain.errors import StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws import pages
from keyturn.stores.aws.pages import Lease, Page
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.testing.crash import Killed
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    refused,
    stage_key,
)

from .aws_cases import PATH, WRITES, at, failed, faults, first, name_of, open_store, store
from .aws_server import answer, plain

__all__ = ["faults", "first", "open_store", "store"]

KIND = AwsParameterStore


# Faults at each write.


@pytest.mark.parametrize("verb", WRITES)
async def test_an_answer_lost_once_is_no_failure(store, faults, first, verb):
    call, after = await at(store, verb, first)
    for operation in ("PutParameter", "DeleteParameters"):
        faults.inject(operation, faults.cut_after, times=1)
    await call()
    assert await keys_in(store, PATH) == after


@pytest.mark.parametrize("verb", WRITES)
async def test_answers_lost_for_good_are_read_back(store, faults, first, verb):
    call, after = await at(store, verb, first)
    faults.inject("PutParameter", faults.cut_after)
    await call()
    assert await keys_in(store, PATH) == after


# How many parameters each verb writes, in order; the last one does it.
_PUTS = {
    "claim": 1,
    "discard pending": 1,
    "discard previous": 1,
    "stage": 2,
    "promote": 2,
    "restore": 2,
    "put": 2,
}


@pytest.mark.parametrize(("verb", "nth"), [(verb, n + 1) for verb in WRITES for n in range(_PUTS[verb])])
@pytest.mark.parametrize("lost", [1, 99], ids=["once", "for good"])
async def test_a_lost_answer_without_a_look_afterwards_is_an_open_outcome(
    open_store, store, faults, first, verb, nth, lost
):
    call, after = await at(store, verb, first)
    before = await keys_in(store, PATH)
    written: list[str] = []
    cuts = [lost]

    def network_goes(request, **more):
        name = json.loads(request.body)["Name"]
        if name not in written[-1:]:
            written.append(name)
        if len(written) == nth and cuts[0]:
            cuts[0] -= 1
            reads[0] = one[0] = 99
            faults.cut_after(request, **more)

    reads, one = (faults.inject(name, faults.cut_before, 0) for name in ("GetParameters", "GetParameter"))
    left = faults.inject("PutParameter", network_goes)
    error = await failed(call())
    left[0] = reads[0] = one[0] = 0
    assert error.fault is StoreFault.OUTCOME_UNKNOWN
    assert await keys_in(open_store(), PATH) == (after if nth == _PUTS[verb] else before)


async def test_a_first_key_whose_answer_was_lost_once_is_not_somebody_elses(store, faults):
    def lose(request, **more):
        if json.loads(request.body)["Name"] == name_of(store) and not lost:
            lost.append(request)
            faults.cut_after(request, **more)

    lost: list[object] = []
    faults.inject("PutParameter", lose)
    await put_key(store, PATH, "a")
    assert lost
    assert await keys_in(store, PATH) == (None, "key-a", None)


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("fault", ["cut", "500", "unreachable", "throttled", "two at once", "denied", "kms"])
async def test_a_write_that_fails_for_good_changes_nothing(open_store, store, faults, first, verb, fault):
    call, _ = await at(store, verb, first)
    before = await keys_in(store, PATH)
    handlers = {
        "cut": (faults.cut_before, StoreFault.OUTCOME_UNKNOWN),
        "500": (answer(500, "InternalServerError"), StoreFault.OUTCOME_UNKNOWN),
        "unreachable": (faults.unreachable, StoreFault.UNAVAILABLE),
        "throttled": (answer(400, "ThrottlingException", "Rate exceeded"), StoreFault.UNAVAILABLE),
        "two at once": (answer(400, "TooManyUpdates"), StoreFault.UNAVAILABLE),
        "denied": (answer(400, "AccessDeniedException", "not authorized"), StoreFault.DENIED),
        "kms": (answer(400, "InvalidKeyId", "key is disabled"), StoreFault.MISCONFIGURED),
    }
    handler, expected = handlers[fault]
    left = faults.inject("PutParameter", handler)
    assert (await failed(call())).fault is expected
    left[0] = 0
    assert await keys_in(open_store(), PATH) == before
    await call()


@pytest.mark.parametrize("verb", ["promote", "restore", "put"])
async def test_current_that_fails_after_its_lease_can_be_written_once_the_lease_is_over(
    open_store, store, faults, first, verb, monkeypatch
):
    call, after = await at(store, verb, first)
    store._slots._desk.lease_seconds = 3.0  # long enough for a busy machine to come here in time
    writes = []

    def second(request, **_):
        writes.append(request)
        return None if len(writes) == 1 else answer(400, "ThrottlingException")(request)

    left = faults.inject("PutParameter", second)
    assert (await failed(call())).fault is StoreFault.UNAVAILABLE
    left[0] = 0
    monkeypatch.setattr("keyturn.stores.aws.page_desk._BUSY_SECONDS", 0.1)
    other = open_store()
    assert (await failed(other.claim(PATH, Attempt(new_rotation_id(), 1)))).fault is StoreFault.UNAVAILABLE
    time.sleep(3.0)
    await call()
    assert await keys_in(other, PATH) == after


# Other writers.


_THEIRS = '{"api_key": "theirs", "secret": "x"}'
_NEWER = '{"api_key": "theirs", "secret": "x", "keyturn": {"format": 99}}'


@pytest.mark.parametrize("theirs", [_THEIRS, _NEWER, "no document"], ids=["plain", "newer", "text"])
async def test_a_write_of_somebody_else_at_the_same_moment_is_put_back(aws, store, faults, first, theirs):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    client, name = plain(aws, "ssm"), name_of(store)

    def between(request, **_):
        if json.loads(request.body)["Name"] == name:
            client.put_parameter(Name=name, Value=theirs, Overwrite=True, Type="SecureString")
            left[0] = 0

    left = faults.inject("PutParameter", between)
    await refused(store.promote(PATH, first, expect_current=old.version))
    assert client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == theirs
    if theirs is _THEIRS:
        assert await keys_in(store, PATH) == ("key-new", "theirs", None)


async def test_a_current_that_somebody_else_wrote_is_a_conflict(aws, store, first):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    plain(aws, "ssm").put_parameter(Name=name_of(store), Value="{}", Overwrite=True, Type="SecureString")
    await refused(store.promote(PATH, first, expect_current=old.version))
    assert (await store.peek(PATH, Slot.CURRENT)).meta is None
    assert (await failed(store.read(PATH, Slot.CURRENT))).fault is StoreFault.CORRUPT


async def test_fields_beside_the_key_are_kept(aws, store, first):
    client = plain(aws, "ssm")
    theirs = json.dumps({"api_key": "key-t", "secret": "not-a-real-secret-x", "testnet": True})
    client.put_parameter(Name=name_of(store), Value=theirs, Type="SecureString")
    old = await store.peek(PATH, Slot.CURRENT)
    assert old.meta is None
    await stage_key(store, PATH, first, "new")
    await store.promote(PATH, first, expect_current=old.version)
    value = client.get_parameter(Name=name_of(store), WithDecryption=True)["Parameter"]["Value"]
    assert (json.loads(value)["api_key"], json.loads(value)["testnet"]) == ("key-new", True)


async def test_what_was_staged_is_deleted_when_it_is_promoted_or_discarded(aws, store, first):
    def names() -> list[str]:
        listed = plain(aws, "ssm").get_paginator("get_parameters_by_path")
        folder = name_of(store).rpartition("/")[0]
        return [p["Name"] for page in listed.paginate(Path=folder) for p in page["Parameters"]]

    old = await put_key(store, PATH, "old")
    rest = names()
    await stage_key(store, PATH, first, "a")
    assert len(names()) == len(rest) + 1
    await store.promote(PATH, first, expect_current=old.version)
    assert sorted(names()) == sorted(rest)
    staged = await stage_key(store, PATH, Attempt(new_rotation_id(), 1), "b")
    await store.discard(PATH, Slot.PENDING, version=staged.version)
    assert sorted(names()) == sorted(rest)
    assert len(rest) == 2, "the key, and the page"


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
async def test_a_promotion_stands_when_what_was_staged_cannot_be_deleted(aws, store, faults, first, code):
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    left = faults.inject("DeleteParameters", answer(400, code))
    promoted = await store.promote(PATH, first, expect_current=old.version)
    assert promoted.previous == old.version
    assert await keys_in(store, PATH) == (None, "key-new", "key-old")
    left[0] = 0
    await store.discard(PATH, Slot.PREVIOUS, version=old.version)
    folder = name_of(store).rpartition("/")[0]
    listed = plain(aws, "ssm").get_parameters_by_path(Path=folder)["Parameters"]
    assert sorted(p["Name"] for p in listed) == [name_of(store), f"{name_of(store)}.keyturn"]


async def test_a_deletion_that_failed_is_made_up_for_by_the_next_write(store, faults, first):
    staged = await stage_key(store, PATH, first, "a")
    left = faults.inject("DeleteParameters", answer(500, "InternalServerError"))
    await failed(store.discard(PATH, Slot.PENDING, version=staged.version))
    left[0] = 0
    assert await store.peek(PATH, Slot.PENDING) is None
    faults.calls()
    await store.claim(PATH, Attempt(new_rotation_id(), 1))
    assert "DeleteParameters" in faults.calls()


@pytest.mark.parametrize("again", [1, 2], ids=["the same attempt", "the next attempt"])
async def test_a_stage_that_died_leaves_nothing_that_the_next_one_does_not_delete(
    aws,
    open_store,
    store,
    first,
    again,
):
    def die(*_: object, **__: object) -> bool:
        raise Killed

    await put_key(store, PATH, "old")
    dying = open_store()
    claim = await dying.claim(PATH, first)
    # Its secret is written; the word of it is not.
    dying._slots._desk.save = die
    with pytest.raises(Killed):
        await dying.stage(PATH, fake_material("lost"), fake_meta("lost", first), claim)
    assert await keys_in(store, PATH) == (None, "key-old", None)
    assert staged_at(aws, store) == ["key-lost"]
    await stage_key(store, PATH, Attempt(first.rotation_id, again), "new")
    assert await keys_in(store, PATH) == ("key-new", "key-old", None)
    assert staged_at(aws, store) == ["key-new"]


async def test_of_two_that_stage_under_one_claim_one_does(aws, open_store, store, first):
    slow, fast = open_store(), open_store()
    claim = await slow.claim(PATH, first)
    save = slow._slots._desk.save

    def overtaken(*args: object, **more: object) -> bool:
        slow._slots._desk.save = save
        fast._slots.stage(PATH, fake_material("fast"), fake_meta("fast", first), claim)
        return save(*args, **more)

    slow._slots._desk.save = overtaken
    await refused(slow.stage(PATH, fake_material("slow"), fake_meta("slow", first), claim))
    assert await key_in(store, PATH, Slot.PENDING) == "key-fast"
    assert staged_at(aws, store) == ["key-fast"]


def staged_at(aws: str, store: AwsParameterStore) -> list[str]:
    """Give the keys in the parameters beside the path's own and its page."""
    listed = plain(aws, "ssm").get_paginator("get_parameters_by_path")
    pages = listed.paginate(Path=name_of(store).rpartition("/")[0], WithDecryption=True)
    return [
        json.loads(p["Value"])["api_key"]
        for page in pages
        for p in page["Parameters"]
        if ".keyturn-" in p["Name"]
    ]


async def test_the_page_holds_nothing_secret(aws, store, first):
    await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    page = plain(aws, "ssm").get_parameter(Name=f"{name_of(store)}.keyturn", WithDecryption=True)
    assert "not-a-real-secret" not in page["Parameter"]["Value"]
    assert page["Parameter"]["Type"] == "SecureString", "so that a claim proves the right to encrypt"


# The page.


async def test_of_two_listedon_one_base_the_first_counts_for_everybody(aws, store, first):
    client, name = plain(aws, "ssm"), f"{name_of(store)}.keyturn"
    await store.claim(PATH, first)
    page = store._slots._desk.load(PATH).page
    for attempt in (2, 3):
        # Written by two workers that had both read the first page.
        late = replace(page, base=page.at, write=f"w{attempt}", fence=Attempt(first.rotation_id, attempt))
        client.put_parameter(Name=name, Value=pages.dump(late), Overwrite=True, Type="SecureString")
    assert store._slots._desk.load(PATH).page.fence.number == 2
    await store.claim(PATH, Attempt(first.rotation_id, 4))
    assert store._slots._desk.load(PATH).page.fence.number == 4


def test_a_page_survives_its_text():
    page = Page(base=3, write="w", lease=Lease("4-ab", 12.5), trash=("x",), content="c", dropped="1-a")
    assert pages.load("p", 4, pages.dump(page)) == replace(page, at=4)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
async def test_a_damaged_page_is_called_so(aws, store, text, first):
    value = text or "not json"
    plain(aws, "ssm").put_parameter(Name=f"{name_of(store)}.keyturn", Value=value, Type="SecureString")
    assert (await failed(store.claim(PATH, first))).fault is StoreFault.CORRUPT


# Bots, limits, logs.


async def test_a_bot_reads_with_one_right(store, faults):
    one = await put_key(store, PATH, "a")
    faults.calls()
    signature = store.signature(PATH)
    assert store.read_sync(PATH, Slot.CURRENT).material == fake_material("a")
    assert store.peek_sync(PATH, Slot.CURRENT).version == one.version
    assert set(faults.calls()) == {"GetParameter"}
    await put_key(store, PATH, "b", one.version)
    assert store.signature(PATH) != signature
    assert store.signature("bots/other") is None


async def test_a_value_over_8_kib_is_refused(store, first):
    claim = await store.claim(PATH, first)
    error = await failed(store.stage(PATH, fake_material("n", note="x" * 9000), fake_meta("n", first), claim))
    assert error.fault is StoreFault.MISCONFIGURED
    assert "larger" in error.what


async def test_a_parameter_in_plain_text_is_found_by_the_check(aws, store):
    plain(aws, "ssm").put_parameter(
        Name=name_of(store), Value='{"api_key": "k", "secret": "not-a-real-secret"}', Type="String"
    )
    findings = await store.check([PATH])
    assert any(not f.ok and "not encrypted" in f.detail for f in findings)


async def test_a_read_that_lags_behind_is_made_again(store, faults):
    old = await put_key(store, PATH, "old")
    stale = store._wire.call("ssm", "get_parameter", Name=name_of(store), WithDecryption=True)["Parameter"]
    await put_key(store, PATH, "new", old.version)
    body = {k: v for k, v in stale.items() if k in {"Name", "Type", "Value", "Version"}}

    def old_value(request, **_):
        given = answer(200, "x")(request)
        given.raw._data = json.dumps({"Parameter": body}).encode()
        return given

    faults.inject("GetParameter", old_value, times=3)
    assert await key_in(store, PATH, Slot.CURRENT) == "key-new"


async def test_nothing_secret_is_logged_with_everything_at_debug(store, first, caplog):
    caplog.set_level(logging.DEBUG)
    old = await put_key(store, PATH, "old")
    await stage_key(store, PATH, first, "new")
    await store.promote(PATH, first, expect_current=old.version)
    await store.check([PATH])
    said = "".join(f"{r.name} {r.getMessage()} {r.exc_info}" for r in caplog.records)
    assert "not-a-real-secret" not in said
