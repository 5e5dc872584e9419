"""Alembic's way in: runs the steps on the connection, and in the transaction, that the upgrade holds."""

from alembic import context

from keyturn.journal.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    # SQLite's data definition is transactional when the driver begins transactions itself, as ours does.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
