"""What the tests of the file store share."""

from collections.abc import Awaitable, Callable

import pytest

from keyturn.domain.errors import StoreError
from keyturn.domain.labels import Attempt
from keyturn.stores.age_files import AgeFilesStore
from keyturn.testing.store_contract_support import put_key, stage_key

PATH = "bybit/main"
ATTEMPT = Attempt("0123456789", 1)
OPEN = Callable[..., AgeFilesStore]


async def rotate(store: AgeFilesStore) -> None:
    await put_key(store, PATH, "old")
    await stage_key(store, PATH, ATTEMPT, "new")
    await store.promote(PATH, ATTEMPT, expect_current="v000001")


async def fault_of(call: Awaitable[object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call
    error = caught.value
    assert error.now
    assert error.todo
    assert "not-a-real-secret" not in error.diagnostics()
    assert "AGE-SECRET-KEY" not in error.diagnostics()
    return error
