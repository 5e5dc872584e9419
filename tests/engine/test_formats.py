"""A key that its bot would misread is revoked again and another is minted, a bounded number of times."""

from keyturn.domain.errors import StoreError, StoreFault
from keyturn.domain.rotation import Mode, Park, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeWorld


def picky(fake: FakeWorld, misfits: int) -> list[str]:
    """Let the store refuse the first keys, as it does those that a format cannot carry."""
    real, refused = fake.store.stage, []

    async def stage(path, material, meta, claim):
        if len(refused) < misfits:
            refused.append(material.key_ref)
            raise StoreError(StoreFault.UNFIT, "The key for bots/mm cannot be kept in the format env.")
        return await real(path, material, meta, claim)

    fake.store.stage = stage
    return refused


async def rotated(fake: FakeWorld):
    await fake.prepare()
    engine = Engine(fake.world())
    rotation = await engine.open(NAME, mode=Mode.MANUAL, reason="a test")
    return engine, await fake.run(engine, rotation.id)


async def test_a_key_that_its_bot_would_misread_is_revoked_and_another_is_minted():
    fake = FakeWorld()
    refused = picky(fake, 2)
    _, done = await rotated(fake)
    assert (done.state, done.attempt) == (State.COMPLETED, 3)
    assert not set(refused) & fake.exchange.truth().keys()
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_format_that_no_key_fits_parks_and_says_so():
    fake = FakeWorld()
    refused = picky(fake, 99)
    _, parked = await rotated(fake)
    assert (parked.state, parked.parked) == (State.PARKED, Park.STORE)
    assert "format env" in parked.parked_why
    assert len(refused) == 4
    assert not set(refused) & fake.exchange.truth().keys(), "none of them is left alive"
