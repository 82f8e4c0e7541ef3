"""Cancelling a run from another process, through the metadata database."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from envol.storage import tables


class Cancelling:
    """Sees at each heartbeat whether somebody has cancelled the run."""

    def __init__(self) -> None:
        self.run = ""
        self.by: str | None = None
        self.stop: Callable[[], None] = lambda: None

    def look(self, connection: Connection) -> None:
        """Stop the run when it has been cancelled."""
        column = tables.run.c
        self.by = connection.execute(select(column.cancelled_by).where(column.id == self.run)).scalar()
        if self.by is not None:
            self.stop()
