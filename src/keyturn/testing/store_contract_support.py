"""What the store contract is written with: fake keys, and short words for what a store shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime

import pytest

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.labels import Attempt
from keyturn.domain.material import SecretMaterial
from keyturn.domain.slots import KeyMeta, Slot, SlotInfo
from keyturn.ports.store import SecretStore

WRITERS = 16
ODD = "ümläut ✓ \U0001f511 \u2028 \"quoted\" 'single' \\back $HOME %2F \x7f\t{}[]:#"
PEM = "-----BEGIN PRIVATE KEY-----\nbm90LWEtcmVhbC1rZXk=\r\n-----END PRIVATE KEY-----\n"


def fake_material(name: str, *, passphrase: str | None = None, **extra: str) -> SecretMaterial:
    """Make material that is obviously not real, and that a search for its name finds."""
    return SecretMaterial(f"key-{name}", f"not-a-real-secret-{name}", passphrase, extra)


def fake_meta(name: str, attempt: Attempt | None) -> KeyMeta:
    """Make the description that goes with `fake_material` of the same name."""
    return KeyMeta(
        exchange="bybit",
        account="main",
        key_ref=f"key-{name}",
        fingerprint=f"fp{name}",
        attempt=attempt,
        created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        handle=f"handle-{name}",
        account_uid="10001",
    )


async def stage_key(store: SecretStore, path: str, attempt: Attempt, name: str) -> SlotInfo:
    """Claim and stage in one go."""
    claim = await store.claim(path, attempt)
    return await store.stage(path, fake_material(name), fake_meta(name, attempt), claim)


async def put_key(store: SecretStore, path: str, name: str, expect_current: str | None = None) -> SlotInfo:
    """Put a person's key into current."""
    return await store.put(path, fake_material(name), fake_meta(name, None), expect_current=expect_current)


async def key_in(store: SecretStore, path: str, slot: Slot) -> str | None:
    """Give the key ref that opening a slot yields."""
    stored = await store.read(path, slot)
    return stored.material.key_ref if stored else None


async def keys_in(store: SecretStore, path: str) -> tuple[str | None, str | None, str | None]:
    """Give the key refs of pending, current, previous."""
    return (
        await key_in(store, path, Slot.PENDING),
        await key_in(store, path, Slot.CURRENT),
        await key_in(store, path, Slot.PREVIOUS),
    )


async def slots_of(store: SecretStore, path: str) -> list[SlotInfo | None]:
    """Give all slots as they are shown."""
    return [await store.peek(path, slot) for slot in Slot]


async def refused(call: Awaitable[object]) -> StoreError:
    """Expect a conflict and give it."""
    with pytest.raises(StoreError) as caught:
        await call
    assert caught.value.fault is StoreFault.CONFLICT
    assert caught.value.now
    assert caught.value.todo
    return caught.value


async def outcomes(calls: Sequence[Awaitable[object]]) -> tuple[list[object], list[StoreError]]:
    """Run calls at once; give the results of those that succeeded and the errors of the others."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, StoreError):
            raise result
    won = [r for r in results if not isinstance(r, BaseException)]
    return won, [r for r in results if isinstance(r, StoreError)]
