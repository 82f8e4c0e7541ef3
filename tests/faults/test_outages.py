"""The database goes away while a project is at work: it waits, says so, goes on, and loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from evidence import until
from servers import Postgres
from small_project import SmallProject
from sqlalchemy import Connection

from envol.errors import BusyError
from envol.pipeline import Lease
from envol.storage import Store

Make = Callable[..., SmallProject]


PATIENCE = 6.0
"""Seconds of silence after which a lease is taken over; a holder beats at most five after an outage."""


def test_who_waits_for_a_lease_does_not_take_an_outage_for_the_silence_of_the_dead(
    project: Make, on_mortal: Postgres
) -> None:
    small = project("")
    stop, beat, lost, taken = (threading.Event() for _ in range(4))

    def lease(store: Store, on_beat: Callable[[Connection], None]) -> Lease:
        return Lease(store.metadata, "run", "another run is active", patience=PATIENCE, on_beat=on_beat)

    def wait() -> None:
        with small.store() as store, suppress(BusyError):
            with lease(store, lambda _: None).held(wait=True, stop=stop):
                taken.set()

    with small.store() as store:
        holder = lease(store, lambda _: beat.set())
        holder.on_lost = lost.set
        with holder.held():
            waiting = [threading.Thread(target=wait) for _ in range(8)]
            for thread in waiting:
                thread.start()
            time.sleep(1.5)  # all look twice a second
            beat.clear()
            beat.wait()
            time.sleep(0.7)  # and all have seen this beat
            on_mortal.stop()
            beat.clear()
            time.sleep(PATIENCE + 1)
            on_mortal.start()
            until(lambda: beat.is_set() or lost.is_set())
            stop.set()
            for thread in waiting:
                thread.join()
    assert not lost.is_set() and not taken.is_set()
