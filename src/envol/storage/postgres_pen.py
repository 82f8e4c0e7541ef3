"""A lock among all machines that use a database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from envol.storage.place import Database
from envol.storage.postgres import connect
from envol.storage.waiting import Server

if TYPE_CHECKING:
    import psycopg

# The server notices as well, and soon, when the machine that holds it is gone.
_PEN_SESSION = (
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    "SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0"
)


class Pen:
    """A lock that one process holds among all that use the database.

    It belongs to a connection of its own: it is free once that drops or its process ends.

    Args:
        name: what is locked, the same for all.
    """

    def __init__(self, database: Database, name: str, server: Server) -> None:
        self._database = database
        self._key = lock_key(name)
        self._server = server
        self._connection: psycopg.Connection | None = None
        self._is_taken = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it during the block, after those that hold it now."""
        self.take()
        try:
            yield
        finally:
            self._let_go()

    def take(self) -> None:
        """Take it, unless it is held still."""
        if not self.is_held():
            self._server.awaited(self._lock)

    def is_held(self) -> bool:
        """Whether it has been held all the time since it was taken."""
        return self._is_taken and self._execute("SELECT 1")

    def close(self) -> None:
        """Close its connection, which frees it."""
        connection, self._connection = self._connection, None
        self._is_taken = False
        if connection is not None:
            connection.close()

    def _lock(self) -> None:
        lock = f"SELECT pg_advisory_lock({self._key})"
        if self._connection is None or not self._execute(lock):
            self._connection = connect(self._database, autocommit=True)
            self._connection.execute(_PEN_SESSION)
            self._connection.execute(lock.encode())
        self._is_taken = True

    def _let_go(self) -> None:
        if self._is_taken:
            self._execute(f"SELECT pg_advisory_unlock({self._key})")
        self._is_taken = False

    def _execute(self, statement: str) -> bool:
        """Whether the connection still carries it out."""
        import psycopg

        if self._connection is None:
            return False
        try:
            self._connection.execute(statement.encode())
        except psycopg.Error:
            self.close()
            return False
        return True


def lock_key(name: str) -> int:
    """The number of PostgreSQL's advisory lock of that name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
