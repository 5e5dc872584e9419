"""The writer's statements: one for all rows of a table, in the database's words, compiled once per number.

A driver gives the interpreter away with every row that it sends or fetches, and wins it back only when
another thread gives it away: milliseconds, on a busy machine. One statement a table instead of one a row,
and no compiling of what was compiled before, make a transaction three times as fast beside an event loop
that works (2 cores, SQLAlchemy 2.0.58, 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Dialect,
    Executable,
    Table,
    bindparam,
    column,
    insert,
    literal_column,
    select,
    update,
    values,
)

from keyturn.journal.schema import confirmations, events, keys, meta, rotations, version

# So many numbers of rows are compiled for, a millisecond each; a batch has two or three, and rarely more.
_MOST_ROWS = 8

Row = Mapping[str, Any]
_Places = Sequence[Mapping[str, BindParameter[Any]]]


@dataclass(frozen=True, slots=True)
class _Compiled:
    text: str
    #: Row and column of each value, in the order of the text.
    order: tuple[tuple[int, str], ...]
    #: The values' names, in the same order; None where the driver takes them by position.
    names: tuple[str, ...] | None

    def run(self, connection: Connection, rows: Sequence[Row]) -> Sequence[Any]:
        found = [rows[index][name] for index, name in self.order]
        if self.names is None:
            # SQLite's driver, asked directly: what SQLAlchemy does around it costs as much as the statement.
            cursor = connection.connection.cursor()
            cursor.execute(self.text, found)
            return cursor.fetchall() if cursor.description else ()
        result = connection.exec_driver_sql(self.text, dict(zip(self.names, found, strict=True)))
        return result.all() if result.returns_rows else ()


class Statement:
    """A statement over any number of rows, in a transaction that has begun.

    Args:
        dialect: the database's.
        table: whose columns the rows have.
        columns: their names.
        build: makes the statement from a place for each value of each row.
    """

    def __init__(
        self, dialect: Dialect, table: Table, columns: Sequence[str], build: Callable[[_Places], Executable]
    ) -> None:
        self._dialect = dialect
        self._table = table
        self._columns = tuple(columns)
        self._build = build
        self._compiled: dict[int, _Compiled] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> list[Any]:
        """Execute it over the rows, which have the columns at least; give the rows that it answers.

        Raises:
            SQLAlchemyError, sqlite3.Error: the database refused.
        """
        answers: list[Any] = []
        for start in range(0, len(rows), _MOST_ROWS):
            part = rows[start : start + _MOST_ROWS]
            answers += self._for(len(part)).run(connection, part)
        return answers

    def _for(self, count: int) -> _Compiled:
        compiled = self._compiled.get(count)
        if compiled is None:
            compiled = self._compiled[count] = self._compile(count)
        return compiled

    def _compile(self, count: int) -> _Compiled:
        of_name = {f"{name}_{index}": (index, name) for index in range(count) for name in self._columns}
        places = [
            {name: bindparam(f"{name}_{index}", type_=self._table.c[name].type) for name in self._columns}
            for index in range(count)
        ]
        compiled: Any = self._build(places).compile(dialect=self._dialect)  # type: ignore[attr-defined]
        if compiled.positional:
            return _Compiled(compiled.string, tuple(of_name[n] for n in compiled.positiontup), None)
        return _Compiled(compiled.string, tuple(of_name.values()), tuple(of_name))


class Statements:
    """What the writer asks and writes.

    Args:
        dialect: the database's.
    """

    def __init__(self, dialect: Dialect) -> None:
        def inserting(table: Table) -> Statement:
            return Statement(dialect, table, table.c.keys(), lambda places: insert(table).values(places))

        revision = select(version.c.version_num).scalar_subquery()
        head = select(meta.c.head_number, meta.c.head_hash, revision).with_for_update(of=meta)
        #: The end of the chain, which it locks, and the journal's revision; a row of nothing asks for it.
        self.head = Statement(dialect, meta, (), lambda _: head)
        #: Id and `seq` of the rotations with these ids.
        self.seqs = Statement(dialect, rotations, ("id",), _seqs)
        #: Those of these credentials that have an open rotation.
        self.busy = Statement(dialect, rotations, ("credential",), _busy)
        self.change_rotations = Statement(dialect, rotations, ("id", *_CHANGING), _change)
        self.insert_rotations = inserting(rotations)
        self.insert_events = inserting(events)
        self.write_keys = Statement(dialect, keys, keys.c.keys(), _upsert(dialect.name))
        self.insert_confirmations = inserting(confirmations)
        self.move_head = Statement(dialect, meta, ("head_number", "head_hash"), _move_head)


_CHANGING = ("state", "seq", "is_open", "attempt", "wake_at", "updated_at", "record")


def _seqs(places: _Places) -> Executable:
    return select(rotations.c.id, rotations.c.seq).where(rotations.c.id.in_([p["id"] for p in places]))


def _busy(places: _Places) -> Executable:
    named = rotations.c.credential.in_([p["credential"] for p in places])
    return select(rotations.c.credential).where(rotations.c.is_open == literal_column("1"), named)


def _change(places: _Places) -> Executable:
    names = ("id", *_CHANGING)
    told = values(*(column(name, rotations.c[name].type) for name in names), name="told")
    # As a common table expression: SQLite takes names for the columns of VALUES nowhere else.
    step = told.data([tuple(place[name] for name in names) for place in places]).cte("step")
    change = update(rotations).where(rotations.c.id == step.c.id)
    return change.values({name: step.c[name] for name in _CHANGING})


def _upsert(dialect: str) -> Callable[[_Places], Executable]:
    """Write keys: a known key keeps its number, all else is replaced."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as dialect_insert
    else:
        from sqlalchemy.dialects.postgresql import insert as dialect_insert  # type: ignore[assignment]

    def build(places: _Places) -> Executable:
        statement = dialect_insert(keys).values(places)
        replaced = {name: statement.excluded[name] for name in set(keys.c.keys()) - {"key_id", "number"}}
        return statement.on_conflict_do_update(index_elements=[keys.c.key_id], set_=replaced)

    return build


def _move_head(places: _Places) -> Executable:
    return update(meta).values(dict(places[0]))
