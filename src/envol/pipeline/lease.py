"""A lease: what only one process may do at a time, among all machines that share the metadata database.

The holder raises a counter every second. Who waits takes over when the counter stands still for ten seconds
of its own time in which it could look, so that clocks need not agree and an outage is not taken for a death;
the processes of one machine see at once that a holder is dead. Each new holder has a higher token, which is
compared inside the transactions that write: a holder that was only asleep cannot write any more (a fencing
token: Kleppmann, Designing Data-Intensive Applications).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from envol.errors import BusyError, Failure, StorageError
from envol.storage import Metadata, tables

BEAT_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
"""How long the counter stands still before another process takes over."""
_lease = tables.lease.c


class LeaseLostError(Failure):
    """Another process has taken over what this one was doing."""


class Lease:
    """One named lease of a project.

    Args:
        name: what is held, such as "run" or "conductor".
        what: the same in the words of messages, such as "another run is active".
        on_beat: called with a connection at each heartbeat.
        patience: seconds of silence after which the holder counts as dead.
    """

    def __init__(
        self,
        metadata: Metadata,
        name: str,
        what: str,
        *,
        on_beat: Callable[[Connection], None] = lambda _: None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._metadata, self._name, self._what = metadata, name, what
        self._on_beat, self._patience = on_beat, patience
        self._token: int | None = None
        self._ended = threading.Event()
        self.on_lost: Callable[[], None] = lambda: None
        """Called by the heartbeat when another process has taken over."""

    @contextmanager
    def held(self, *, wait: bool = False, stop: threading.Event | None = None) -> Iterator[Lease]:
        """Hold the lease during the block.

        Args:
            wait: wait for a living holder to end; else only long enough to see whether it lives.
            stop: ends the waiting.

        Raises:
            BusyError: another process holds it and lives, or `stop` was set.
        """
        self._acquire(wait, stop or threading.Event())
        self._ended.clear()
        beating = threading.Thread(target=self._beat, name=f"{self._name}-lease", daemon=True)
        beating.start()
        try:
            yield self
        finally:
            self._ended.set()
            beating.join()
            self._release()

    def check(self, connection: Connection) -> None:
        """Refuse to go on, inside a transaction, when another process has taken over.

        Raises:
            LeaseLostError: it has.
        """
        token = connection.execute(select(_lease.token).where(_lease.name == self._name)).scalar()
        if token != self._token:
            raise LeaseLostError(
                f"another process has taken over as this one was silent ({self._what})",
                remedy="nothing is lost: what was recorded is kept, and the other process goes on",
            )

    def confirm(self) -> None:
        """The same as `check`, in a transaction of its own."""
        self._metadata.read(self.check)

    def _acquire(self, wait: bool, stop: threading.Event) -> None:
        seen: tuple[int, int] | None = None
        since = looked = time.monotonic()
        while True:
            silent = seen if time.monotonic() - since > self._patience else None
            holder = self._metadata.write(partial(self._try, silent))
            if holder is None:
                return
            now = (holder["token"], holder["beats"])
            if not wait and seen is not None and now[0] == seen[0] and now != seen:
                raise self._busy(holder)  # one and the same is alive; those who hold it for a moment change
            before, looked = looked, time.monotonic()
            # A long time without a look: the database was away, for the holder as well, or all was suspended.
            if now != seen or looked - before > 2 * BEAT_SECONDS:
                seen, since = now, looked
            if stop.wait(BEAT_SECONDS / 2):
                raise self._busy(holder)

    def _try(self, silent: tuple[int, int] | None, connection: Connection) -> RowMapping | None:
        """Take the lease if it is free; returns the row of who holds it instead."""
        mine: dict[str, Any] = {
            "machine": machine(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": process_start(os.getpid()),
            "held": True,
            "since": time.time(),
        }
        row = connection.execute(select(tables.lease).where(_lease.name == self._name)).mappings().first()
        if row is None:
            self._token = 1
            connection.execute(insert(tables.lease).values(name=self._name, token=1, beats=0, **mine))
            return None
        own = row["token"] == self._token and row["held"]  # the answer to an earlier try was lost
        silent_still = silent == (row["token"], row["beats"])
        if row["held"] and not own and not silent_still and not is_dead(row):
            return row
        self._token = int(row["token"]) + 1
        connection.execute(
            update(tables.lease).where(_lease.name == self._name).values(token=self._token, beats=0, **mine)
        )
        return None

    def _beat(self) -> None:
        def work(connection: Connection) -> None:
            self.check(connection)
            connection.execute(
                update(tables.lease)
                .where(_lease.name == self._name, _lease.token == self._token)
                .values(beats=_lease.beats + 1)
            )
            self._on_beat(connection)

        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._metadata.write(work)
            except LeaseLostError:
                self.on_lost()
                return
            except StorageError:
                continue  # what the run itself writes will tell

    def _release(self) -> None:
        mine = (_lease.name == self._name, _lease.token == self._token)
        with suppress(StorageError):  # whoever comes next sees that this process is gone
            self._metadata.write(
                lambda connection: (
                    connection.execute(update(tables.lease).where(*mine).values(held=False)).rowcount
                )
            )

    def _busy(self, holder: RowMapping) -> BusyError:
        place = f"process {holder['pid']}"
        if holder["machine"] != machine():
            place += f" on {holder['host']}"
        return BusyError(f"{self._what} ({place})", remedy="wait for it to end, or end that process")


def run_lease(metadata: Metadata, on_beat: Callable[[Connection], None] = lambda _: None) -> Lease:
    """The lease of a project's only run, which changes its tables."""
    return Lease(metadata, "run", "another run is active on this project", on_beat=on_beat)


def holder(metadata: Metadata, name: str) -> RowMapping | None:
    """Who holds a lease: its row; None when nobody does, or a process of this machine that has died."""
    query = select(tables.lease).where(_lease.name == name, _lease.held)
    row = metadata.read(lambda connection: connection.execute(query).mappings().first())
    return None if row is None or is_dead(row) else row


def machine() -> str:
    """What tells processes that can see each other from others: the boot and the space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def process_start(pid: int) -> str:
    """Tells a process from a later one with the same id; empty where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        return ""


def is_dead(row: RowMapping) -> bool:
    """Whether the holder was a process of this machine that is gone."""
    if row["machine"] != machine():
        return False
    if row["process"]:
        return bool(process_start(row["pid"]) != row["process"])
    try:
        os.kill(row["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
