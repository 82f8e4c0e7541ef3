"""What a process knows of the lake's tables, so that a commit asks the catalog only for what has changed."""

from __future__ import annotations

from datetime import datetime

from envol.project.windows import Window
from envol.storage import catalog
from envol.storage.catalog import Stored
from envol.storage.ground import Cursor


class Known:
    """Columns and the newest window of the tables; used by whoever holds the lake's pen."""

    def __init__(self) -> None:
        self._snapshot = self._schema = -1
        self._columns: dict[str, Stored] = {}
        self._newest: dict[str, datetime] = {}

    def refresh(self, cursor: Cursor) -> None:
        """Forget what commits of others, or merges, may have changed."""
        snapshot, schema = catalog.newest(cursor)
        if schema != self._schema:
            self._columns.clear()
        if snapshot != self._snapshot:
            self._newest.clear()
        self._snapshot, self._schema = snapshot, schema

    def columns(self, cursor: Cursor, table: str) -> Stored | None:
        """The table's columns; None when there is no such table."""
        found = self._columns.get(table) or catalog.stored(cursor, table)
        if found is not None:
            self._columns[table] = found
        return found

    def may_hold(self, cursor: Cursor, table: str, window: Window) -> bool:
        """Whether the table can hold rows of the window: not one after all that were ever written."""
        newest = self._newest.get(table) or catalog.newest_window(cursor, table)
        if newest is None:
            return True
        self._newest[table] = newest
        return window.start.timestamp() <= newest.timestamp()

    def written(self, table: str, window: Window) -> None:
        """Note rows that the transaction has written."""
        newest = self._newest.get(table)
        if newest is not None and newest.timestamp() < window.start.timestamp():
            self._newest[table] = window.start

    def committed(self, snapshot: int) -> None:
        """Note the snapshot of the commit that followed the last refresh."""
        self._snapshot = snapshot

    def forget(self) -> None:
        """Know nothing any more: a transaction was rolled back."""
        self._snapshot = self._schema = -1
