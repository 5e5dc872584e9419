"""What the journal can be asked, as functions of a connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from keyturn.domain.comparison import Findings
from keyturn.domain.evidence import Confirmation
from keyturn.domain.rotation import CLOCK_MARGIN, Fate, KeyRecord, Origin, Rotation, State
from keyturn.journal.chain import Head
from keyturn.journal.codec import read_event, read_findings, read_record, time_text, unreadable
from keyturn.journal.rows import BOOKS_COMPARED
from keyturn.journal.schema import confirmations, events, keys, meta, rotations
from keyturn.journal.verify import Verifier
from keyturn.ports.journal import ChainReport, JournaledEvent

# A page of rows while verifying: bounds memory, whatever the journal's size.
_PAGE = 2000
#: Fates of keys that may live, so that somebody must see to their end.
UNSETTLED = (Fate.INTENDED, Fate.LIVE, Fate.REVOKING)

_SNAPSHOT = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"}

# Asked at every step of every rotation, hence built once.
_ROTATION = select(rotations.c.record).where(rotations.c.id == bindparam("id"))
_OPEN_ROTATION = select(rotations.c.record).where(
    rotations.c.credential == bindparam("credential"), rotations.c.is_open == literal_column("1")
)
_KEYS = (
    select(keys.c.record)
    .where(keys.c.credential == bindparam("credential"))
    .order_by(keys.c.recorded_at, keys.c.number)
)
_KEY = (
    select(keys.c.record)
    .where(
        *(keys.c[name] == bindparam(name) for name in ("exchange", "account", "key_ref")),
        keys.c.fate != literal_column(f"'{Fate.FORGOTTEN}'"),
    )
    .order_by(keys.c.recorded_at.desc(), keys.c.number.desc())
    .limit(literal_column("1"))
)
_PROOFS = (
    select(confirmations.c.record)
    .where(confirmations.c.rotation_id == bindparam("id"))
    .order_by(confirmations.c.number, confirmations.c.position)
)
_EVENTS_OF = select(events).where(events.c.rotation_id == bindparam("id")).order_by(events.c.number)
_ROW_OF = select(rotations).where(rotations.c.id == bindparam("id"))
_PROOFS_OF = select(confirmations).where(confirmations.c.rotation_id == bindparam("id"))


def salt(connection: Connection) -> bytes:
    """Give the installation's salt."""
    text = connection.execute(select(meta.c.salt)).scalar()
    try:
        return bytes.fromhex(text or "no salt")
    except ValueError:
        raise unreadable("The journal has lost its salt.") from None


def rotation(connection: Connection, rotation_id: str) -> Rotation | None:
    """Give a rotation by id."""
    return _one(connection.execute(_ROTATION, {"id": rotation_id}))


def open_rotation(connection: Connection, credential: str) -> Rotation | None:
    """Give the open rotation of a credential."""
    return _one(connection.execute(_OPEN_ROTATION, {"credential": credential}))


def due(connection: Connection, now: datetime, limit: int | None) -> Sequence[Rotation]:
    """Give the open rotations whose time has come; one without a wake-up time waits since its last step."""
    wake_at = rotations.c.wake_at
    # What was put off under a clock that was set back since: that time says nothing.
    ahead = rotations.c.updated_at > time_text(now + CLOCK_MARGIN)
    come = or_(wake_at.is_(None), wake_at <= time_text(now), ahead)
    query = (
        select(rotations.c.record)
        .where(rotations.c.is_open == literal_column("1"), come)
        .order_by(func.coalesce(wake_at, rotations.c.updated_at), rotations.c.number)
    )
    return _rotations(connection, query.limit(limit))


def newest(connection: Connection, state: State | None = None) -> Sequence[Rotation]:
    """Give the newest rotation of every credential, of those in a state if one is given."""
    last = select(func.max(rotations.c.number)).group_by(rotations.c.credential)
    if state is not None:
        last = last.where(rotations.c.state == str(state))
    query = select(rotations.c.record).where(rotations.c.number.in_(last))
    return _rotations(connection, query.order_by(rotations.c.credential))


def history(connection: Connection, credential: str, limit: int | None) -> Sequence[Rotation]:
    """Give the rotations of a credential, newest first."""
    query = select(rotations.c.record).where(rotations.c.credential == credential)
    return _rotations(connection, query.order_by(rotations.c.number.desc()).limit(limit))


def story(connection: Connection, rotation_id: str) -> Sequence[JournaledEvent]:
    """Give the events of a rotation, oldest first."""
    query = select(events).where(events.c.rotation_id == rotation_id).order_by(events.c.number)
    return [journaled(row) for row in connection.execute(query).mappings()]


