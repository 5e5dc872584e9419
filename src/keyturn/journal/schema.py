"""The tables, as the newest migration leaves them (a test compares the two)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: The newest migration that this code knows.
REVISION = "0002"
#: Alembic's table; named, because Prefect keeps one under Alembic's default name.
VERSION_TABLE = "keyturn_version"

metadata = MetaData()
# SQLite makes only an `INTEGER` primary key the row's own number.
_Number = BigInteger().with_variant(Integer(), "sqlite")

version = Table(VERSION_TABLE, MetaData(), Column("version_num", Text, primary_key=True))

#: One row: the salt, and the end of the chain, which writers lock.
meta = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("salt", Text, nullable=False),
    Column("head_number", BigInteger, nullable=False),
    Column("head_hash", Text, nullable=False),
    CheckConstraint("id = 1", name="meta_one_row"),
)

#: `number` is that of the event which opened it, so that it sorts by age whatever the clocks said.
rotations = Table(
    "rotations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("credential", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("wake_at", Text),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    Column("record", Text, nullable=False),
    Index(
        "rotations_one_open",
        "credential",
        unique=True,
        sqlite_where=text("is_open = 1"),
        postgresql_where=text("is_open = 1"),
    ),
    Index("rotations_by_credential", "credential", "state", "number"),
)

events = Table(
    "events",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("rotation_id", Text, ForeignKey("rotations.id")),
    Column("credential", Text, nullable=False),
    Column("seq", Integer),
    Column("type", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("attached", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("rotation_id", "seq", name="events_one_per_step"),
)

#: `number` is that of the event with which the key was first written.
keys = Table(
    "keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("credential", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("key_ref", Text),
    Column("origin", Text, nullable=False),
    Column("fate", Text, nullable=False),
    Column("rotation_id", Text, ForeignKey("rotations.id")),
    Column("attempt", Integer),
    Column("recorded_at", Text, nullable=False),
    Column("record", Text, nullable=False),
    Index("keys_by_credential", "credential"),
    Index("keys_by_ref", "exchange", "account", "key_ref"),
    Index("keys_by_fate", "fate"),
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("number", BigInteger, ForeignKey("events.number"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("rotation_id", Text, ForeignKey("rotations.id"), nullable=False),
    Column("consumer", Text, nullable=False),
    Column("record", Text, nullable=False),
    Index("confirmations_by_rotation", "rotation_id"),
)
