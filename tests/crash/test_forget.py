"""A death at each call of `forget`: what is written down no rotation touches; a second call ends it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyturn.domain.errors import KeyturnError
from keyturn.domain.keys import MintedKey, Permission
from keyturn.domain.rotation import Fate, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.engine.forget import forget
from keyturn.testing.crash import Killed, Mishap, Row
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from tests.engine.walking import opened

#: Every call that `forget` makes, of a key that is current and of one that a mirror keeps as previous.
ROWS = {
    "forgetting: journal.keys",
    "forgetting: journal.open_rotation",
    "forgetting: journal.record_keys",
    "forgetting: mirror.discard",
    "forgetting: mirror.peek",
    "forgetting: mirror.vacate",
    "forgetting: store.discard",
    "forgetting: store.peek",
    "forgetting: store.vacate",
}
# Seconds enough, by fives, for a rotation that cannot go on to park.
_SWEEPS = 12
SLOTS = [Slot.CURRENT, Slot.PREVIOUS]


async def with_mistake(slot: Slot) -> tuple[FakeWorld, MintedKey, str]:
    """Give a world in which somebody else's key stands in a slot of this credential, and its fingerprint."""
    fake = FakeWorld(mirrored=True, grace="10s", confirm_within="20s")
    await fake.prepare()
    mistaken, fake.old, fake.bot.loaded = fake.old, None, None
    assert mistaken is not None
    right = fake.exchange.add_key([Permission.READ, Permission.TRADE]) if slot is Slot.PREVIOUS else None
    for store in (fake.store, fake.mirror):
        stored = await store.read(PATH, Slot.CURRENT)
        assert stored is not None
        assert stored.info.meta is not None
        if right is not None:
            meta = await adopt._meta(fake.world(), "main", right.material, None)
            await store.put(PATH, right.material, meta, expect_current=stored.info.version)
    if slot is Slot.PREVIOUS:
        await adopt.adopt(fake.world(), NAME)
    # Every judge holds from here that it lives, as it does for any foreign key.
    fake.exchange.kill_key(fake.foreign.key_ref)
    fake.foreign = mistaken
    return fake, mistaken, stored.info.meta.fingerprint


async def walk(slot: Slot, at: int | None = None, mishap: Mishap | None = None) -> list[Row]:
    """Forget the key with one mishap at most; let sweeps go by; forget it again; go on with the right one."""
    fake, mistaken, mark = await with_mistake(slot)
    fake.state = "forgetting"
    fake.tracer.rows = []
    if at is not None and mishap is not None:
        fake.tracer.arm(at, mishap)
    try:
        await forget(fake.world(traced=True), NAME, mark)
    except (Killed, KeyturnError):
        assert at is not None
    rows = list(fake.tracer.rows)
    fake.recover()
    begun = (await fate_of(fake, mistaken)) is Fate.FORGOTTEN
    if begun:
        # Whoever died had written it down: no rotation that comes due meanwhile touches the key.
        fake.pass_time(timedelta(days=61))
        for _ in range(_SWEEPS):
            await sweep.sweep(Engine(fake.world(actor="sweep")))
            fake.clock.advance(5)
        assert mistaken.key_ref in fake.exchange.truth()
    gone = await forget(fake.world(), NAME, mark)
    assert gone.record.fate is Fate.FORGOTTEN
    if (held := await fake.journal.open_rotation(NAME)) and held.state is State.PARKED:
        await Engine(fake.world()).resume(NAME)
    await fake.sweep_until_rest()
    for store in (fake.store, fake.mirror):
        for each in Slot:
            info = await store.peek(PATH, each)
            assert info is None or info.meta is None or info.meta.key_ref != mistaken.key_ref
    await ended(fake, mistaken)
    return rows


async def ended(fake: FakeWorld, mistaken: MintedKey) -> None:
    """Put the right key if there is none, rotate it, and let the judge look."""
    if await fake.store.peek(PATH, Slot.CURRENT) is None:
        right = fake.exchange.add_key([Permission.READ, Permission.TRADE], label="made by hand")
        await adopt.put_credential(fake.world(), NAME, right.material)
    engine, rotation_id = await opened(fake)
    done = await fake.run(engine, rotation_id)
    assert done.state is State.COMPLETED, done.parked_why
    await fake.judge_rest()
    assert fake.exchange.accepts(mistaken.material), "it is somebody else's"
    assert await fate_of(fake, mistaken) is Fate.FORGOTTEN


async def fate_of(fake: FakeWorld, key: MintedKey) -> Fate:
    [record] = [k for k in await fake.journal.keys(NAME) if k.key_ref == key.key_ref]
    return record.fate


@pytest.mark.parametrize("mishap", Mishap)
@pytest.mark.parametrize("slot", SLOTS)
async def test_a_mishap_at_any_call_is_made_good_by_the_same_call_and_never_by_a_revoke(slot, mishap):
    for at, row in enumerate(await walk(slot)):
        try:
            await walk(slot, at, mishap)
        except AssertionError as error:
            raise AssertionError(f"call {at} ({row}), {mishap}: {error}") from error


async def test_every_call_of_forget_has_its_row():
    assert {str(row) for slot in SLOTS for row in await walk(slot)} == ROWS
