"""Alembic's migrations of the metadata database; `envol.storage.metadata` runs them."""
