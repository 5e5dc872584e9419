"""The first tables."""

import secrets

import sqlalchemy as sa
from alembic import op

from keyturn.journal.chain import genesis

revision = "0001"
down_revision = None

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and draw the salt."""
    meta = op.create_table(
        "meta",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("head_number", sa.BigInteger, nullable=False),
        sa.Column("head_hash", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name="meta_one_row"),
    )
    op.create_table(
        "rotations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("credential", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("is_open", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("wake_at", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    is_open = sa.text("is_open = 1")
    op.create_index(
        "rotations_one_open",
        "rotations",
        ["credential"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index("rotations_by_credential", "rotations", ["credential", "state", "number"])
    op.create_table(
        "events",
        sa.Column("number", _number, primary_key=True, autoincrement=False),
        sa.Column("rotation_id", sa.Text, sa.ForeignKey("rotations.id")),
        sa.Column("credential", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("attached", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.UniqueConstraint("rotation_id", "seq", name="events_one_per_step"),
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("credential", sa.Text, nullable=False),
        sa.Column("exchange", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("key_ref", sa.Text),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("fate", sa.Text, nullable=False),
        sa.Column("rotation_id", sa.Text, sa.ForeignKey("rotations.id")),
        sa.Column("attempt", sa.Integer),
        sa.Column("recorded_at", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("keys_by_credential", "keys", ["credential"])
    op.create_index("keys_by_ref", "keys", ["exchange", "account", "key_ref"])
    op.create_index("keys_by_fate", "keys", ["fate"])
    op.create_table(
        "confirmations",
        sa.Column(
            "number", sa.BigInteger, sa.ForeignKey("events.number"), primary_key=True, autoincrement=False
        ),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rotation_id", sa.Text, sa.ForeignKey("rotations.id"), nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("confirmations_by_rotation", "confirmations", ["rotation_id"])
    salt = secrets.token_hex(32)
    head = genesis(salt)
    op.bulk_insert(meta, [{"id": 1, "salt": salt, "head_number": head.number, "head_hash": head.hash}])
