"""A bot tries a key that is bound to its address, and its report stands until it is asked anew."""

from datetime import timedelta

from keyturn.domain.errors import ExchangeFault
from keyturn.domain.evidence import ProbeFault, ProbeReport
from keyturn.domain.rotation import Park, State
from keyturn.engine.engine import Engine
from keyturn.testing.fake_world import NAME, FakeBot, FakeWorld
from keyturn.testing.roads import BOT_ADDRESS, BOT_PROXY

from .walking import opened, until


class LastingBot(FakeBot):
    """Reports once for a request, as a bot with a mailbox does."""

    def __init__(self, world):
        super().__init__(world)
        self.report = None

    async def request_probe(self, request):
        await super().request_probe(request)
        self.report = None

    async def probe_report(self, request):
        if self.report is None:
            self.report = await super().probe_report(request)
        return self.report


async def bound_to_the_bot(bot_proxy=BOT_PROXY):
    fake = FakeWorld(ips=(BOT_ADDRESS,), egress={BOT_PROXY: BOT_ADDRESS}, bot_proxy=bot_proxy, grace="10s")
    await fake.prepare()
    fake.bot = LastingBot(fake)
    return fake, *await opened(fake)


async def test_a_bot_that_was_moved_to_the_right_address_tries_the_key_again_after_resume():
    fake, engine, rotation_id = await bound_to_the_bot(bot_proxy=None)
    await until(fake, engine, rotation_id, State.PARKED)
    assert (await engine.get(rotation_id)).parked is Park.NO_PROOF
    fake.bot_proxy = BOT_PROXY
    await Engine(fake.world()).resume(NAME)
    assert (await fake.run(Engine(fake.world()), rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_report_of_a_passing_fault_holds_up_no_rotation_for_ever():
    fake, engine, rotation_id = await bound_to_the_bot()
    await until(fake, engine, rotation_id, State.STAGED)
    await engine.step(rotation_id)
    (request,) = fake.bot.probes
    fake.bot.report = ProbeReport(
        request.consumer, request.fingerprint, fake.clock.now(), None, fault=ExchangeFault.VENUE_DOWN
    )
    fake.clock.advance(timedelta(days=2).total_seconds())
    parked = (await engine.step(rotation_id)).rotation
    assert (parked.state, parked.parked) == (State.PARKED, Park.NO_PROOF)
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()


async def test_a_bot_that_may_not_read_the_pending_key_parks_at_once_and_is_told_which_right_it_lacks():
    fake, engine, rotation_id = await bound_to_the_bot()
    await until(fake, engine, rotation_id, State.STAGED)
    await engine.step(rotation_id)
    (request,) = fake.bot.probes
    fake.bot.report = ProbeReport(
        request.consumer, request.fingerprint, fake.clock.now(), None, fault=ProbeFault.PENDING_DENIED
    )
    parked = (await engine.step(rotation_id)).rotation
    assert (parked.state, parked.parked) == (State.PARKED, Park.NO_PROOF)
    assert "may not read" in parked.parked_why
    assert "read the pending key" in parked.parked_todo
    assert "egress_proxy" in parked.parked_todo
    await engine.resume(NAME)
    assert (await fake.run(engine, rotation_id)).state is State.COMPLETED
    await fake.judge_rest()
