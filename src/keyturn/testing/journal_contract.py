"""The contract of the journal port, as a pytest suite that every journal runs, the fake too.

Subclass it and give the fixtures:

    class TestMyJournal(JournalContract):
        @pytest.fixture
        async def journal(self): ...   # an empty journal

        @pytest.fixture
        async def second(self, journal): ...   # another worker's way to the same journal

        @pytest.fixture
        def tampering(self, journal): ...   # a `Tampering`: what an intruder can do to the rows
"""

# A test's name says what a docstring would.
# ruff: noqa: D102

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from keyturn.domain import machine
from keyturn.domain.comparison import Discrepancy, Findings
from keyturn.domain.errors import JournalError, JournalFault, ProgrammingError
from keyturn.domain.rotation import CLOCK_MARGIN, EventType, Fate, Origin, Rotation
from keyturn.ports.journal import Change, Journal
from keyturn.testing.journal_cases import (
    START,
    a_confirmation,
    a_full_rotation,
    a_key,
    a_rotation,
    a_step,
    aborted,
    an_adopted_key,
    claimed,
    completed,
    minutes,
    opened,
    step,
)
from keyturn.testing.journal_tampering import TamperingContract

AT_ONCE = 200


async def conflicting(call: Awaitable[object]) -> JournalError:
    """Expect a conflict that says what is true and what to do."""
    with pytest.raises(JournalError) as caught:
        await call
    assert caught.value.fault is JournalFault.CONFLICT
    assert caught.value.now
    assert caught.value.todo
    return caught.value


