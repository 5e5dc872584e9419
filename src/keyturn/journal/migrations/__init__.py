"""The journal's schema, step by step. Run by `keyturn.journal.upgrade`; no alembic.ini is needed."""
