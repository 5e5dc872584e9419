"""Records say where a key lies: no table changes, but an older keyturn must not read them as forged."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change nothing: the place is part of the records' text."""
