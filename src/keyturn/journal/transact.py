"""One transaction of the writer: a batch of writes, in as few statements as it takes.

Every writer locks the chain's head first, so that whatever the transaction then reads stays true until
it commits: two engines on one journal take turns here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from keyturn.domain.errors import JournalError
from keyturn.journal.chain import Batch, Head
from keyturn.journal.codec import unreadable
from keyturn.journal.rows import Write
from keyturn.journal.schema import REVISION
from keyturn.journal.statements import Statements
from keyturn.journal.upgrade import newer


def write_batch(
    connection: Connection, writes: Sequence[Write], place: str, say: Statements
) -> list[JournalError | None]:
    """Take each write into the open transaction, or say why not.

    Raises:
        JournalError: `NEWER_VERSION`, `TAMPERED`: nothing can be written at all.
        SQLAlchemyError, sqlite3.Error: the database refused; nothing may be committed.
    """
    batch = _begin(connection, writes, place, say)
    outcomes = [batch.add(write) for write in writes]
    if not batch.events:
        return outcomes
    # Changes go first: one of them may close the rotation whose credential a new one takes.
    say.change_rotations.run(connection, [*batch.changed_rotations.values()])
    say.insert_rotations.run(connection, [*batch.new_rotations.values()])
    say.insert_events.run(connection, batch.events)
    say.write_keys.run(connection, [*batch.keys.values()])
    say.insert_confirmations.run(connection, batch.confirmations)
    say.move_head.run(connection, [{"head_number": batch.head.number, "head_hash": batch.head.hash}])
    return outcomes


def _begin(connection: Connection, writes: Sequence[Write], place: str, say: Statements) -> Batch:
    found = say.head.run(connection, [{}])
    if len(found) != 1:
        raise unreadable(f"The journal at {place} has lost the end of its chain.")
    number, head, revision = found[0]
    if revision != REVISION:
        raise newer(place)
    named = [(write.rotation, write.expect_seq) for write in writes if write.rotation is not None]
    ids = {rotation["id"]: rotation for rotation, _ in named}
    opens = {rotation["credential"]: rotation for rotation, expected in named if expected is None}
    seqs = {row[0]: row[1] for row in say.seqs.run(connection, [*ids.values()])}
    busy = {row[0] for row in say.busy.run(connection, [*opens.values()])}
    return Batch(Head(number, head), seqs, busy)