async def outcomes(calls: Sequence[Awaitable[None]]) -> list[JournalError]:
    """Run writes at once, and give the errors of those that were refused."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, JournalError):
            raise result
    return [result for result in results if isinstance(result, JournalError)]


def ids(rotations: Sequence[Rotation]) -> list[str]:
    """Give the ids, in their order."""
    return [rotation.id for rotation in rotations]


class JournalContract(TamperingContract):
    """What every journal does."""

    async def test_a_rotation_is_read_back_as_it_was_written(self, journal: Journal) -> None:
        rotation = a_full_rotation()
        await journal.open(rotation, machine.opened(rotation, "pytest"))
        assert await journal.get(rotation.id) == rotation
        assert await journal.open_rotation(rotation.credential) == rotation
        assert (await journal.verify()).breaks == ()

    async def test_an_event_is_read_back_as_it_was_written(self, journal: Journal) -> None:
        rotation = await opened(journal)
        deferral = a_step(
            rotation, EventType.DEFERRED, wake_at=minutes(9), failures=1, problem="ü\0", note="n"
        )
        await journal.commit(deferral)
        claim = a_step(deferral.after, EventType.ATTEMPT_CLAIMED, attempt=1, old_ref=None)
        await journal.commit(claim)
        story = await journal.events(rotation.id)
        assert [told.event for told in story] == [
            machine.opened(rotation, rotation.actor),
            *deferral.events,
            *claim.events,
        ]
        assert [(told.number, told.seq) for told in story] == [(1, 1), (2, 2), (3, 3)]
        assert {(told.rotation_id, told.credential) for told in story} == {(rotation.id, rotation.credential)}
        assert len({told.hash for told in story}) == 3

    async def test_times_of_other_zones_are_the_same_moment(self, journal: Journal) -> None:
        there = START.astimezone(timezone(timedelta(hours=9)))
        rotation = await opened(journal, wake_at=there)
        assert ids(await journal.due(START)) == [rotation.id]
        assert await journal.due(START - timedelta(microseconds=1)) == []
        assert (await journal.verify()).breaks == ()

    async def test_a_time_without_a_zone_is_a_programming_error(self, journal: Journal) -> None:
        naive = datetime(2026, 1, 1)  # noqa: DTZ001  # the mistake that is tested
        with pytest.raises(ProgrammingError):
            await opened(journal, wake_at=naive)

    async def test_a_credential_has_one_open_rotation(self, journal: Journal) -> None:
        first = await opened(journal)
        await conflicting(opened(journal))
        await opened(journal, "okx-main")
        await aborted(journal, first)
        await opened(journal)
        assert len(await journal.rotations("bybit-main")) == 2

    async def test_a_rotation_id_is_used_once(self, journal: Journal) -> None:
        first = await opened(journal)
        await conflicting(opened(journal, "okx-main", id=first.id))
        assert (await journal.verify()).breaks == ()

    async def test_a_step_from_another_place_is_refused_and_leaves_nothing(self, journal: Journal) -> None:
        rotation = await opened(journal)
        stale = a_step(
            rotation,
            EventType.ATTEMPT_CLAIMED,
            attempt=1,
            keys=[a_key(rotation, Fate.INTENDED)],
            confirmations=[a_confirmation(rotation)],
        )
        moved = await step(journal, rotation, EventType.DEFERRED, failures=1)
        await conflicting(journal.commit(stale))
        assert await journal.get(rotation.id) == moved
        assert len(await journal.events(rotation.id)) == 2
        assert await journal.keys(rotation.credential) == []
        assert await journal.confirmations(rotation.id) == []
        assert (await journal.verify()).breaks == ()

    async def test_a_step_of_an_unknown_rotation_is_refused(self, journal: Journal) -> None:
        await conflicting(journal.commit(a_step(a_rotation(), EventType.ATTEMPT_CLAIMED, attempt=1)))

    async def test_a_step_writes_all_of_it(self, journal: Journal) -> None:
        rotation = await opened(journal)
        claim = a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1)
        unknown = a_step(claim.after, EventType.MINT_UNKNOWN, note="no answer")
        key, proof = a_key(rotation, Fate.INTENDED, settle_at=minutes(5)), a_confirmation(rotation)
        await journal.commit(Change(1, claim.events + unknown.events, unknown.after, (key,), (proof,)))
        assert await journal.get(rotation.id) == unknown.after
        assert [told.seq for told in await journal.events(rotation.id)] == [1, 2, 3]
        assert await journal.keys(rotation.credential) == [key]
        assert await journal.confirmations(rotation.id) == [proof]
        assert (await journal.verify()).events == 3

    async def test_events_that_do_not_lead_to_the_record_are_a_programming_error(
        self, journal: Journal
    ) -> None:
        rotation = await opened(journal)
        claim = a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1)
        for wrong in (replace(claim, events=()), replace(claim, expect_seq=0)):
            with pytest.raises(ProgrammingError):
                await journal.commit(wrong)
        assert await journal.get(rotation.id) == rotation

    async def test_many_rotations_at_once_all_land(self, journal: Journal) -> None:
        async def rotate(number: int) -> Rotation:
            rotation = await opened(journal, f"credential-{number}")
            return await completed(journal, await aborted_or_not(rotation, number))

        async def aborted_or_not(rotation: Rotation, number: int) -> Rotation:
            if number % 10:
                return rotation
            await aborted(journal, rotation)
            return await opened(journal, rotation.credential)

        done = await asyncio.gather(*map(rotate, range(AT_ONCE)))
        assert sorted(ids(await journal.last_completed())) == sorted(ids(done))
        report = await journal.verify()
        assert report.breaks == ()
        assert report.events == 8 * AT_ONCE + 3 * AT_ONCE // 10

    async def test_a_refused_step_does_not_spoil_those_beside_it(self, journal: Journal) -> None:
        rotations = [await opened(journal, f"credential-{n}") for n in range(10)]
        steps = [a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1) for rotation in rotations]
        steps[4] = a_step(replace(rotations[4], seq=7), EventType.ATTEMPT_CLAIMED, attempt=1)
        assert len(await outcomes([journal.commit(one) for one in steps])) == 1
        found = [await journal.get(rotation.id) for rotation in rotations]
        assert [rotation.seq for rotation in found if rotation] == [2, 2, 2, 2, 1, 2, 2, 2, 2, 2]

    async def test_of_two_workers_at_the_same_step_one_wins(self, journal: Journal, second: Journal) -> None:
        for number in range(10):
            rotation = await opened(journal, f"credential-{number}")
            claim = a_step(rotation, EventType.ATTEMPT_CLAIMED, attempt=1)
            refused = await outcomes([worker.commit(claim) for worker in (journal, second, journal, second)])
            assert [error.fault for error in refused] == [JournalFault.CONFLICT] * 3
            assert len(await second.events(rotation.id)) == 2
        assert (await journal.verify()).breaks == ()

    async def test_of_two_workers_that_open_a_rotation_one_wins(
        self, journal: Journal, second: Journal
    ) -> None:
        refused = await outcomes([opening(worker) for worker in (journal, second) * 5])
        assert [error.fault for error in refused] == [JournalFault.CONFLICT] * 9
        assert len(await journal.rotations("bybit-main")) == 1

    async def test_two_workers_on_different_rotations_do_not_disturb_each_other(
        self, journal: Journal, second: Journal
    ) -> None:
        async def rotate(worker: Journal, credential: str) -> Rotation:
            return await completed(worker, await opened(worker, credential))

        pairs = [
            (worker, f"{name}-{n}") for n in range(20) for worker, name in ((journal, "a"), (second, "b"))
        ]
        done = await asyncio.gather(*(rotate(*pair) for pair in pairs))
        assert sorted(ids(await journal.last_completed())) == sorted(ids(done))
        report = await second.verify()
        assert (report.events, report.breaks) == (8 * len(pairs), ())

    async def test_a_cancelled_caller_harms_nothing(self, journal: Journal) -> None:
        rotations = [await opened(journal, f"credential-{n}") for n in range(20)]
        tasks = [asyncio.create_task(claimed(journal, rotation)) for rotation in rotations]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for rotation in rotations[1::2]:
            found = await journal.get(rotation.id)
            assert found is not None
            assert found.attempt == 1
        assert (await journal.verify()).breaks == ()

    async def test_due_are_the_open_ones_whose_time_has_come_longest_waiting_first(
        self, journal: Journal
    ) -> None:
        wake = {"late": minutes(5), "early": minutes(1), "future": minutes(60), "closed": minutes(0)}
        made = {name: await opened(journal, name, wake_at=at) for name, at in wake.items()}
        made["now"] = await opened(journal, "now", updated_at=minutes(3))
        made["tomorrow"] = await opened(journal, "tomorrow", updated_at=minutes(9999))
        await aborted(journal, made["closed"])
        due = [rotation.credential for rotation in await journal.due(minutes(10))]
        assert due == ["early", "now", "late", "tomorrow"]
        assert ids(await journal.due(minutes(10), limit=1)) == [made["early"].id]
        assert [r.credential for r in await journal.due(minutes(5))] == due
        put_off = await step(journal, made["early"], EventType.DEFERRED, wake_at=minutes(11))
        assert put_off.id not in ids(await journal.due(minutes(10)))

    async def test_what_was_put_off_under_a_clock_that_was_ahead_is_due(self, journal: Journal) -> None:
        put_off = minutes(60 * 24 * 40)
        ahead = await opened(journal, "ahead", wake_at=put_off, updated_at=put_off)
        a_little = await opened(journal, "a little", wake_at=put_off, updated_at=minutes(1))
        for now in (minutes(0), minutes(1), put_off - CLOCK_MARGIN, put_off):
            due = ids(await journal.due(now))
            assert due == [r.id for r in (ahead, a_little) if r.is_due(now)]
        assert ids(await journal.due(minutes(0))) == [ahead.id]

    async def test_the_history_of_a_credential(self, journal: Journal) -> None:
        assert await journal.latest() == await journal.last_completed() == await journal.rotations("a") == []
        first = await completed(journal, await opened(journal, "a", created_at=minutes(50)))
        second = await completed(journal, await opened(journal, "a"))
        third = await aborted(journal, await opened(journal, "a"))
        fourth = await opened(journal, "a")
        other = await opened(journal, "b")
        assert await journal.rotations("a") == [fourth, third, second, first]
        assert await journal.rotations("a", limit=2) == [fourth, third]
        assert sorted(ids(await journal.latest())) == sorted([fourth.id, other.id])
        assert await journal.last_completed() == [second]
        assert await journal.open_rotation("a") == fourth
        assert await journal.open_rotation("c") is None
        assert await journal.get("0000000000") is None
        assert await journal.events("0000000000") == []

    async def test_the_keys_of_a_credential_are_told_oldest_first(self, journal: Journal) -> None:
        rotation = await opened(journal)
        old = an_adopted_key()
        await journal.record_keys([an_adopted_key("okx-main"), old])
        moved = await claimed(journal, rotation)
        live = a_key(rotation, Fate.LIVE, key_ref="ref-1", handle="78", fingerprint="fp1")
        staged = await step(journal, moved, EventType.STAGED, keys=[live], new_ref="ref-1")
        assert await journal.keys("bybit-main") == [old, live]
        revoking = replace(old, fate=Fate.REVOKING)
        await step(journal, staged, EventType.VERIFIED, keys=[revoking])
        assert await journal.keys("bybit-main") == [revoking, live]
        assert await journal.adopted() == [an_adopted_key("okx-main"), revoking]
        await journal.record_keys([])
        assert (await journal.verify()).breaks == ()

    async def test_a_minted_key_that_a_renamed_credential_takes_over_is_its_own(
        self, journal: Journal
    ) -> None:
        moved = await claimed(journal, await opened(journal))
        live = a_key(moved, Fate.LIVE, key_ref="ref-1", handle="78", fingerprint="fp1")
        await step(journal, moved, EventType.STAGED, keys=[live], new_ref="ref-1")
        taken = replace(live, credential="renamed", origin=Origin.ADOPTED, rotation_id=None)
        await journal.record_keys([taken])
        assert await journal.keys("bybit-main") == []
        assert await journal.keys("renamed") == await journal.adopted() == [taken]
        assert await journal.key("bybit", "main", "ref-1") == taken
        assert await journal.unsettled() == []
        assert (await journal.verify()).breaks == ()

    async def test_a_key_that_the_journal_does_not_know_is_not_ours(self, journal: Journal) -> None:
        known = an_adopted_key(key_ref="ref-1")
        await journal.record_keys([known])
        assert await journal.key("bybit", "main", "ref-1") == known
        assert await journal.key("bybit", "main", "ref-2") is None
        assert await journal.key("bybit", "other", "ref-1") is None
        assert await journal.key("okx", "main", "ref-1") is None
        again = replace(known, key_id="adopted-again", recorded_at=minutes(1))
        await journal.record_keys([again])
        assert await journal.key("bybit", "main", "ref-1") == again

    async def test_a_key_that_a_person_forgot_is_not_ours_until_it_is_taken_in_again(
        self, journal: Journal
    ) -> None:
        known = an_adopted_key(key_ref="ref-1")
        gone = replace(known, fate=Fate.FORGOTTEN, recorded_at=minutes(1))
        await journal.record_keys([known])
        await journal.record_keys([gone])
        assert await journal.key("bybit", "main", "ref-1") is None
        assert await journal.keys("bybit-main") == [gone]
        await journal.record_keys([known])
        assert await journal.key("bybit", "main", "ref-1") == known
        assert (await journal.verify()).breaks == ()

    async def test_the_last_comparison_of_the_books_is_told_and_chained(self, journal: Journal) -> None:
        assert await journal.findings() is None
        nothing = Findings(START, "sweep", ())
        found = Findings(
            minutes(60), "sweep", (Discrepancy("a", "adopted-x", "it lives", "keyturn rotate a"),)
        )
        await journal.record_findings(found)
        await opened(journal)
        assert await journal.findings() == found
        await journal.record_findings(nothing)
        assert await journal.findings() == nothing
        assert (await journal.verify()).breaks == ()

    async def test_unsettled_are_the_keys_that_may_live_and_were_left_behind(self, journal: Journal) -> None:
        left = []
        for fate in Fate:
            given_up = await claimed(journal, await opened(journal, f"aborted-{fate}"))
            key = a_key(given_up, fate)
            await step(journal, await aborted(journal, given_up), EventType.ORPHAN_SETTLED, keys=[key])
            retried = await claimed(journal, await opened(journal, f"retried-{fate}"))
            earlier = a_key(retried, fate)
            retried = await claimed(journal, retried, attempt=2)
            await step(journal, retried, EventType.MINT_UNKNOWN, keys=[earlier])
            left += [key, earlier] if fate in {Fate.INTENDED, Fate.LIVE, Fate.REVOKING} else []
        await claimed(journal, await opened(journal, "under way"))
        done = await completed(journal, await opened(journal, "completed"))
        await journal.record_keys([a_key(done, Fate.LIVE), an_adopted_key(fate=Fate.REVOKING)])
        assert {key.key_id for key in await journal.unsettled()} == {key.key_id for key in left}

    async def test_confirmations_are_told_in_their_order(self, journal: Journal) -> None:
        rotation = await opened(journal)
        proofs = [a_confirmation(rotation, f"bot-{n}") for n in range(3)]
        await step(journal, rotation, EventType.DEFERRED, confirmations=proofs)
        other = await opened(journal, "okx-main")
        await step(journal, other, EventType.DEFERRED, confirmations=[a_confirmation(other)])
        assert await journal.confirmations(rotation.id) == proofs

    async def test_the_salt_is_made_once(self, journal: Journal, second: Journal) -> None:
        salt = await journal.salt()
        assert len(salt) >= 16
        assert await second.salt() == await journal.salt() == salt

    async def test_what_one_worker_wrote_the_other_reads(self, journal: Journal, second: Journal) -> None:
        rotation = await opened(journal)
        for number in range(1, 20):
            worker, other = (journal, second) if number % 2 else (second, journal)
            rotation = await step(worker, rotation, EventType.DEFERRED, failures=number)
            assert await other.get(rotation.id) == rotation

    async def test_a_closed_journal_writes_no_more(self, journal: Journal) -> None:
        await journal.close()
        with pytest.raises(ProgrammingError):
            await opened(journal)


async def opening(journal: Journal) -> None:
    """Open a rotation, and give nothing."""
    await opened(journal)
