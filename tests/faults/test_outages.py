"""The database goes away while a project is at work: it waits, says so, goes on, and loses nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from evidence import NOTED, calls, check_agreement, rows, states, until
from servers import Postgres
from small_project import SmallProject
from sqlalchemy import Connection, select

from envol.errors import BusyError
from envol.pipeline import Lease
from envol.storage import Store, tables

Make = Callable[..., SmallProject]


PATIENCE = 6.0
"""Seconds of silence after which a lease is taken over; a holder beats at most five after an outage."""


DAYS = (
    NOTED
    + """
    @source(every="1d")
    def days(window: Window) -> pl.DataFrame:
        note("days", window)
        if window.start.day == 10:
            wait_for("gate1")
        return pl.DataFrame({"key": [window.key], "n": [window.start.day], "twice": [window.start.day * 2.0]})

    @table()
    def doubled(days: pl.DataFrame, window: Window) -> pl.DataFrame:
        note("doubled", window)
        return pl.concat([days, days])

    class Twice:
        def predict(self, X):
            return X["n"] * 2.0

    @model(
        features="days", labels="days", key="key", target="twice", train="30d", every="90d", folds=1,
        test="9d"
    )
    def twice(X: pl.DataFrame, y: pl.Series):
        wait_for("gate2")
        return Twice()
"""
)


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


def test_a_run_outlives_a_killed_server_and_says_what_it_waits_for(
    project: Make, on_mortal: Postgres
) -> None:
    small = project(DAYS, 'end = "2024-02-10"\n[run]\nworkers = 2\n')
    command = [sys.executable, "-m", "envol.cli", "run", "--project", str(small.root)]
    said = small.root / "said.txt"
    with said.open("wb") as output:
        run = subprocess.Popen(command, stdout=output, stderr=output)
    for outage, tasks in enumerate((12, 79), 1):
        small.wait_for_tasks(tasks, run)
        on_mortal.stop(signal.SIGKILL)
        until(lambda: said.read_text().count("waiting for up to 300 s") == outage, said.read_text)  # noqa: B023
        (small.root / f"gate{outage}").touch()  # what is made meanwhile is kept once the server is back
        on_mortal.start()
    assert run.wait(120) == 0, said.read_text()
    assert said.read_text().count("answers again") == 2
    assert states(small) == ["done"]
    windows = Counter((call.node, call.window) for call in calls(small))
    assert len(windows) == 80 and set(windows.values()) == {1}
    check_agreement(small, "days", "doubled", "twice_predictions")
    version = tables.model_version.c
    assert rows(small, select(version.model, version.version)) == [("twice", 1)]
