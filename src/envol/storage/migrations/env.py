"""Alembic's entry: runs in the transaction that `envol.storage.metadata` has begun."""

from __future__ import annotations

from alembic import context

from envol.storage.tables import metadata

# ALTER of a column means copying the table on SQLite, which batch mode does.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
