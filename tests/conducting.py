"""Real conductors on small projects: processes that go by a clock which the test sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_project import SmallProject
from sqlalchemy import select

from envol.pipeline import Control
from envol.project.clock import CLOCK, FileClock
from envol.storage import Store, tables

PATIENCE = 120
HOURS = """
    import time
    from pathlib import Path

    HERE = Path(__file__).parent

    def did(node: str, window: Window) -> int:
        with (HERE / "did.txt").open("a") as file:
            line = f"{node} {window.start:%d %H}\\n"
            file.write(line)
            file.flush()
            return file.tell() // len(line) - 1  # how many calls there were before

    @source(every="1h")
    def hours(window: Window) -> pl.DataFrame:
        did("hours", window)
        return pl.DataFrame({"hour": [window.start.hour]})
"""


def until(what: Callable[[], Any], told: Callable[[], str] = str) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
    return found


class Conducted:
    """A project that conductors keep up to date, and the clock that they go by."""

    def __init__(self, project: SmallProject, now: str) -> None:
        self.project = project
        self.root = project.root
        self._clock = self.root.parent / f"{self.root.name}.clock"
        self.set_clock(now)
        self._started: list[Conductor] = []

    def set_clock(self, now: str) -> None:
        """It is that hour of January 2024 now: "02 05" or "02 05:30"."""
        day, hour = now.split()
        draft = self._clock.with_suffix(".draft")
        draft.write_text(f"2024-01-{day}T{hour if ':' in hour else hour + ':00'}:00+00:00")
        draft.replace(self._clock)

    def start(self) -> Conductor:
        """One more conductor."""
        conductor = Conductor(self.root, self.environment)
        self._started.append(conductor)
        return conductor

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, CLOCK: str(self._clock)}

    def kill_all(self) -> None:
        for conductor in self._started:
            conductor.kill()

    def did(self, node: str = "hours") -> list[str]:
        """The windows that a node's function was called for, as "day hour", in the order of the calls."""
        file = self.root / "did.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(f"{node} ") for line in lines if line.startswith(f"{node} ")]

    def open(self, gate: str) -> None:
        """Make the file that functions of the project wait for."""
        (self.root / gate).touch()

    @property
    def clock(self) -> FileClock:
        """The clock that all go by."""
        return FileClock(self._clock)

    def store(self) -> Store:
        """The project's store."""
        return self.project.store()

    def control(self, store: Store) -> Control:
        """What one asks of the conductor."""
        return Control(store.metadata, self.clock)

    def rows(self, query: Any) -> list[Any]:
        with self.store() as store:
            return list(store.metadata.read(lambda connection: connection.execute(query).all()))

    def made(self, node: str = "hours") -> int:
        """How many windows of a node are recorded as made."""
        made = tables.materialization.c
        return len(self.rows(select(made.window_start).where(made.node == node)))

    def times_done(self) -> Counter[tuple[str, int]]:
        """How often each window was recorded as done, over all runs."""
        task = tables.task.c
        return Counter(
            (node, start)
            for node, start in self.rows(select(task.node, task.window_start).where(task.state == "done"))
        )

    def states(self) -> list[str]:
        """How the runs ended, the oldest first."""
        run = tables.run.c
        return [state for (state,) in self.rows(select(run.state).order_by(run.started_at, run.id))]


class Lines:
    """A process that logs lines of JSON, and what it has logged."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.lines: list[dict[str, Any]] = []
        self._heard = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def hears(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for the next line of an event with these fields; lines before it count as heard."""

        def look() -> dict[str, Any] | None:
            while self._heard < len(self.lines):
                line = self.lines[self._heard]
                self._heard += 1
                if line["event"] == event and all(line.get(name) == one for name, one in fields.items()):
                    return line
            assert self._process.poll() is None or self._reader.is_alive(), self.told()
            return None

        found: dict[str, Any] = until(look, self.told)
        return found

    def has_said(self, event: str) -> bool:
        """Whether there was a line of this event."""
        return any(line["event"] == event for line in list(self.lines))

    def told(self) -> str:
        """All that it said."""
        return "\n".join(map(str, self.lines))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """End it by SIGTERM; returns the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(json.loads(line))


class Conductor(Lines):
    """`envol conductor` as a process."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        super().__init__(envol("conductor", "--project", str(root), environment=environment))


def envol(*words: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """`envol WORDS --log json` as a process."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "envol.cli", *words, "--log", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
