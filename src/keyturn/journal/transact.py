"""One transaction of the writer: a batch of writes, in as few statements as it takes.

Every writer locks the chain's head first, so that whatever the transaction then reads stays true until
it commits: two engines on one journal take turns here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, literal_column, select, update

from keyturn.domain.errors import JournalError
from keyturn.journal.chain import Batch, Head
from keyturn.journal.codec import unreadable
from keyturn.journal.rows import Write
from keyturn.journal.schema import REVISION, confirmations, events, keys, meta, rotations, version
from keyturn.journal.upgrade import newer

_REVISION = select(version.c.version_num).scalar_subquery()
_HEAD = select(meta.c.head_number, meta.c.head_hash, _REVISION).with_for_update(of=meta)
_SEQS = select(rotations.c.id, rotations.c.seq).where(rotations.c.id.in_(bindparam("ids", expanding=True)))
_BUSY = select(rotations.c.credential).where(
    rotations.c.is_open == literal_column("1"),
    rotations.c.credential.in_(bindparam("credentials", expanding=True)),
)
_INSERT_ROTATIONS = insert(rotations)
_UPDATE_ROTATIONS = (
    update(rotations)
    .where(rotations.c.id == bindparam("b_id"))
    .values({name: bindparam(f"b_{name}") for name in ("state", "seq", "is_open", "attempt", "wake_at")})
    .values(updated_at=bindparam("b_updated_at"), record=bindparam("b_record"))
)
_INSERT_EVENTS = insert(events)
_INSERT_CONFIRMATIONS = insert(confirmations)
_UPDATE_HEAD = update(meta).values(head_number=bindparam("number"), head_hash=bindparam("hash"))


def upsert_keys(dialect: str) -> Any:
    """Build the statement that writes keys: a known key keeps its number, all else is replaced."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as dialect_insert
    else:
        from sqlalchemy.dialects.postgresql import insert as dialect_insert  # type: ignore[assignment]
    statement = dialect_insert(keys)
    kept = {"key_id", "number"}
    return statement.on_conflict_do_update(
        index_elements=[keys.c.key_id],
        set_={c.name: statement.excluded[c.name] for c in keys.columns if c.name not in kept},
    )


def write_batch(
    connection: Connection, writes: Sequence[Write], place: str, upsert: Any
) -> list[JournalError | None]:
    """Take each write into the open transaction, or say why not.

    Raises:
        JournalError: `NEWER_VERSION`, `TAMPERED`: nothing can be written at all.
        SQLAlchemyError: the database refused; nothing may be committed.
    """
    batch = _begin(connection, writes, place)
    outcomes = [batch.add(write) for write in writes]
    if not batch.events:
        return outcomes
    # Changes go first: one of them may close the rotation whose credential a new one takes.
    if batch.changed_rotations:
        changed = [{f"b_{k}": v for k, v in row.items()} for row in batch.changed_rotations.values()]
        connection.execute(_UPDATE_ROTATIONS, changed)
    if batch.new_rotations:
        connection.execute(_INSERT_ROTATIONS, list(batch.new_rotations.values()))
    connection.execute(_INSERT_EVENTS, batch.events)
    if batch.keys:
        connection.execute(upsert, list(batch.keys.values()))
    if batch.confirmations:
        connection.execute(_INSERT_CONFIRMATIONS, batch.confirmations)
    connection.execute(_UPDATE_HEAD, {"number": batch.head.number, "hash": batch.head.hash})
    return outcomes


def _begin(connection: Connection, writes: Sequence[Write], place: str) -> Batch:
    found = connection.execute(_HEAD).all()
    if len(found) != 1:
        raise unreadable(f"The journal at {place} has lost the end of its chain.")
    number, head, revision = found[0]
    if revision != REVISION:
        raise newer(place)
    named = [write for write in writes if write.rotation is not None]
    ids = sorted({write.rotation["id"] for write in named if write.rotation})
    opens = sorted(
        {write.rotation["credential"] for write in named if write.rotation and write.expect_seq is None}
    )
    seqs = {row[0]: row[1] for row in connection.execute(_SEQS, {"ids": ids})} if ids else {}
    busy = {row[0] for row in connection.execute(_BUSY, {"credentials": opens})} if opens else set()
    return Batch(Head(number, head), seqs, busy)
