"""The roads that the crash suites go down: each is a story of one rotation in the world in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from keyturn.domain.errors import ExchangeFault, JournalError, RefusedError
from keyturn.domain.keys import Permission
from keyturn.domain.manifest import AddedRight
from keyturn.domain.rotation import Fate, Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine import adopt, sweep
from keyturn.engine.engine import Engine
from keyturn.testing.crash import Killed, Mishap, Row, Tracer
from keyturn.testing.fake_world import NAME, PATH, FakeWorld
from keyturn.testing.memory_exchange import NEUTRAL

AFTER_CREATION = NEUTRAL.model_copy(update={"ip": NEUTRAL.ip.model_copy(update={"set_at": "after"})})
#: A venue that may add a right by itself; these roads' exchange does not.
ADDING = NEUTRAL.model_copy(
    update={"adds": (AddedRight(right="extra", when="some keys", meaning="do more"),)}
)
BOT_ADDRESS, BOT_PROXY = "203.0.113.7", "http://bot.invalid"
#: A key that works from the bot's machine alone.
_BOUND = {"ips": (BOT_ADDRESS,), "egress": {BOT_PROXY: BOT_ADDRESS}, "bot_proxy": BOT_PROXY}

Story = Callable[[FakeWorld, Engine], Awaitable[None]]


@dataclass(frozen=True)
class Road:
    """A story, and the world that it happens in."""

    story: Story
    world: dict[str, Any] = field(default_factory=dict)
    old_key: bool = True
    #: Only stores in memory can be told to have copies that lag.
    in_memory: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether there is a mirror on this road."""
        return bool(self.world.get("mirrored"))

    async def prepared(self, make: Callable[..., FakeWorld] = FakeWorld) -> FakeWorld:
        """Build the world, up to the moment before the story begins."""
        fake = make(grace="10s", **self.world)
        await fake.prepare(old_key=self.old_key)
        return fake


async def walk(
    road: Road,
    at: int | None = None,
    mishap: Mishap | None = None,
    *,
    make: Callable[..., FakeWorld] = FakeWorld,
    meanwhile: Callable[[FakeWorld], None] = lambda fake: None,
    found_after: float = 0.0,
) -> list[Row]:
    """Go down a road with one mishap at most; sweep up; judge; give the calls that were made.

    Args:
        road: the road.
        at: the number of the port call that ends badly.
        mishap: how.
        make: builds the world.
        meanwhile: called when the story begins, for other things that may go wrong.
        found_after: seconds until the first sweep comes by.

    Raises:
        AssertionError: an invariant does not hold.
    """
    fake = await road.prepared(make)
    if at is not None and mishap is not None:
        fake.tracer.arm(at, mishap)
    else:
        fake.tracer.rows = []
    meanwhile(fake)
    # The process is gone, or its flow run failed: the sweep is what goes on.
    with suppress(Killed, JournalError, RefusedError):
        await road.story(fake, Engine(fake.world(traced=True)))
    rows = list(fake.tracer.rows)
    fake.recover()
    fake.clock.advance(found_after)
    await fake.sweep_until_rest(traced=True)
    if await fake.store.peek(PATH, Slot.CURRENT) is None:
        # The first key was aborted: the sweep makes another when the pause after an abort is over.
        fake.pass_time(timedelta(days=2))
        await fake.sweep_until_rest(traced=True)
    await fake.judge_rest()
    return rows


async def forward(fake: FakeWorld, engine: Engine) -> None:
    """Rotate to the end."""
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    await fake.run(engine, opened.id)


async def _until(fake: FakeWorld, engine: Engine, state: State) -> str:
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    for _ in range(60):
        rotation = await engine.get(opened.id)
        fake.state = rotation.state
        if rotation.state is state or not rotation.is_open:
            break
        progress = await engine.step(opened.id)
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    return opened.id


def aborted_at(state: State) -> Story:
    """Give the story of a rotation that a person aborts in a state."""

    async def story(fake: FakeWorld, engine: Engine) -> None:
        rotation_id = await _until(fake, engine, state)
        await engine.abort(NAME, "a test wants it")
        await fake.run(engine, rotation_id)

    return story


