"""Conductors that wait to take over, and how they are known to the others."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, delete, insert, select

from envol.errors import BusyError, StorageError
from envol.log import tell
from envol.pipeline.conducting.control import CONDUCTOR
from envol.pipeline.lease import holder, is_dead, machine, process_start
from envol.storage import Metadata, tables

logger = logging.getLogger("envol.conductor")

RENEW_SECONDS = 10.0
GONE_SECONDS = 60.0
"""After so long without a renewal a waiting conductor of another machine counts as gone."""
_PREFIX = "standby:"
_control = tables.control.c


class Standby:
    """This process while it waits for the lease of the active conductor; a context manager."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._name = f"{_PREFIX}{machine()}:{os.getpid()}"
        self._told: str | None = None
        self._since = 0.0
        self._renewed = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def wait(self, busy: BusyError) -> None:
        """Another conductor is active: say so once, and be known to wait."""
        if self._told != busy.message:
            self._told = busy.message
            tell(logger, logging.INFO, "standby", f"standby: {busy.message}")
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._since = self._since or time.time()
            self._renewed = time.monotonic()
            self._write(self._put)

    def end(self) -> None:
        """It waits no more."""
        if self._told is not None:
            self._told, self._since, self._renewed = None, 0.0, float("-inf")
            self._write(self._remove)

    def _write(self, work: Any) -> None:
        try:
            self._metadata.write(work)
        except StorageError as error:
            tell(logger, logging.ERROR, "away", str(error))

    def _put(self, connection: Connection) -> None:
        self._remove(connection)
        told = {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since}
        told |= {"machine": machine(), "process": process_start(os.getpid())}
        row = {"name": self._name, "value": json.dumps(told), "at": time.time(), "by": "conductor"}
        connection.execute(insert(tables.control).values(row))

    def _remove(self, connection: Connection) -> None:
        """Take out this one, and those that have gone without doing so."""
        own = delete(tables.control).where(_control.name == self._name)
        gone = delete(tables.control).where(
            _control.name.startswith(_PREFIX), _control.at < time.time() - GONE_SECONDS
        )
        connection.execute(own)
        connection.execute(gone)


@dataclass(frozen=True)
class At:
    """A conductor: its machine's name, its process, and since when (epoch seconds)."""

    host: str
    pid: int
    since: float


@dataclass(frozen=True)
class Conductors:
    """The active conductor of a project, if there is one, and those that wait to take over."""

    active: At | None
    waiting: tuple[At, ...]


def conductors(metadata: Metadata) -> Conductors:
    """Who is at work. One of another machine counts as active until another takes over."""
    query = select(_control.value, _control.at).where(_control.name.startswith(_PREFIX))
    rows = metadata.read(lambda connection: connection.execute(query).all())
    found = [json.loads(value) for value, at in rows if at > time.time() - GONE_SECONDS]
    active = holder(metadata, CONDUCTOR)
    return Conductors(
        None if active is None else At(active["host"], active["pid"], active["since"]),
        tuple(At(one["host"], one["pid"], one["since"]) for one in found if not is_dead(one)),
    )
