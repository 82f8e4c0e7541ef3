"""Who was only asleep while another one took over cannot write any more, whatever it was about to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from evidence import NOTED, calls, check_agreement, everything, pen, pen_held, states, until
from small_project import SmallProject

from envol.pipeline import Lease

Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")
MODULE = (
    NOTED
    + """
    @source(every="1d")
    def numbers(window: Window, gate: str = "gate") -> pl.DataFrame:
        note("numbers", window)
        wait_for(gate)
        return pl.DataFrame({"n": [window.start.day, len(gate)]})
"""
)
FIRST = "[parameters.numbers]\ngate = 'first'\n"
RUN = """
import sys
from pathlib import Path
from small_project import SmallProject
SmallProject(Path(sys.argv[1])).run("2024-01-05", workers=1)
"""


def start(small: SmallProject) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", RUN, str(small.root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def take_over(small: SmallProject) -> None:
    """Do what another machine would after a longer silence: take the lease of the run over, and end."""
    with small.store() as store, Lease(store.metadata, "run", "another run is active", patience=1.0).held():
        pass


@pytest.fixture
def sleeper(project: Make) -> Iterator[tuple[SmallProject, subprocess.Popen[str]]]:
    """A project of which two windows are made, and a run in the middle of the third, by other code."""
    small = project(MODULE, FIRST)
    (small.root / "first").touch()
    small.run("2024-01-03")
    small.write(MODULE)
    process = start(small)
    until(lambda: len(calls(small)) == 3, process.poll)
    yield small, process
    process.kill()
    process.communicate()


def check_refused(small: SmallProject, process: subprocess.Popen[str], before: dict[str, list[Any]]) -> None:
    """The stopped run goes on, is told that it was replaced, and has changed nothing."""
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "LeaseLostError" in said and "another process has taken over" in said
    assert everything(small) == before


def test_while_it_computes(sleeper: tuple[SmallProject, subprocess.Popen[str]]) -> None:
    small, process = sleeper
    process.send_signal(signal.SIGSTOP)
    take_over(small)
    small.write(MODULE, FIRST)
    assert small.run("2024-01-05").done == 2
    before = everything(small)
    (small.root / "gate").touch()
    check_refused(small, process, before)
    check_agreement(small, "numbers")
    assert states(small) == ["done", "crashed", "done"]


def test_while_it_waits_for_its_turn_to_commit(sleeper: tuple[SmallProject, subprocess.Popen[str]]) -> None:
    small, process = sleeper
    with pen_held(small):
        (small.root / "gate").touch()
        until(lambda: pen(small).awaited == 1)
        process.send_signal(signal.SIGSTOP)
        take_over(small)
    small.write(MODULE, FIRST)
    if "ENVOL_STORAGE_URL" in os.environ:
        # PostgreSQL gives it the turn, which nobody else can have while it sleeps.
        until(lambda: pen(small).held == 1)
        check_refused(small, process, everything(small))
        assert small.run("2024-01-05").done == 2
    else:
        assert small.run("2024-01-05").done == 2
        check_refused(small, process, everything(small))
    check_agreement(small, "numbers")
    assert small.table("numbers")["n"].max() == len("first")
    assert states(small) == ["done", "crashed", "done"]