def rolled_back_at(state: State) -> Story:
    """Give the story of a rotation that a person rolls back in a state."""

    async def story(fake: FakeWorld, engine: Engine) -> None:
        rotation_id = await _until(fake, engine, state)
        try:
            await engine.rollback(NAME, "a test wants it")
        except RefusedError:
            # A mishap on the way made the rotation end before this state.
            assert not (await engine.get(rotation_id)).is_open
        await fake.run(engine, rotation_id)

    return story


async def mint_unknown(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while the answer to the mint is lost."""
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await forward(fake, engine)


async def stale_list(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while the answer to the mint is lost and the list of keys lags behind."""
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    rotation_id = await _until(fake, engine, State.MINTING)
    fake.exchange.serve_stale_list(changes=1, times=3)
    await fake.run(engine, rotation_id)
    await fake.sweep_until_rest(traced=True)


async def list_without_current(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while the list of keys does not show the one that is current yet."""
    fake.exchange.serve_stale_list(changes=9)
    await forward(fake, engine)


async def mint_lost(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, while the call that mints gets lost on its way, and its answer with it."""
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN)
    await forward(fake, engine)


async def recovered_late(fake: FakeWorld, engine: Engine) -> None:
    """Look for a lost mint while the list does not show the current key yet."""
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    rotation_id = await _until(fake, engine, State.MINTING)
    fake.exchange.serve_stale_list(changes=9)
    await fake.run(engine, rotation_id)


async def aborted_late(fake: FakeWorld, engine: Engine) -> None:
    """Abort while the list does not show the current key yet."""
    rotation_id = await _until(fake, engine, State.VERIFIED)
    await engine.abort(NAME, "a test wants it")
    fake.exchange.serve_stale_list(changes=9)
    await fake.run(engine, rotation_id)


class _DiesAfterMinting(Tracer):
    """Lets its process die when the venue has made the key, and before it learns so."""

    async def call(self, port: str, method: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        result = await super().call(port, method, effect)
        if method == "create_key":
            raise Killed
        return result


async def died_and_aborted(fake: FakeWorld, engine: Engine) -> None:
    """Let the process that mints die, and abort before a sweep has looked for the key."""
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    own, fake.tracer = fake.tracer, _DiesAfterMinting(lambda: fake.state)
    dying = Engine(fake.world(traced=True))
    fake.tracer = own
    with suppress(Killed):
        await dying.step(opened.id)
    fake.state = State.MINTING
    await engine.abort(NAME, "a test wants it")
    await fake.run(engine, opened.id)


async def late_confirmation(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while the bot confirms only after the rotation was parked."""
    fake.bot.confirms = False
    rotation_id = await _until(fake, engine, State.PARKED)
    fake.bot.confirms = True
    await fake.run(engine, rotation_id)


def forged_at(state: State, steps: int) -> Story:
    """Give the story of a rotation in which somebody speaks for the bot, for some steps from a state on."""

    async def story(fake: FakeWorld, engine: Engine) -> None:
        rotation_id = await _until(fake, engine, state)
        fake.bot.forged = True
        for _ in range(steps):
            fake.state = (await engine.get(rotation_id)).state
            progress = await engine.step(rotation_id)
            if not progress.rotation.is_open:
                return
            if progress.rest and progress.rest.until:
                fake.clock.travel_to(progress.rest.until)
        fake.bot.forged = False
        await fake.run(engine, rotation_id)

    return story


async def confirmed_by_a_person(fake: FakeWorld, engine: Engine) -> None:
    """Rotate with a bot that cannot prove anything, until a person gives its proof."""
    fake.bot.confirms = False
    await _until(fake, engine, State.PARKED)
    fake.state = State.PARKED
    rotation = await engine.confirm(NAME, "bot", by="a person", reason="seen on its status page")
    await fake.run(engine, rotation.id)


async def late_copies(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while copies inside the stores come so late that it parks."""
    stores = (fake.store, fake.mirror)
    for store in stores:
        store.lagging = ["region far away"]
    rotation_id = await _until(fake, engine, State.PARKED)
    for store in stores:
        store.lagging = []
    await fake.run(engine, rotation_id)


async def copies_late_in_grace(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, and let a copy fall behind before the revoke."""
    rotation_id = await _until(fake, engine, State.GRACE)
    fake.store.lagging = ["region far away"]
    fake.clock.advance(60)
    await engine.step(rotation_id)
    fake.store.lagging = []
    await fake.run(engine, rotation_id)


def refused_at(state: State) -> Story:
    """Give the story of a rotation whose new key is refused a call from a state on; a person accepts it."""

    async def story(fake: FakeWorld, engine: Engine) -> None:
        fake.bot.confirms = state is not State.CUTTING_OVER
        rotation_id = await _until(fake, engine, state)
        fake.bot.refused = ["POST order"]
        await engine.step(rotation_id)
        fake.state = (await engine.get(rotation_id)).state
        fake.bot.confirms = True
        if fake.state is State.PARKED:
            await engine.resume(NAME)
        await fake.run(engine, rotation_id)

    return story


async def woken_late(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, and promote only an hour after the key was verified."""
    rotation_id = await _until(fake, engine, State.VERIFIED)
    fake.clock.advance(3600)
    await fake.run(engine, rotation_id)


async def long_in_grace(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, and come back for the revoke hours after the confirmations: the new key is tried again."""
    rotation_id = await _until(fake, engine, State.GRACE)
    fake.clock.advance(7200)
    await fake.run(engine, rotation_id)


async def clock_set_back(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, let the grace begin under a clock that is ahead, and go on when it was set back."""
    rotation_id = await _until(fake, engine, State.CUTTING_OVER)
    fake.clock.advance(3600)
    await engine.advance(rotation_id)
    fake.clock.set_back(3600)
    await fake.run(engine, rotation_id)


async def mirror_emptied(fake: FakeWorld, engine: Engine) -> None:
    """Rotate, while somebody empties the mirror before the revoke."""
    rotation_id = await _until(fake, engine, State.GRACE)
    there = await fake.mirror.peek(PATH, Slot.CURRENT)
    if there is not None:
        await fake.mirror.vacate(PATH, expect_current=there.version)
    await fake.run(engine, rotation_id)


async def due_again(fake: FakeWorld, engine: Engine) -> None:
    """Let a sweep begin the next rotation, months after one that was aborted."""
    await aborted_at(State.STAGED)(fake, engine)
    fake.pass_time(timedelta(days=61))
    await fake.sweep_until_rest(traced=True)


async def made_after_all(fake: FakeWorld, engine: Engine) -> None:
    """Rotate while the mint gets no answer, and let its key appear when it counts as never made."""
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=False)
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    await fake.run(engine, opened.id)
    fake.clock.advance(3600)
    await fake.sweep_until_rest(traced=True)
    written_off = next(k for k in await fake.journal.keys(NAME) if k.attempt)
    if written_off.fate is Fate.NEVER_MADE and written_off.attempt:
        rights = [Permission(p) for p in fake.permissions]
        fake.exchange.add_key(rights, ips=fake.ips, label=written_off.attempt.label())
    fake.pass_time(timedelta(days=61))
    await fake.sweep_until_rest(traced=True)


async def answers_unexplained(fake: FakeWorld, engine: Engine) -> None:
    """Rotate after a ban, while the edit, and after a person's abort the revoke, are answered unexplained."""
    opened = await engine.open(NAME, mode=Mode.MANUAL, reason="crash suite")
    fake.exchange.fail("list_keys", ExchangeFault.BARRED_REGION)
    fake.state = State.PLANNED
    await engine.advance(opened.id)
    fake.state = "sweep"
    await sweep.due_work(fake.world(traced=True))
    fake.exchange.fail("edit_key", ExchangeFault.OUTCOME_UNKNOWN, unexplained=True)
    for _ in range(20):
        rotation = await engine.get(opened.id)
        fake.state = rotation.state
        if not rotation.is_open or (rotation.state is State.STAGED and rotation.failures):
            break
        progress = await engine.step(opened.id)
        if progress.rest and progress.rest.until:
            fake.clock.travel_to(progress.rest.until)
    fake.exchange.fail("revoke_key", ExchangeFault.OUTCOME_UNKNOWN, unexplained=True)
    await engine.abort(NAME, "a test wants it")
    await fake.run(engine, opened.id)


async def slots_emptied(fake: FakeWorld, engine: Engine) -> None:
    """Rotate when it is due, after somebody emptied the store twice: two keys live that it does not show."""
    second = fake.exchange.add_key([Permission(p) for p in fake.permissions], label="made by hand")
    await empty(fake)
    await adopt.put_credential(fake.world(), NAME, second.material)
    await empty(fake)
    fake.pass_time(timedelta(days=61))
    await forward(fake, engine)


async def empty(fake: FakeWorld) -> None:
    """Let somebody take the key out of the store."""
    current = await fake.store.peek(PATH, Slot.CURRENT)
    if current is not None:
        await fake.store.vacate(PATH, expect_current=current.version)


ROADS: dict[str, Road] = {
    "forward": Road(forward),
    "the first key": Road(forward, old_key=False),
    "addresses set after creation": Road(forward, {"manifest": AFTER_CREATION, "ips": ("127.0.0.1",)}),
    "bound to the bot's address": Road(forward, _BOUND),
    "a right is given up by the inventory": Road(
        forward,
        {
            "old_rights": ("transfer",),
            "entry": {"accept_loss": ["transfer"], "accept_loss_reason": "this bot moves no funds"},
        },
    ),
    "the venue may add a right": Road(forward, {"manifest": ADDING}),
    "the venue may add a right, and the mint got lost": Road(mint_lost, {"manifest": ADDING}),
    "aborted while staged": Road(aborted_at(State.STAGED)),
    "due again after an abort": Road(due_again),
    "aborted when verified": Road(aborted_at(State.VERIFIED)),
    "rolled back when promoted": Road(rolled_back_at(State.PROMOTED)),
    "rolled back in grace": Road(rolled_back_at(State.GRACE)),
    "outcome of the mint unknown": Road(mint_unknown),
    "answers that no table explains": Road(
        answers_unexplained, {"manifest": AFTER_CREATION, "ips": ("127.0.0.1",)}
    ),
    "aborted after a death in the mint": Road(died_and_aborted),
    "the first key is aborted after a death in its mint": Road(died_and_aborted, old_key=False),
    "the list is stale": Road(stale_list),
    "the store was emptied": Road(slots_emptied),
    "the store was emptied, and the mirror was not": Road(slots_emptied, {"mirrored": True}),
    "a key is made after it was written off": Road(made_after_all),
    "the list is late for current": Road(list_without_current),
    "the list is late for current after a lost mint": Road(recovered_late),
    "the list is late for current in an abort": Road(aborted_late),
    "the confirmation comes late": Road(late_confirmation, {"confirm_within": "5s"}),
    "somebody speaks for the bot that is waited for": Road(forged_at(State.CUTTING_OVER, 3)),
    "somebody speaks for the bot in grace": Road(forged_at(State.GRACE, 2)),
    "somebody reports for the bot on the pending key": Road(forged_at(State.STAGED, 4), _BOUND),
    "a person confirms for the bot": Road(confirmed_by_a_person, {"confirm_within": "5s"}),
    "a call is refused while the bot is waited for": Road(refused_at(State.CUTTING_OVER)),
    "a call is refused in grace": Road(refused_at(State.GRACE)),
    "verified long ago": Road(woken_late),
    "a long grace": Road(long_in_grace),
    "the clock is set back in grace": Road(clock_set_back),
    "a mirror is emptied in grace": Road(mirror_emptied, {"mirrored": True}),
    "with a mirror": Road(forward, {"mirrored": True}),
    "with a mirror, rolled back in grace": Road(rolled_back_at(State.GRACE), {"mirrored": True}),
    "the first key, with a mirror": Road(forward, {"mirrored": True}, old_key=False),
    "copies come late": Road(late_copies, {"confirm_within": "5s", "mirrored": True}, in_memory=True),
    "copies fall behind in grace": Road(copies_late_in_grace, in_memory=True),
    "slow propagation": Road(forward, {"propagation_seconds": 5.0}),
    "slow propagation, with a mirror": Road(forward, {"propagation_seconds": 5.0, "mirrored": True}),
}
