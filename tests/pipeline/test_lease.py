"""Leases: one holder at a time, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import place
from sqlalchemy import func, select, update

from envol.errors import BusyError
from envol.pipeline import Lease, LeaseLostError
from envol.pipeline.lease import holder
from envol.storage import Metadata, Store, tables

HOLDER = """
import sys, time
from pathlib import Path
from envol.pipeline import Lease
from envol.storage import Store
from servers import place
with Store(place(Path(sys.argv[1]), "project")) as store, Lease(store.metadata, "work", "busy").held():
    print("held", flush=True)
    time.sleep(600)
"""
COUNTER = """
import sys
from pathlib import Path
from envol.pipeline import Lease
from envol.storage import Store
from servers import place
counter = Path(sys.argv[2])
with Store(place(Path(sys.argv[1]), "project")) as store:
    for _ in range(10):
        with Lease(store.metadata, "work", "busy").held(wait=True):
            counter.write_text(str(int(counter.read_text()) + 1))
"""


@pytest.fixture
def metadata(tmp_path: Path, storage: str) -> Iterator[Metadata]:
    with Store(place(tmp_path, "project")) as store:
        yield store.metadata


def lease(metadata: Metadata, patience: float = 10.0) -> Lease:
    return Lease(metadata, "work", "somebody is at work", patience=patience)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_second_holder_is_refused_and_told_who_has_it(metadata: Metadata) -> None:
    with lease(metadata).held():
        assert holder(metadata, "work")["pid"] == os.getpid()
        with pytest.raises(BusyError, match=f"somebody is at work.*process {os.getpid()}"):
            with lease(metadata).held():
                pass
    assert holder(metadata, "work") is None
    with lease(metadata).held():
        pass


def test_a_killed_holder_frees_it_at_once(metadata: Metadata, tmp_path: Path) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    assert holder(metadata, "work") is None
    with lease(metadata, patience=3600).held():
        pass


def test_those_who_hold_it_for_a_moment_are_waited_for(metadata: Metadata) -> None:
    began, count = threading.Event(), 6

    def hold_in_turn() -> None:
        for _ in range(count):
            with lease(metadata).held():
                began.set()
                time.sleep(0.2)

    others = threading.Thread(target=hold_in_turn)
    others.start()
    began.wait()
    try:
        with lease(metadata).held():
            pass
    finally:
        others.join()
    with metadata.connect() as connection:
        assert connection.execute(select(tables.lease.c.token)).scalar_one() == count + 1


def test_another_process_that_got_the_id_of_a_dead_holder_is_not_taken_for_it(
    metadata: Metadata, tmp_path: Path
) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    with metadata.begin() as connection:
        connection.execute(update(tables.lease).values(pid=os.getpid()))
    assert holder(metadata, "work") is None
    with lease(metadata, patience=3600).held():
        pass


def test_a_holder_that_sleeps_is_replaced_and_cannot_write_any_more(
    metadata: Metadata, tmp_path: Path
) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGSTOP)
    try:
        with lease(metadata, patience=2.0).held(wait=True) as taken:
            taken.confirm()
            assert holder(metadata, "work")["pid"] == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_a_lease_that_was_taken_over_is_told(metadata: Metadata) -> None:
    told = threading.Event()
    held = lease(metadata)
    held.on_lost = told.set
    with held.held():
        with metadata.begin() as connection:
            connection.execute(update(tables.lease).values(token=tables.lease.c.token + 1))
        assert told.wait(30)
        with pytest.raises(LeaseLostError, match="another process has taken over"):
            held.confirm()
    with metadata.connect() as connection:  # the end of the block leaves the new holder's lease alone
        assert connection.execute(select(tables.lease.c.held)).scalar()


def test_clocks_do_not_matter(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease(metadata).held():
        with metadata.begin() as connection:
            connection.execute(update(tables.lease).values(machine="another", since=time.time() + 1e6))
        with pytest.raises(BusyError, match="on "):
            with lease(metadata, patience=3600).held():
                pass


def test_waiting_ends_when_it_is_told_to(metadata: Metadata) -> None:
    stop = threading.Event()
    with lease(metadata).held():
        threading.Timer(0.5, stop.set).start()
        with pytest.raises(BusyError):
            with lease(metadata).held(wait=True, stop=stop):
                pass


def test_processes_take_turns(metadata: Metadata, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start(COUNTER, tmp_path, counter) for _ in range(4)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0, 0]
    assert counter.read_text() == "40"
    with metadata.connect() as connection:
        assert connection.execute(select(func.max(tables.lease.c.token))).scalar() == 40
