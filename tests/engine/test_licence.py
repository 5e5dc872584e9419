"""Nothing is revoked without a licence: a fence, a fresh look at the slots, the intent, then the revoke."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import keyturn
from keyturn.domain.errors import ExchangeFault, StoreError, StoreFault
from keyturn.domain.keys import Permission
from keyturn.domain.labels import Attempt
from keyturn.domain.rotation import EventType, Fate, Mode, State
from keyturn.domain.slots import Slot
from keyturn.engine import listing
from keyturn.engine.engine import Engine
from keyturn.engine.work import Work
from keyturn.testing.crash import Killed
from keyturn.testing.fake_world import NAME, PATH, FakeWorld

from .walking import opened, until

ROOT = Path(keyturn.__file__).parents[2]
Others = Callable[[], Awaitable[None]]


class Between:
    """A port of which one method first lets others work, once."""

    def __init__(self, inner: Any, method: str, others: Others, *, late: bool = False) -> None:
        self._inner, self._method, self._others, self._late = inner, method, others, late
        self.met = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name != self._method or self.met:
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.met = True
            if self._late:
                answer = await value(*args, **kwargs)
                await self._others()
                return answer
            await self._others()
            return await value(*args, **kwargs)

        return call


async def prepared(**world: Any) -> FakeWorld:
    fake = FakeWorld(grace="10s", **world)
    await fake.prepare()
    return fake


def with_port(fake: FakeWorld, port: str, method: str, others: Others, *, late: bool = False) -> Engine:
    """Give a worker that waits for others in one call of a port."""
    world = fake.world(actor="slow")
    if port == "journal":
        return Engine(replace(world, journal=Between(world.journal, method, others, late=late)))
    attribute = {"exchange": "exchange", "store": "stores"}[port]
    adapters = replace(
        world.adapters,
        **{attribute: Between(getattr(world.adapters, attribute), method, others, late=late)},
    )
    return Engine(replace(world, adapters=adapters))


def alive(fake: FakeWorld) -> set[str]:
    return {k.label for k in fake.exchange.truth().values()}


def test_one_function_revokes_and_nothing_else_does():
    callers: dict[str, list[str]] = {}
    for path in sorted((*ROOT.glob("src/**/*.py"), *ROOT.glob("flows/*.py"), *ROOT.glob("tasks/*.py"))):
        inside = path.relative_to(ROOT).as_posix()
        if inside.startswith(("src/keyturn/exchanges/", "src/keyturn/testing/", "src/keyturn/ports/")):
            continue  # drivers are revoked through, contract suites try them
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            uses = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.attr == "revoke_key"]
            if uses:
                callers.setdefault(inside, []).append(function.name)
    assert callers == {"src/keyturn/engine/licence.py": ["_revoke"]}


async def test_a_worker_that_is_slow_with_its_entry_leaves_the_key_that_another_made_current():
    fake = await prepared()
    quick = Engine(fake.world(actor="quick"))
    rotation_id = ""

    async def others() -> None:
        await fake.run(quick, rotation_id)

    slow = with_port(fake, "store", "stage", others, late=True)
    rotation_id = (await slow.open(NAME, mode=Mode.INCIDENT, reason="the old key leaked")).id
    progress = await slow.advance(rotation_id)
    assert progress.rotation.state is State.COMPLETED
    await fake.judge_rest()


async def test_a_lost_answer_of_stage_costs_no_key_that_another_worker_promotes():
    fake = await prepared()
    quick = Engine(fake.world(actor="quick"))
    rotation_id, staged = "", fake.store.stage

    async def lost(*args: Any) -> Any:
        if not fake.store.__dict__.pop("stage", None):
            return await staged(*args)
        await staged(*args)
        await until(fake, quick, rotation_id, State.GRACE)
        raise StoreError(StoreFault.OUTCOME_UNKNOWN, "the answer was lost")

    fake.store.stage = lost  # type: ignore[method-assign]
    slow = Engine(fake.world(actor="slow"))
    rotation_id = (await slow.open(NAME, mode=Mode.MANUAL, reason="quarterly")).id
    progress = await slow.advance(rotation_id)
    assert progress.rotation.state is State.GRACE
    fake.judge_now()
    await fake.run(quick, rotation_id)
    await fake.judge_rest()


async def intents_at_the_revoke(fake: FakeWorld) -> list[set[Fate]]:
    """Note, at every revoke, what the journal says of the key by then."""
    seen: list[set[Fate]] = []
    revoke = fake.exchange.revoke_key

    async def watched(manager: Any, key: Any) -> Any:
        seen.append({k.fate for k in await fake.journal.keys(NAME) if k.key_ref == key.key_ref})
        return await revoke(manager, key)

    fake.exchange.revoke_key = watched  # type: ignore[method-assign]
    return seen


async def aborted(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    await until(fake, engine, rotation_id, State.VERIFIED)
    await engine.abort(NAME, "a test wants it")
    await fake.run(engine, rotation_id)


async def given_up(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    async def full(*args: Any) -> Any:
        fake.store.__dict__.pop("stage")
        raise StoreError(StoreFault.DENIED, "not with this token")

    fake.store.stage = full  # type: ignore[method-assign]
    await fake.run(engine, rotation_id)
    await engine.resume(NAME)
    await fake.run(engine, rotation_id)


async def recovered(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await fake.run(engine, rotation_id)


async def settled(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await until(fake, engine, rotation_id, State.MINTING)
    await engine.abort(NAME, "a test wants it")
    fake.exchange.serve_stale_list(changes=1)
    await fake.run(engine, rotation_id)
    await fake.sweep_until_rest()


async def completed(fake: FakeWorld, engine: Engine, rotation_id: str) -> None:
    await fake.run(engine, rotation_id)


@pytest.mark.parametrize("story", [aborted, given_up, recovered, settled, completed])
async def test_the_intent_to_revoke_stands_in_the_journal_before_every_revoke(story):
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    seen = await intents_at_the_revoke(fake)
    await story(fake, engine, rotation_id)
    assert seen
    assert all(fates == {Fate.REVOKING} for fates in seen)


async def test_no_key_is_revoked_that_a_mirror_shows():
    fake = await prepared(mirrored=True)
    engine, rotation_id = await opened(fake)
    await until(fake, engine, rotation_id, State.VERIFIED)
    pending = await fake.store.read(PATH, Slot.PENDING)
    there = await fake.mirror.peek(PATH, Slot.CURRENT)
    await fake.mirror.put(PATH, pending.material, pending.info.meta, expect_current=there.version)
    await engine.abort(NAME, "a test wants it")
    progress = await engine.advance(rotation_id)
    assert progress.rotation.state is State.ABORTING
    assert "still shows the new key" in progress.rest.waiting_for
    assert pending.material.key_ref in fake.exchange.truth()
    # The mirror is pointed back at what is current, and then the key may go.
    assert (await fake.run(engine, rotation_id)).state is State.ABORTED
    assert (await fake.mirror.peek(PATH, Slot.CURRENT)).meta.key_ref == fake.old.key_ref
    assert pending.material.key_ref not in fake.exchange.truth()


async def test_a_mirror_is_never_pointed_at_the_key_of_a_roll_back_by_a_worker_that_is_late():
    fake = await prepared(mirrored=True)
    person = Engine(fake.world(actor="person"))
    ids: list[str] = []

    async def rolled_back() -> None:
        await person.rollback(NAME, "a test wants it")
        await fake.run(person, ids[0])

    world = fake.world(actor="slow")
    late = replace(world.adapters, mirrors=Between(fake.mirror, "put", rolled_back))
    slow = Engine(replace(world, adapters=late))
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    await fake.run(slow, ids[0])
    assert (await slow.get(ids[0])).state is State.ABORTED
    await fake.judge_rest()


async def test_a_mirror_is_looked_at_before_the_primary_that_is_written_to_it():
    fake = await prepared(mirrored=True)
    person = Engine(fake.world(actor="person"))
    ids: list[str] = []

    async def rolled_back() -> None:
        await person.rollback(NAME, "a test wants it")
        await fake.run(person, ids[0])

    engine, rotation_id = await opened(fake)
    ids.append(rotation_id)
    await until(fake, engine, rotation_id, State.PROMOTED)
    world = fake.world(actor="slow")
    # Has read the new key in the primary, and goes on with the mirror when the roll-back is over.
    late = replace(world.adapters, stores=Between(fake.store, "read", rolled_back, late=True))
    await Engine(replace(world, adapters=late)).step(rotation_id)
    assert (await engine.get(rotation_id)).state is State.ABORTED
    await fake.judge_rest()


async def test_an_abort_of_the_first_key_that_loses_the_race_lets_the_promotion_stand():
    fake = FakeWorld(grace="10s")
    await fake.prepare(old_key=False)
    ids: list[str] = []

    async def abort() -> None:
        await Engine(fake.world(actor="person")).abort(NAME, "a test wants it")

    slow = with_port(fake, "store", "promote", abort, late=True)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    await fake.run(slow, ids[0])
    done = await slow.get(ids[0])
    assert (done.state, done.abort_reason) == (State.COMPLETED, "")
    await fake.judge_rest()


# -- "never made" is never final -----------------------------------------------------------------------


async def written_off(fake: FakeWorld, others_end: str) -> tuple[Others, list[str]]:
    """Give what others do while a worker sleeps: they settle its attempt as never made."""
    ids: list[str] = []

    async def others() -> None:
        quick = Engine(fake.world(actor="quick"))
        if others_end == "aborted":
            await quick.abort(NAME, "a test wants it")
        fake.clock.advance(120)
        await fake.run(quick, ids[0])
        fake.clock.advance(300)
        await fake.sweep_until_rest()
        first = next(k for k in await fake.journal.keys(NAME) if k.key_id == f"{ids[0]}-1")
        assert first.fate is Fate.NEVER_MADE

    return others, ids


@pytest.mark.parametrize("others_end", ["aborted", "completed"])
async def test_a_worker_that_makes_a_key_of_an_attempt_that_was_written_off_ends_it(others_end):
    fake = await prepared()
    others, ids = await written_off(fake, others_end)
    slow = with_port(fake, "exchange", "create_key", others)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    await slow.advance(ids[0])
    await fake.sweep_until_rest()
    assert Attempt(ids[0], 1).label() not in alive(fake)
    events = [e.event.type for e in await fake.journal.events(ids[0])]
    assert EventType.ORPHAN_REVOKE_INTENDED in events


async def test_a_worker_that_got_no_answer_for_an_attempt_that_was_written_off_writes_that_its_key_may_live():
    fake = await prepared()
    others, ids = await written_off(fake, "aborted")
    slow = with_port(fake, "exchange", "create_key", others)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    fake.exchange.fail("create_key", ExchangeFault.OUTCOME_UNKNOWN, effect=True)
    await slow.advance(ids[0])
    assert Attempt(ids[0], 1).label() in alive(fake)
    assert [k.key_id for k in await fake.journal.unsettled()] == [f"{ids[0]}-1"]
    await fake.sweep_until_rest()
    assert Attempt(ids[0], 1).label() not in alive(fake)


@pytest.mark.parametrize("others_end", ["aborted", "completed"])
async def test_a_key_that_was_written_off_and_lives_is_taken_up_by_whoever_lists_next(others_end):
    fake = await prepared()
    others, ids = await written_off(fake, others_end)

    async def others_then_death() -> None:
        await others()
        await created()
        raise Killed

    async def created() -> None:
        rights = [Permission(p) for p in fake.permissions]
        fake.exchange.add_key(rights, label=Attempt(ids[0], 1).label())

    slow = with_port(fake, "exchange", "create_key", others_then_death)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    with suppress(Killed):
        await slow.advance(ids[0])
    assert Attempt(ids[0], 1).label() in alive(fake)
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    await fake.sweep_until_rest()
    await fake.judge_rest()


async def test_a_second_key_under_the_label_of_a_living_one_is_written_down_as_ours():
    fake = await prepared()
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    twin = fake.exchange.add_key([Permission.READ], label=Attempt(rotation_id, 1).label())
    _, second = await opened(fake)
    work = Work(fake.world(), await engine.get(second))
    await listing.look(work, await work.manager())
    record = await fake.journal.key("memory", "main", twin.key_ref)
    assert (record.credential, record.fate, str(record.attempt)) == (NAME, Fate.LIVE, f"{rotation_id}-1")


async def test_a_key_with_a_label_that_the_journal_does_not_know_is_not_ours():
    fake = await prepared()
    stranger = fake.exchange.add_key([Permission.READ], label=Attempt("0" * 10, 1).label())
    engine, rotation_id = await opened(fake)
    await fake.run(engine, rotation_id)
    assert stranger.key_ref in fake.exchange.truth()
    assert await fake.journal.key("memory", "main", stranger.key_ref) is None


# -- a create that waits for its turn -----------------------------------------------------------------


async def test_a_create_that_waits_for_its_turn_is_no_dead_worker_s():
    fake = await prepared()
    quick = Engine(fake.world(actor="quick"))
    ids: list[str] = []

    async def others() -> None:
        fake.clock.advance(600)
        await quick.advance(ids[0])

    slow = with_port(fake, "exchange", "await_turn", others)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    await slow.advance(ids[0])
    await fake.run(quick, ids[0])
    assert [m for m, _ in fake.exchange.calls].count("create_key") == 1
    await fake.judge_rest()


async def test_a_worker_that_waits_for_its_turn_has_claimed_nothing_yet():
    fake = await prepared()
    states: list[State] = []
    ids: list[str] = []

    async def others() -> None:
        states.append((await Engine(fake.world()).get(ids[0])).state)

    slow = with_port(fake, "exchange", "await_turn", others)
    ids.append((await slow.open(NAME, mode=Mode.MANUAL, reason="a test")).id)
    await slow.step(ids[0])
    assert states == [State.PLANNED]
