"""What copies a secret inside Secrets Manager: other regions, and secrets that hold one field each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.stores.formats import Formats
from keyturn.testing.store_contract import SecretStoreContract
from keyturn.testing.store_contract_support import fake_meta, key_in, keys_in, put_key, stage_key

from .aws_server import REGION, Faults, plain
from .slow_region import SLOW_REGION, SLOW_SECONDS

PATH = "bots/mm"
NAMES = {"api_key": "key", "secret": "secret"}
SPLIT = Formats(split={PATH: NAMES})
Open = Callable[..., AwsSecretsManager]


@pytest.fixture
def prefix() -> str:
    return f"copies/{new_rotation_id()}/"


@pytest.fixture
async def open_store(aws: str, prefix: str) -> AsyncIterator[Open]:
    opened: list[AwsSecretsManager] = []

    def open_store(**options: Any) -> AwsSecretsManager:
        wire = Wire("sm", region=REGION, endpoint_url=aws, timeout=5)
        opened.append(AwsSecretsManager(wire, prefix=prefix, **options))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def split(open_store: Open) -> AwsSecretsManager:
    return open_store(formats=SPLIT)


class Bot:
    """Reads single fields with boto3 alone, as the documentation says."""

    def __init__(self, aws: str, prefix: str) -> None:
        self._client, self._prefix = plain(aws, "secretsmanager"), prefix

    def answer(self, name: str, label: str = "AWSCURRENT") -> dict[str, Any]:
        name = f"{self._prefix}{PATH}/{name}"
        return self._client.get_secret_value(SecretId=name, VersionStage=label)

    def once(self) -> tuple[str, ...]:
        return tuple(self.answer(name)["SecretString"] for name in NAMES.values())

    def read(self) -> tuple[str, ...]:
        for _ in range(50):
            answers = [self.answer(name) for name in NAMES.values()]
            if len({a["VersionId"] for a in answers}) == 1:
                return tuple(a["SecretString"] for a in answers)
            time.sleep(0.02)
        raise AssertionError("the fields never agree")


@pytest.fixture
def bot(aws: str, prefix: str) -> Bot:
    return Bot(aws, prefix)


async def rotate(store: AwsSecretsManager, name: str) -> str:
    """Promote a key; give the version that was current before."""
    current = await store.peek(PATH, Slot.CURRENT)
    attempt = Attempt(new_rotation_id(), 1)
    await stage_key(store, PATH, attempt, name)
    await store.promote(PATH, attempt, expect_current=current.version if current else None)
    return current.version if current else ""


def pair(name: str) -> tuple[str, str]:
    return f"key-{name}", f"not-a-real-secret-{name}"


class TestASplitStore(SecretStoreContract):
    @pytest.fixture
    def path(self) -> str:
        return PATH

    @pytest.fixture
    def store(self, split: AwsSecretsManager) -> AwsSecretsManager:
        return split


# Regions.


async def test_a_slow_region_is_behind_until_it_is_in_sync(open_store):
    store = open_store(replica_regions=(SLOW_REGION, "eu-west-1"))
    await put_key(store, PATH, "a")
    assert await store.spread(PATH) == [f"region {SLOW_REGION} (InProgress)"]
    await asyncio.sleep(SLOW_SECONDS)
    assert await store.spread(PATH) == []
    await rotate(store, "b")
    assert await store.spread(PATH) == [f"region {SLOW_REGION} (InProgress)"]


async def test_a_region_of_the_inventory_without_a_replica_is_behind(aws, open_store, prefix):
    await put_key(open_store(), PATH, "a")
    store = open_store(replica_regions=("eu-west-1",))
    assert await store.spread(PATH) == ["region eu-west-1 (no replica)"]
    plain(aws, "secretsmanager").replicate_secret_to_regions(
        SecretId=prefix + PATH, AddReplicaRegions=[{"Region": "eu-west-1"}]
    )
    assert await store.spread(PATH) == []


async def test_a_replica_that_the_inventory_does_not_name_counts_too(open_store):
    await put_key(open_store(replica_regions=(SLOW_REGION,)), PATH, "a")
    assert await open_store().spread(PATH) == [f"region {SLOW_REGION} (InProgress)"]


async def test_a_secret_without_replicas_costs_no_call_that_was_not_made_anyway(open_store, monkeypatch):
    store = open_store()
    await put_key(store, PATH, "a")
    faults = Faults(store._wire)
    faults.watch("secretsmanager")
    assert await store.spread(PATH) == []
    assert faults.calls() == []


async def test_the_regions_of_a_field_secret_are_waited_for(open_store):
    store = open_store(formats=SPLIT, replica_regions=(SLOW_REGION,))
    await put_key(store, PATH, "a")
    await asyncio.sleep(SLOW_SECONDS)
    behind = await store.spread(PATH)
    assert behind == [f"region {SLOW_REGION} of {PATH}/{name} (InProgress)" for name in NAMES.values()]


# Fields.


async def test_field_secrets_follow_and_have_one_version_id(split, bot):
    await put_key(split, PATH, "a")
    assert await split.spread(PATH) == []
    assert bot.read() == pair("a")
    await rotate(split, "b")
    assert bot.once() == pair("a"), "the promotion is one write, of the secret at the path"
    assert await key_in(split, PATH, Slot.CURRENT) == "key-b"
    assert await split.spread(PATH) == []
    assert bot.read() == pair("b")


async def test_they_follow_a_roll_back_and_what_emptied_pending(split, bot):
    await put_key(split, PATH, "a")
    old = await rotate(split, "b")
    assert await split.spread(PATH) == []
    current = await split.peek(PATH, Slot.CURRENT)
    await split.restore_previous(PATH, expect_current=current.version)
    assert await split.spread(PATH) == []
    assert bot.read() == pair("a")
    # An abort makes a copy of what is current: the fields follow it with the same values.
    staged = await stage_key(split, PATH, Attempt(new_rotation_id(), 1), "c")
    await split.discard(PATH, Slot.PENDING, version=staged.version)
    assert await split.spread(PATH) == []
    assert bot.read() == pair("a")
    assert (await split.peek(PATH, Slot.CURRENT)).version == old


async def test_a_worker_that_slept_through_a_roll_back_changes_nothing(open_store, split, bot, monkeypatch):
    await put_key(split, PATH, "a")
    await split.spread(PATH)
    await rotate(split, "b")
    slow = open_store(formats=SPLIT)
    move = slow._shelf.move

    def asleep(path: str, label: str, source: str | None, target: str | None) -> bool:
        slow._shelf.move = move
        # Meanwhile another worker rolls back, and brings the fields there.
        other = open_store(formats=SPLIT)
        current = other._reader.info(PATH, Slot.CURRENT)
        other._slots.restore_previous(PATH, current.version)
        other._spread(PATH)
        return move(path, label, source, target)

    monkeypatch.setattr(slow._shelf, "move", asleep)
    await slow.spread(PATH)
    assert await split.spread(PATH) == []
    assert bot.read() == pair("a")


async def test_a_worker_that_slept_through_the_making_of_a_field_secret_changes_nothing(
    open_store, split, bot, monkeypatch
):
    await put_key(split, PATH, "a")
    slow = open_store(formats=SPLIT)
    create = slow._shelf.create

    def asleep(path: str, token: str, text: str | None = None) -> None:
        monkeypatch.setattr(slow._shelf, "create", create)
        other = open_store(formats=SPLIT)
        meta = fake_meta("b", None)
        other._slots.put(
            PATH, SecretMaterial(*pair("b")), meta, other._reader.info(PATH, Slot.CURRENT).version
        )
        other._spread(PATH)
        create(path, token, text)

    monkeypatch.setattr(slow._shelf, "create", asleep)
    assert await slow.spread(PATH) == [f"secret {PATH}/{name}" for name in NAMES.values()]
    assert bot.read() == pair("b")


async def test_a_bot_that_compares_versions_never_mixes_two_keys(split, bot):
    await put_key(split, PATH, "0")
    await split.spread(PATH)
    seen, stop = set(), asyncio.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(bot.read())

    watching = asyncio.create_task(asyncio.to_thread(watch))
    for number in range(1, 8):
        await rotate(split, str(number))
        await split.spread(PATH)
    stop.set()
    await watching
    assert seen <= {pair(str(n)) for n in range(8)}
    assert len(seen) > 2


async def test_a_discarded_key_leaves_the_field_secrets_too(split, bot):
    await put_key(split, PATH, "a")
    await split.spread(PATH)
    old = await rotate(split, "b")
    await split.spread(PATH)
    assert bot.answer("secret", "AWSPREVIOUS")["SecretString"] == pair("a")[1]
    await split.discard(PATH, Slot.PREVIOUS, version="another")
    assert bot.answer("secret", "AWSPREVIOUS")["SecretString"] == pair("a")[1]
    await split.discard(PATH, Slot.PREVIOUS, version=old)
    with pytest.raises(bot._client.exceptions.ResourceNotFoundException):
        bot.answer("secret", "AWSPREVIOUS")
    assert bot.read() == pair("b")


async def test_a_vacated_path_leaves_no_key_in_the_field_secrets(split, bot):
    await put_key(split, PATH, "a")
    await split.spread(PATH)
    version = (await split.peek(PATH, Slot.CURRENT)).version
    for _ in range(2):
        await split.vacate(PATH, expect_current=version)
        assert not {*bot.once()} & {*pair("a")}
        with pytest.raises(bot._client.exceptions.ResourceNotFoundException):
            bot.answer("secret", "AWSPREVIOUS")
    await put_key(split, PATH, "b")
    assert await split.spread(PATH) == []
    assert bot.read() == pair("b")


async def test_a_strangers_secret_at_a_fields_name_stops_the_claim_and_is_kept(aws, split, prefix):
    await put_key(split, PATH, "a")
    theirs = f"{prefix}{PATH}/secret"
    client = plain(aws, "secretsmanager")
    client.create_secret(Name=theirs, SecretString="not-a-real-secret-of-theirs")
    for call in (split.claim(PATH, Attempt(new_rotation_id(), 1)), split.spread(PATH)):
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.fault is StoreFault.MISCONFIGURED
        assert f"{PATH}/secret" in caught.value.what
        assert "of-theirs" not in caught.value.diagnostics()
    assert client.get_secret_value(SecretId=theirs)["SecretString"] == "not-a-real-secret-of-theirs"
    (finding,) = [f for f in await split.check([PATH]) if not f.ok]
    assert finding.subject == f"{PATH}/secret"
    await split.vacate(PATH, expect_current=(await split.peek(PATH, Slot.CURRENT)).version)
    assert client.get_secret_value(SecretId=theirs)["SecretString"] == "not-a-real-secret-of-theirs"


async def test_secrets_that_hold_the_current_key_already_are_taken_over(aws, split, bot, prefix):
    client = plain(aws, "secretsmanager")
    for name, value in zip(NAMES.values(), pair("a"), strict=True):
        client.create_secret(Name=f"{prefix}{PATH}/{name}", SecretString=value)
    await put_key(split, PATH, "a")
    await rotate(split, "b")
    assert await split.spread(PATH) == []
    assert bot.read() == pair("b")


async def test_a_field_without_a_name_stays_in_the_document(split, bot):
    material = SecretMaterial(*pair("a"), "not-a-real-pass")
    await split.put(PATH, material, fake_meta("a", None), expect_current=None)
    assert await split.spread(PATH) == []
    assert bot.read() == pair("a")
    assert (await split.read(PATH, Slot.CURRENT)).material == material


async def test_check_says_which_field_secret_is_behind_and_writes_nothing(split, bot):
    assert all(f.ok for f in await split.check([PATH]))
    await put_key(split, PATH, "a")
    await split.spread(PATH)
    assert all(f.ok for f in await split.check([PATH]))
    await rotate(split, "b")
    behind = [f.subject for f in await split.check([PATH]) if not f.ok]
    assert behind == [f"{PATH}/{name}" for name in NAMES.values()]
    assert bot.once() == pair("a")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stop", range(8))
async def test_a_spread_that_dies_at_any_call_is_finished_by_the_next(
    open_store, split, bot, when, stop, monkeypatch
):
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0,))
    await put_key(split, PATH, "a")
    await split.spread(PATH)
    old = await rotate(split, "b")
    dying = open_store(formats=SPLIT)
    faults, count = Faults(dying._wire), [0]

    def die(request: Any, *, event_name: str, **more: object) -> None:
        count[0] += 1
        if count[0] > stop:
            if count[0] == stop + 1 and when == "after":
                faults.cut_after(request, event_name=event_name)
            faults.unreachable(request)

    events = dying._wire.client("secretsmanager").meta.events
    for operation in ("PutSecretValue", "UpdateSecretVersionStage"):
        events.register_first(f"before-send.secrets-manager.{operation}", die)
    # Three writes a field; the answer of the last may be read back.
    with pytest.raises(StoreError) if stop < 5 else suppress(StoreError):
        await dying.spread(PATH)
    assert await keys_in(split, PATH) == (None, "key-b", "key-a")
    assert await split.spread(PATH) == []
    assert bot.read() == pair("b")
    await split.discard(PATH, Slot.PREVIOUS, version=old)
    for name in NAMES.values():
        labels = bot._client.describe_secret(SecretId=f"{bot._prefix}{PATH}/{name}")["VersionIdsToStages"]
        assert list(labels.values()) == [["AWSCURRENT"]]
