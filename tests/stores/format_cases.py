"""What a bot finds at its path when its format is not keyturn's own, on whatever server the path is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.inventory import FormatEntry
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import Slot
from keyturn.ports.store import Promotion, SecretStore
from keyturn.testing.store_contract_support import fake_material, fake_meta, key_in, keys_in, stage_key

FREQTRADE = FormatEntry(kind="freqtrade")
VARIABLES = {"api_key": "FREQTRADE__EXCHANGE__KEY", "secret": "FREQTRADE__EXCHANGE__SECRET"}
ENV = FormatEntry(kind="env", fields=VARIABLES)
OLD = {"name": "bybit", "key": "key-old", "secret": "not-a-real-secret-old"}
ATTEMPT = Attempt("r1", 1)


async def turned(store: SecretStore, path: str, read: Callable[[], dict[str, Any]]) -> Promotion:
    """Turn the key of a path that holds `OLD` and a fee for freqtrade; see what the bot reads."""
    foreign = await store.peek(path, Slot.CURRENT)
    assert foreign is not None
    assert await key_in(store, path, Slot.CURRENT) == "key-old"
    await stage_key(store, path, ATTEMPT, "new")
    assert await key_in(store, path, Slot.PENDING) == "key-new"
    done = await store.promote(path, ATTEMPT, expect_current=foreign.version)
    expected = {"name": "bybit", "key": "key-new", "secret": "not-a-real-secret-new"}
    assert read() == {"exchange": expected, "fee": 1}
    assert await keys_in(store, path) == (None, "key-new", "key-old")
    return done


async def what_does_not_fit_is_refused(store: SecretStore, path: str) -> None:
    """Stage in variables what a shell would read as something else, and then a key that fits."""
    claim = await store.claim(path, ATTEMPT)
    meta = fake_meta("new", claim.attempt)
    with pytest.raises(StoreError) as caught:
        await store.stage(path, SecretMaterial("key-new", "12e4"), meta, claim)
    assert caught.value.fault is StoreFault.UNFIT
    assert await store.read(path, Slot.PENDING) is None
    # The claim still holds, for a key that fits.
    await store.stage(path, fake_material("new"), meta, claim)
