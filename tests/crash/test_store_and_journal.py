"""The ground gives way: a store that is down, a full disk, a journal that is newer or was tampered with.

The venue is simulated behind HTTP; store and journal are the real ones wherever it is they that fail.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.domain.errors import JournalError, JournalFault, StoreError, StoreFault
from keyturn.domain.evidence import Confirmation, Evidence
from keyturn.domain.rotation import Park, Rotation, State
from keyturn.domain.slots import Slot
from keyturn.engine import sweep
from keyturn.engine.engine import Progress
from keyturn.journal import SqlJournal
from keyturn.journal.rows import confirmation_row
from keyturn.stores.age_files import AgeFilesStore
from keyturn.stores.folder import RESERVED
from keyturn.stores.keys import generate_identity
from keyturn.testing.crash import Tracer

from .venue_world import NAME, PATH, VenueWorld, begun, opened
from .venues import VENUES, Venue, material_of

BYBIT = VENUES["bybit"]
# More than a rotation takes: what is in the way is met again and again.
STEPS = 12


async def step(world: VenueWorld, rotation_id: str) -> Progress:
    """Take a step, and let the wait after it pass."""
    progress = await world.engine().step(rotation_id)
    if progress.rest and progress.rest.until:
        world.clock.travel_to(progress.rest.until)
    return progress


# -- a store that is down --------------------------------------------------------------------


class Outage(Tracer):
    """Goes down at the n-th call to the store, and stays down until it is mended."""

    def __init__(self, fault: StoreFault, at_call: int) -> None:
        super().__init__(lambda: "")
        self.fault, self.at_call = fault, at_call
        self.calls, self.mended = 0, False

    async def call(self, port: str, method: str, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls >= self.at_call and not self.mended:
            raise StoreError(self.fault, f"The store is {self.fault}.", todo="Mend the store.")
        return await effect()


async def run_with_outage(fault: StoreFault, at_call: int) -> Outage:
    """Rotate over a store that fails; mend it; sweep up; judge."""
    async with opened(BYBIT) as world:
        outage = Outage(fault, at_call)
        world.store = outage.wrap("store", world.store)
        rotation_id = await begun(world, State.PLANNED)
        for _ in range(STEPS):
            progress = await step(world, rotation_id)
            world.books.judge_foreign()
            if progress.rotation.state is State.PARKED:
                assert progress.rotation.parked is Park.STORE
                assert f"Then: keyturn resume {NAME}" in progress.rotation.parked_todo
                break
        outage.mended = True
        if (await world.rotation()).state is State.PARKED:
            await world.engine().resume(NAME)
        await world.sweep()
        await world.judge_rest()
        return outage


@pytest.mark.parametrize("fault", [StoreFault.UNAVAILABLE, StoreFault.NO_SPACE, StoreFault.DENIED])
async def test_a_store_that_goes_down_at_any_step_and_stays_down_for_long_loses_nothing(fault):
    at_call, whole = 1, 2
    while at_call <= whole:
        whole = (await run_with_outage(StoreFault.UNAVAILABLE, 10_000)).calls if at_call == 1 else whole
        try:
            await run_with_outage(fault, at_call)
        except AssertionError as error:
            raise AssertionError(f"{fault} from call {at_call} of {whole}: {error}") from error
        at_call += 1
    assert whole > 12


# -- a full disk -----------------------------------------------------------------------------


@asynccontextmanager
async def filed(small_disk: Any, key: Path) -> AsyncIterator[VenueWorld]:
    """Open a world whose store is files on this disk."""
    generate_identity(key)
    async with opened(BYBIT, prepared=False) as world:
        world.store = store = AgeFilesStore(small_disk.path / "store", key.read_text)
        try:
            await world.prepare()
            yield world
        finally:
            await store.close()


def fill_at_the_mint(world: VenueWorld, small_disk: Any, *, leave_reserve: bool) -> None:
    """Fill the disk when the venue is about to mint, and every time that it is asked to."""
    mint = world.sim.mint

    def minted(*args: Any, **options: Any) -> Any:
        if not leave_reserve:
            (small_disk.path / "store" / PATH / RESERVED).unlink(missing_ok=True)
        small_disk.fill()
        return mint(*args, **options)

    world.sim.mint = minted


@pytest.mark.parametrize("state", [State.PLANNED, State.STAGED, State.VERIFIED, State.GRACE, State.REVOKING])
async def test_a_full_disk_under_the_store_is_told_of_and_loses_nothing(small_disk, tmp_path, state):
    async with filed(small_disk, tmp_path / "age.key") as world:
        rotation_id = await begun(world, state)
        small_disk.fill()
        told = []
        for _ in range(STEPS):
            progress = await step(world, rotation_id)
            told.append(progress.rotation.problem)
            await world.current()
            world.books.judge_foreign()
        # Once the claim has its room, a rotation may need no more.
        assert any("No room" in text for text in told) or (
            state is not State.PLANNED and progress.rotation.state is State.COMPLETED
        ), told
        small_disk.make_room()
        await world.sweep()
        await world.judge_rest()


async def test_a_disk_that_fills_up_between_the_mint_and_the_stage_loses_no_key(small_disk, tmp_path):
    async with filed(small_disk, tmp_path / "age.key") as world:
        mint = world.sim.mint
        fill_at_the_mint(world, small_disk, leave_reserve=False)
        rotation_id = await begun(world, State.PLANNED)
        for _ in range(STEPS):
            await step(world, rotation_id)
            await world.judge_waiting()
        assert world.created() >= 1
        world.sim.mint = mint
        small_disk.make_room()
        await world.sweep()
        await world.judge_rest()


async def test_a_disk_that_fills_up_after_the_claim_costs_no_key(small_disk, tmp_path):
    async with filed(small_disk, tmp_path / "age.key") as world:
        fill_at_the_mint(world, small_disk, leave_reserve=True)
        rotation_id = await begun(world, State.STAGED)
        assert world.created() == 1
        assert (await world.rotation()).id == rotation_id
        small_disk.make_room()
        await world.sweep()
        assert world.created() == 1
        await world.judge_rest()


@asynccontextmanager
async def journaled(folder: Path, venue: Venue = BYBIT) -> AsyncIterator[VenueWorld]:
    """Open a world whose journal is SQLite in this folder."""
    async with opened(venue, prepared=False) as world:
        world.journal = await SqlJournal.open_url(f"sqlite:///{folder}/journal.db")
        try:
            await world.prepare()
            yield world
        finally:
            await world.journal.close()


@pytest.mark.parametrize("until", [State.PLANNED, State.STAGED, State.VERIFIED, State.GRACE])
async def test_a_full_disk_under_the_journal_is_told_of_and_loses_nothing(small_disk, until):
    async with journaled(small_disk.path) as world:
        rotation_id = await begun(world, until)
        small_disk.fill()
        errors: list[JournalError] = []
        # A journal has some room of its own; so it is not the first write that fails.
        while len(errors) < 3 and (await world.rotation()).is_open:
            try:
                await step(world, rotation_id)
            except JournalError as error:
                errors.append(error)
            await world.current()
            world.books.judge_foreign()
        assert {error.fault for error in errors} <= {JournalFault.NO_SPACE}
        assert all("room" in error.todo for error in errors)
        small_disk.make_room()
        await world.sweep()
        await world.judge_rest()


# -- a journal that is newer, or was tampered with ---------------------------------------------


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


async def outside(world: VenueWorld) -> list[object]:
    """Give all that can change outside the journal."""
    slots = [await world.store.peek(PATH, slot) for slot in Slot]
    return [world.sim.truth(), slots, world.bot.loaded]


async def refused(world: VenueWorld, rotation_id: str, fault: JournalFault) -> None:
    """Hold that neither a step nor a sweep does anything, and that both say why."""
    before = await outside(world)
    with pytest.raises(JournalError) as caught:
        await world.engine().step(rotation_id)
    assert caught.value.fault is fault
    assert caught.value.now
    assert caught.value.todo
    try:
        outcomes = await sweep.sweep(world.engine())
    except JournalError:
        outcomes = []
    assert all(outcome.error for outcome in outcomes)
    assert await outside(world) == before


BEFORE_AN_EFFECT = [State.PLANNED, State.GRACE]


@pytest.mark.parametrize("state", BEFORE_AN_EFFECT)
async def test_a_journal_that_becomes_newer_while_a_worker_runs_stops_it(tmp_path, state):
    async with journaled(tmp_path) as world:
        rotation_id = await begun(world, state)
        (version,) = sql(tmp_path, "SELECT version_num FROM keyturn_version")
        sql(tmp_path, "UPDATE keyturn_version SET version_num = '9999'")
        await refused(world, rotation_id, JournalFault.NEWER_VERSION)
        with pytest.raises(JournalError) as caught:
            await SqlJournal.open_url(f"sqlite:///{tmp_path}/journal.db")
        assert caught.value.fault is JournalFault.NEWER_VERSION
        sql(tmp_path, "UPDATE keyturn_version SET version_num = ?", *version)
        await world.sweep()
        await world.judge_rest()


@pytest.mark.parametrize("state", [State.PLANNED, State.STAGED, State.VERIFIED, State.GRACE, State.REVOKING])
async def test_a_rotation_that_cannot_be_read_is_left_alone(tmp_path, state):
    async with journaled(tmp_path) as world:
        rotation_id = await begun(world, state)
        ((record,),) = sql(tmp_path, "SELECT record FROM rotations")
        sql(tmp_path, "UPDATE rotations SET record = ?", record.replace('"state"', '"stale"'))
        await refused(world, rotation_id, JournalFault.TAMPERED)
        assert (await world.journal.verify()).breaks
        sql(tmp_path, "UPDATE rotations SET record = ?", record)
        await world.sweep()
        await world.judge_rest()


async def test_a_rotation_that_was_made_to_name_a_foreign_key_revokes_nothing(tmp_path):
    async with journaled(tmp_path) as world:
        rotation_id = await begun(world, State.GRACE)
        ((record,),) = sql(tmp_path, "SELECT record FROM rotations")
        forged = json.loads(record) | {"old_ref": world.books.foreign[1]}
        sql(tmp_path, "UPDATE rotations SET record = ?", json.dumps(forged))
        before = await outside(world)
        with pytest.raises(JournalError, match="changed from outside"):
            await world.run(rotation_id)
        assert await outside(world) == before


# The keys of the bot's own account that a person has made, one of them with a label like ours.
@pytest.mark.parametrize("stranger", [1, 2])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_record_that_was_made_to_name_a_foreign_key_revokes_nothing(tmp_path, venue, stranger):
    async with journaled(tmp_path, VENUES[venue]) as world:
        await begun(world, State.VERIFIED)
        await world.engine().abort(NAME, "a test wants it")
        await world.sweep()
        ((number, record),) = sql(tmp_path, "SELECT number, record FROM keys WHERE rotation_id IS NOT NULL")
        foreign = world.books.foreign[stranger]
        forged = json.dumps(json.loads(record) | {"key_ref": foreign, "handle": None, "fate": "live"})
        change = "UPDATE keys SET record = ?, key_ref = ?, fate = 'live' WHERE number = ?"
        sql(tmp_path, change, forged, foreign, number)
        before = await outside(world)
        (outcome,) = await sweep.sweep(world.engine())
        assert "another label" in outcome.error
        assert await outside(world) == before
        assert (await world.journal.verify()).breaks


def as_in_grace(folder: Path, rotation: Rotation) -> None:
    ((record,),) = sql(folder, "SELECT record FROM rotations")
    changed = json.dumps(json.loads(record) | {"state": "grace"})
    sql(folder, "UPDATE rotations SET record = ?, state = 'grace'", changed)


def as_confirmed(folder: Path, rotation: Rotation) -> None:
    proof = Confirmation(
        "bot", rotation.id, rotation.new_fingerprint or "", Evidence.ACK, rotation.updated_at
    )
    row = confirmation_row(proof) | {"number": 1, "position": 0}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    sql(folder, f"INSERT INTO confirmations ({names}) VALUES ({marks})", *row.values())


@pytest.mark.parametrize("tamper", [as_in_grace, as_confirmed])
async def test_a_journal_that_was_made_to_say_that_the_bot_confirmed_revokes_nothing(tmp_path, tamper):
    async with journaled(tmp_path) as world:
        world.bot.confirms = False
        await begun(world, State.CUTTING_OVER)
        tamper(tmp_path, await world.rotation())
        for _ in range(8):
            outcomes = await sweep.sweep(world.engine())
            world.clock.advance(600)
        assert "changed from outside" in outcomes[0].error
        assert world.books.accepts(material_of(world.books.old)), "the bot still uses it"
