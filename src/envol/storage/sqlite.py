"""What every SQLite file of a project needs when it is opened."""

from __future__ import annotations

import random
import sqlite3
import time


def use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Put a new file in WAL mode; SQLite does not wait by itself where another process does so just now.

    Args:
        patience: how many seconds to wait for the other process.

    Raises:
        sqlite3.Error: it cannot be read or written, or the other process never ends.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.005, 0.02))
