"""A project of isolated nodes that do all kinds of things to their processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import polars as pl
import pytest

from envol.errors import Failure
from envol.pipeline.isolation import Isolation
from envol.project import load_project

PATIENCE = 60
CONFIG = """
    [project]
    name = "isolated"
    start = "2024-01-01"
"""
MODULE = """
    import ctypes, os, subprocess, sys, time
    from pathlib import Path

    import polars as pl

    from envol import Window, model, source, table

    HERE = Path(__file__).parent
    kept = []

    def note(name, *values):
        part = HERE / f"{name}.part"
        part.write_text(" ".join(map(str, values)))
        part.rename(HERE / name)

    def leave_children():
        own_session = subprocess.Popen(["sleep", "600"], start_new_session=True)
        no_environment = subprocess.Popen(["sleep", "600"], env={})
        note("pids", os.getpid(), own_session.pid, no_environment.pid)

    @source(isolated=True)
    def process(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"pid": [os.getpid()], "day": [window.start.day]})

    @table(isolated=True)
    def copy(process: pl.DataFrame) -> pl.DataFrame:
        return process

    @source(isolated=True)
    def large(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"n": range(1_000_000)})

    @source(isolated=True)
    def segfault(window: Window) -> pl.DataFrame:
        print("printed", end="")
        ctypes.CDLL(None).printf(b" from C ")
        os.write(2, b"raw ")
        subprocess.run(["echo", "by a child"])
        leave_children()
        ctypes.string_at(0)

    @source(isolated=True)
    def ends(window: Window) -> pl.DataFrame:
        how = (HERE / "how").read_text()
        exec(how)

    @source(timeout=1.5)
    def hangs(window: Window) -> pl.DataFrame:
        print("here it begins")
        leave_children()
        exec((HERE / "how").read_text())

    @source(memory="200MB")
    def hog(window: Window) -> pl.DataFrame:
        taken = []
        while True:
            taken.append(bytes(range(256)) * 20_000)
            time.sleep(0.002)

    HOG = "taken = []\\nwhile True: taken.append(bytes(range(256)) * 20_000)"

    @source(memory="200MB")
    def hog_with_children(window: Window) -> pl.DataFrame:
        subprocess.run([sys.executable, "-c", HOG])

    @source(memory="200MB")
    def modest(window: Window) -> pl.DataFrame:
        taken = bytes(range(256)) * 200_000
        return pl.DataFrame({"pid": [os.getpid()]})

    @source(isolated=True)
    def leaks(window: Window) -> pl.DataFrame:
        kept.append(bytes(range(256)) * 2_000_000)
        return pl.DataFrame({"pid": [os.getpid()]})

    @source(isolated=True)
    def nothing(window: Window):
        print("looking for it")

    @source(isolated=True)
    def refuses(window: Window) -> pl.DataFrame:
        from envol.errors import DataError

        raise DataError("no rows today", remedy="come back tomorrow")

    @source(isolated=True)
    def surroundings(window: Window) -> pl.DataFrame:
        score = Path("/proc/self/oom_score_adj").read_text().strip()
        return pl.DataFrame({"score": [score], "session": [os.getsid(0)], "stdin": [sys.stdin.read()]})

    @source(isolated=True)
    def batches(window: Window):
        for number in range(6):
            note("made", number)
            yield pl.DataFrame({"number": [number] * 3})

    @source(isolated=True)
    def breaks_off(window: Window):
        yield pl.DataFrame({"number": [0]})
        raise ValueError("the second page is gone")

    class Mean:
        def __init__(self, y):
            self.mean = y.mean()

        def predict(self, X):
            return [self.mean] * len(X)

    @source(isolated=True)
    def truth(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"day": [1], "size": [1.0]})

    @model(
        features="process", labels="truth", key="day", target="size", train="4d", every="4d", folds=1,
        test="2d", isolated=True
    )
    def average(X: pl.DataFrame, y: pl.Series):
        print("fitting", len(X))
        return Mean(y)
"""


class Apart:
    """A project and the processes that its nodes are called in."""

    def __init__(self, root: Path, module: str = MODULE) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "envol.toml").write_text(dedent(CONFIG))
        (root / "pipeline.py").write_text(dedent(module))
        self.project = load_project(root)
        self.isolation = Isolation(self.project)

    def compute(self, name: str, day: int = 1, **frames: pl.DataFrame) -> Any:
        window = self.project.calendar.window_at(
            self.project.graph.period_of(name), datetime(2024, 1, day, tzinfo=UTC)
        )
        return self.isolation.compute(self.project.graph.nodes[name], frames, window)

    def pid(self) -> int:
        """Id of the process that the next task is given to."""
        return int(self.compute("process")["pid"][0])

    def failure(self, name: str) -> Failure:
        with pytest.raises(Failure) as caught:
            self.compute(name)
        return caught.value

    def how(self, code: str) -> None:
        """What `ends` and `hangs` do."""
        (self.root / "how").write_text(code)


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie without a thread that still runs."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and int(others[16]) <= 1


def noted_pids(root: Path) -> list[int]:
    wait_until((root / "pids").exists)
    return [int(pid) for pid in (root / "pids").read_text().split()]
