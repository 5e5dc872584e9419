"""The part of the journal's contract that says: whatever an intruder changes in the rows, it shows."""

# A test's name says what a docstring would.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytest

from keyturn.domain.rotation import EventType, Fate
from keyturn.journal.chain import link
from keyturn.ports.journal import Journal
from keyturn.testing.journal_cases import (
    a_confirmation,
    a_key,
    aborted,
    an_adopted_key,
    claimed,
    opened,
    step,
)

Row = dict[str, Any]


class Tampering(Protocol):
    """What somebody with access to the database can do."""

    def rows(self, table: str) -> list[Row]:
        """Give all rows of a table."""
        ...

    def change(self, table: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Change the rows that have these values."""
        ...

    def remove(self, table: str, where: Mapping[str, Any]) -> None:
        """Remove the rows that have these values."""
        ...

    def insert(self, table: str, row: Row) -> None:
        """Add a row."""
        ...


def _event(number: int, **values: Any) -> Callable[[Tampering], None]:
    return lambda rows: rows.change("events", {"number": number}, values)


def _change(table: str, **values: Any) -> Callable[[Tampering], None]:
    """Change the first row of a table."""

    def tamper(rows: Tampering) -> None:
        rows.change(table, _name(table, rows.rows(table)[0]), values)

    return tamper


def _remove(table: str) -> Callable[[Tampering], None]:
    """Remove the first row of a table."""
    return lambda rows: rows.remove(table, _name(table, rows.rows(table)[0]))


def _copy(table: str, **values: Any) -> Callable[[Tampering], None]:
    """Insert a row that is like the first one, but for these values."""
    return lambda rows: rows.insert(table, rows.rows(table)[0] | values)


def _name(table: str, row: Row) -> Row:
    keys = {"events": ["number"], "rotations": ["id"], "keys": ["key_id"], "meta": ["id"]}
    return {name: row[name] for name in keys.get(table, ["number", "position"])}


def _append_forged(rows: Tampering) -> None:
    """Insert an event that fits the chain's end, as somebody who knows the code would."""
    last = max(rows.rows("events"), key=lambda row: row["number"])
    forged = last | {"number": last["number"] + 1, "seq": None, "rotation_id": None, "type": "key_recorded"}
    forged |= {"prev_hash": last["hash"], "attached": ""}
    rows.insert("events", forged | {"hash": link(last["hash"], forged)})


def _swap(rows: Tampering) -> None:
    """Exchange what two events say, hashes included, and leave their numbers."""
    third = next(row for row in rows.rows("events") if row["number"] == 3)
    rows.remove("events", {"number": 3})
    rows.change("events", {"number": 4}, {"number": 3})
    rows.insert("events", third | {"number": 4})


#: What is done to the journal of `fill`, and what the sentence that reports it must hold.
TAMPERINGS: dict[str, tuple[Callable[[Tampering], None], str]] = {
    "an event's data": (_event(2, data='{"attempt":2}'), "Event 2 was changed"),
    "an event's time": (_event(2, at="2020-01-01T00:00:00.000000+00:00"), "Event 2 was changed"),
    "an event's actor": (_event(2, actor="somebody else"), "Event 2 was changed"),
    "an event's type": (_event(3, type="completed"), "Event 3 was changed"),
    "an event's type, to nonsense": (_event(3, type="nonsense"), "Event 3 was changed"),
    "an event's data, to nonsense": (_event(3, data="{"), "Event 3 was changed"),
    "an event's step": (_event(3, seq=99), "Event 3 was changed"),
    "an event's rotation": (_event(3, rotation_id=None), "Event 3 was changed"),
    "an event's keys": (_event(2, attached=""), "Event 2 was changed"),
    "an event's keys, to nonsense": (_event(2, attached="[]"), "Event 2 was changed"),
    "an event's hash": (_event(2, hash="0" * 64), "Event 2 was changed"),
    "an event's predecessor": (_event(2, prev_hash="0" * 64), "Event 2 does not follow"),
    "the first event removed": (
        lambda rows: rows.remove("events", {"number": 1}),
        "events 1 to 1 are missing",
    ),
    "an event removed": (lambda rows: rows.remove("events", {"number": 3}), "events 3 to 3 are missing"),
    "the last event removed": (
        lambda rows: rows.remove("events", {"number": 8}),
        "removed or added at the end",
    ),
    "an event appended": (_append_forged, "removed or added at the end"),
    "two events exchanged": (_swap, "Event 3"),
    "the salt": (_change("meta", salt="00" * 32), "Event 1 does not follow"),
    "the chain's end": (_change("meta", head_hash="0" * 64), "not the one that was recorded"),
    "the chain's length": (_change("meta", head_number=99), "removed or added at the end"),
    "a rotation's state": (_change("rotations", state="completed"), "state differ"),
    "a rotation's wake-up": (_change("rotations", wake_at="2020"), "wake_at differ"),
    "a rotation's record": (_change("rotations", record="{}"), "record differ"),
    "a rotation's age": (_change("rotations", number=99), "number differ"),
    "a rotation removed": (_remove("rotations"), "missing from the table"),
    "a rotation inserted": (_copy("rotations", id="0000000000", is_open=0), "no event opened it"),
    "a key's fate": (_change("keys", fate="revoked"), "fate differ"),
    "a key's ref": (_change("keys", key_ref="a stranger's"), "key_ref differ"),
    "a key's record": (_change("keys", record="{}"), "record differ"),
    "a key removed": (_remove("keys"), "missing from the table"),
    "a key inserted": (_copy("keys", key_id="adopted-stranger"), "no event recorded it"),
    "a confirmation's proof": (_change("confirmations", record="{}"), "record differ"),
    "a confirmation removed": (_remove("confirmations"), "missing from the table"),
    "a confirmation inserted": (_copy("confirmations", position=9, consumer="bot-9"), "no event recorded it"),
}


async def fill(journal: Journal) -> None:
    """Write eight events: two rotations, with keys, a confirmation, and an adopted key."""
    rotation = await claimed(journal, await opened(journal))
    live = a_key(rotation, Fate.LIVE, key_ref="ref-1")
    await step(journal, rotation, EventType.STAGED, keys=[live], confirmations=[a_confirmation(rotation)])
    await journal.record_keys([an_adopted_key()])
    await aborted(journal, await opened(journal, "okx-main"))
    await journal.record_keys([an_adopted_key("okx-main")])


class TamperingContract:
    """Every change of a row is found, and told in a sentence that names the place."""

    __test__ = False

    def __init_subclass__(cls) -> None:
        """Let pytest collect the subclasses only, and of those what gives the fixtures."""
        cls.__test__ = "journal" in vars(cls)

    async def test_an_untouched_journal_verifies(self, journal: Journal) -> None:
        empty = await journal.verify()
        assert (empty.events, empty.breaks) == (0, ())
        await fill(journal)
        report = await journal.verify()
        assert (report.events, report.breaks) == (8, ())

    @pytest.mark.parametrize("what", TAMPERINGS)
    async def test_tampering_shows(self, journal: Journal, tampering: Tampering, what: str) -> None:
        await fill(journal)
        tamper, said = TAMPERINGS[what]
        tamper(tampering)
        breaks = (await journal.verify()).breaks
        assert any(said in sentence for sentence in breaks), breaks

    @pytest.mark.parametrize(
        "what", [what for what in TAMPERINGS if what.startswith(("a rotation", "a confirmation"))]
    )
    async def test_tampering_shows_where_a_rotation_alone_is_verified(
        self, journal: Journal, tampering: Tampering, what: str
    ) -> None:
        await fill(journal)
        names = [rotation.id for rotation in await journal.latest()]
        whole = [await journal.verify(name) for name in names]
        assert [(report.events, report.breaks) for report in whole] == [(3, ()), (3, ())]
        tamper, said = TAMPERINGS[what]
        tamper(tampering)
        reports = [await journal.verify(name) for name in (*names, "0000000000")]
        breaks = [sentence for report in reports for sentence in report.breaks]
        assert any(said in sentence for sentence in breaks), breaks
