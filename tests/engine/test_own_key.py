"""A bot that signs with a key of its own is named where a rotation waits for it."""

from __future__ import annotations

from keyturn.domain.rotation import Park, State
from keyturn.engine.status import status
from keyturn.ports.store import Finding
from keyturn.testing.fake_world import FakeWorld

from .walking import opened

SAYS = "bot bot signs with a key that it set itself, and confirms none"


async def test_the_park_for_want_of_a_proof_and_the_status_name_a_bot_on_its_own_key(monkeypatch):
    fake = FakeWorld(confirm_within="5s")
    await fake.prepare()

    async def check():
        well = Finding("consumer bot", ok=True, detail="in memory")
        return [well, Finding("consumer bot: mm", ok=False, detail=SAYS)]

    monkeypatch.setattr(fake.bot, "check", check)
    fake.bot.confirms = False
    engine, rotation_id = await opened(fake)
    for _ in range(60):
        progress = await engine.advance(rotation_id)
        if progress.rotation.state is State.PARKED:
            break
        fake.clock.travel_to(progress.rest.until)
    assert progress.rotation.parked is Park.UNCONFIRMED
    assert "Bot bot signs with a key that it set itself" in progress.rotation.parked_why
    [line] = await status(fake.world())
    assert "signs with a key that it set itself" in line.problem