def journaled(row: Any) -> JournaledEvent:
    """Read an event as it stands in the journal."""
    return JournaledEvent(
        row["number"], row["rotation_id"], row["credential"], row["seq"], read_event(row), row["hash"]
    )


def keys_of(connection: Connection, credential: str) -> Sequence[KeyRecord]:
    """Give every key of a credential, oldest first."""
    return [read_record(KeyRecord, row[0]) for row in connection.execute(_KEYS, {"credential": credential})]


def key(connection: Connection, exchange: str, account: str, key_ref: str) -> KeyRecord | None:
    """Give a key by its ref; the record made last, should there be two."""
    wanted = {"exchange": exchange, "account": account, "key_ref": key_ref}
    text = connection.execute(_KEY, wanted).scalar()
    return None if text is None else read_record(KeyRecord, text)


def adopted(connection: Connection) -> Sequence[KeyRecord]:
    """Give every adopted key, oldest first."""
    return _keys(connection, select(keys.c.record).where(keys.c.origin == str(Origin.ADOPTED)))


def unsettled(connection: Connection) -> Sequence[KeyRecord]:
    """Give the keys that may live and whose rotation has left them behind, oldest first."""
    query = (
        select(keys.c.record)
        .join(rotations, rotations.c.id == keys.c.rotation_id)
        .where(
            keys.c.fate.in_([str(fate) for fate in UNSETTLED]),
            or_(rotations.c.state == str(State.ABORTED), rotations.c.attempt > keys.c.attempt),
        )
    )
    return _keys(connection, query)


def findings(connection: Connection) -> Findings | None:
    """Give what the last comparison of the books found."""
    query = select(events.c.at, events.c.actor, events.c.data).where(events.c.type == BOOKS_COMPARED)
    row = connection.execute(query.order_by(events.c.number.desc()).limit(1)).first()
    return None if row is None else read_findings(*row)


def proofs(connection: Connection, rotation_id: str) -> Sequence[Confirmation]:
    """Give the confirmations for a rotation, oldest first."""
    return [read_record(Confirmation, row[0]) for row in connection.execute(_PROOFS, {"id": rotation_id})]


def verify(connection: Connection, expect: str | None) -> ChainReport:
    """Verify the whole journal as it stood at one moment, and look for a hash of its chain."""
    connection.exec_driver_sql(_SNAPSHOT[connection.dialect.name])
    try:
        end = connection.execute(select(meta)).mappings().first()
        if end is None:
            return ChainReport(0, ("The journal has lost its salt and the end of its chain.",))
        verifier = Verifier(end["salt"], expect)
        for row in _pages(connection, events, events.c.number):
            verifier.chained(dict(row))
        verifier.head(Head(end["head_number"], end["head_hash"]))
        verifier.rotations(dict(row) for row in _pages(connection, rotations, rotations.c.id))
        verifier.keys(dict(row) for row in _pages(connection, keys, keys.c.key_id))
        by_number = confirmations.c.number
        verifier.confirmations(dict(row) for row in _pages(connection, confirmations, by_number))
        return verifier.report()
    finally:
        connection.exec_driver_sql("ROLLBACK")


def verify_one(connection: Connection, rotation_id: str) -> ChainReport:
    """Verify one rotation and its confirmations as they stood at one moment."""
    connection.exec_driver_sql(_SNAPSHOT[connection.dialect.name])
    try:
        verifier, wanted = Verifier(""), {"id": rotation_id}
        for row in connection.execute(_EVENTS_OF, wanted).mappings():
            verifier.told(dict(row))
        verifier.rotations(dict(row) for row in connection.execute(_ROW_OF, wanted).mappings())
        verifier.confirmations(dict(row) for row in connection.execute(_PROOFS_OF, wanted).mappings())
        return verifier.report()
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _pages(connection: Connection, table: Table, by: Any) -> Iterator[Any]:
    query = select(table).order_by(by)
    result = connection.execute(query, execution_options={"yield_per": _PAGE})
    yield from result.mappings()


def _one(found: CursorResult[tuple[str]]) -> Rotation | None:
    text = found.scalar()
    return None if text is None else read_record(Rotation, text)


def _rotations(connection: Connection, query: Select[tuple[str]]) -> Sequence[Rotation]:
    return [read_record(Rotation, row[0]) for row in connection.execute(query)]


def _keys(connection: Connection, query: Select[tuple[str]]) -> Sequence[KeyRecord]:
    ordered = query.order_by(keys.c.recorded_at, keys.c.number)
    return [read_record(KeyRecord, row[0]) for row in connection.execute(ordered)]
