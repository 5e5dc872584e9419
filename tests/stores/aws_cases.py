"""What the tests of both AWS stores share: stores on a prefix, their faults, and the way to each write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from keyturn.domain.errors import StoreError
from keyturn.domain.labels import Attempt, new_rotation_id
from keyturn.domain.slots import Slot
from keyturn.stores.aws.parameter_store import AwsParameterStore
from keyturn.stores.aws.secrets_manager import AwsSecretsManager
from keyturn.stores.aws.wire import Wire
from keyturn.testing.store_contract_support import fake_material, fake_meta, put_key

from .aws_server import REGION, Faults

PATH = "bots/mm"
Store = AwsSecretsManager | AwsParameterStore
Open = Callable[..., Store]


@pytest.fixture
async def open_store(aws: str, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open stores of the module's `KIND` that see the same secrets."""
    prefix = f"keyturn/{new_rotation_id()}/"
    opened: list[Store] = []

    def open_store(**options: object) -> Store:
        wire = Wire("aws", region=REGION, endpoint_url=aws, timeout=5)
        opened.append(request.module.KIND(wire, prefix=prefix, **options))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


@pytest.fixture
def faults(store: Store, monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setattr("keyturn.stores.aws.wire._PAUSES", (0.0, 0.0, 0.0))
    made = Faults(store._wire)
    made.watch("ssm" if isinstance(store, AwsParameterStore) else "secretsmanager")
    return made


@pytest.fixture
def first() -> Attempt:
    return Attempt(new_rotation_id(), 1)


def name_of(store: Store) -> str:
    """Give the name that AWS knows the credential by."""
    shelf = store._parameters if isinstance(store, AwsParameterStore) else store._shelf
    return shelf.name(PATH)


async def failed(call: object) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    error = caught.value
    assert error.now
    assert error.todo
    assert "not-a-real-secret" not in f"{error.diagnostics()} {error.__context__!r} {error.__cause__!r}"
    return error


WRITES = ("claim", "stage", "promote", "restore", "discard pending", "discard previous", "put")


async def at(store: Store, verb: str, first: Attempt):
    """Bring the path to where a verb can be used, and give the call, and what keys there are after it."""
    if verb == "put":
        return lambda: put_key(store, PATH, "a"), (None, "key-a", None)
    old = await put_key(store, PATH, "old")
    if verb == "claim":
        return lambda: store.claim(PATH, first), (None, "key-old", None)
    claim = await store.claim(PATH, first)
    if verb == "stage":
        material, meta = fake_material("new"), fake_meta("new", first)
        return lambda: store.stage(PATH, material, meta, claim), ("key-new", "key-old", None)
    staged = await store.stage(PATH, fake_material("new"), fake_meta("new", first), claim)
    if verb == "promote":
        call = lambda: store.promote(PATH, first, expect_current=old.version)  # noqa: E731
        return call, (None, "key-new", "key-old")
    if verb == "discard pending":
        call = lambda: store.discard(PATH, Slot.PENDING, version=staged.version)  # noqa: E731
        return call, (None, "key-old", None)
    done = await store.promote(PATH, first, expect_current=old.version)
    if verb == "restore":
        call = lambda: store.restore_previous(PATH, expect_current=done.current)  # noqa: E731
        return call, (None, "key-old", "key-new")
    return lambda: store.discard(PATH, Slot.PREVIOUS, version=old.version), (None, "key-new", None)
