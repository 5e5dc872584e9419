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
from keyturn.testing.store_contract_support import (
    fake_material,
    fake_meta,
    key_in,
    keys_in,
    put_key,
    stage_key,
)

FREQTRADE = FormatEntry(kind="freqtrade")
VARIABLES = {"api_key": "FREQTRADE__EXCHANGE__KEY", "secret": "FREQTRADE__EXCHANGE__SECRET"}
NESTED = FormatEntry(kind="json", fields={"api_key": "exchange.key", "secret": "auth.secret"})
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


async def other_lines_are_kept(
    store: SecretStore,
    path: str,
    write: Callable[[dict[str, Any]], object],
    read: Callable[[], dict[str, Any]],
) -> None:
    """Turn the key of an .env that holds the bot's other settings, and go back."""
    beside = "# of the bot\nTELEGRAM_TOKEN='a b'\nSYMBOL=BTCUSDT\n"
    old = "export FREQTRADE__EXCHANGE__KEY=key-old # by hand\n"
    old += "FREQTRADE__EXCHANGE__SECRET=not-a-real-secret-old\n"
    write({"env": beside.replace("SYMBOL", f"{old}SYMBOL"), "fee": 1})
    foreign = await store.peek(path, Slot.CURRENT)
    assert foreign is not None
    await stage_key(store, path, ATTEMPT, "new")
    done = await store.promote(path, ATTEMPT, expect_current=foreign.version)
    new = "FREQTRADE__EXCHANGE__KEY=key-new\nFREQTRADE__EXCHANGE__SECRET=not-a-real-secret-new\n"
    assert read() == {"env": beside + new, "fee": 1}
    assert await keys_in(store, path) == (None, "key-new", "key-old")
    info = await put_key(store, path, "put", done.current)
    assert read() == {"env": beside + new.replace("-new", "-put"), "fee": 1}
    await store.restore_previous(path, expect_current=info.version)
    assert read() == {"env": beside + new, "fee": 1}


async def what_is_in_the_way_is_told_before_a_key_is_made(
    store: SecretStore,
    path: str,
    write: Callable[[dict[str, Any]], object],
    read: Callable[[], dict[str, Any]],
) -> None:
    """Claim, and write, where a text stands in the place of an object (`NESTED`)."""
    before = {"exchange": "bybit", "auth": {"secret": "not-a-real-secret-old"}}
    write(before)
    foreign = await store.peek(path, Slot.CURRENT)
    assert foreign is not None
    for call in (store.claim(path, ATTEMPT), put_key(store, path, "new", foreign.version)):
        with pytest.raises(StoreError) as caught:
            await call
        assert caught.value.fault is StoreFault.MISCONFIGURED
        assert "field exchange is there" in caught.value.what
        assert read() == before
    assert await store.peek(path, Slot.PENDING) is None
