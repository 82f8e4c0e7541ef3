"""How a run is shown while it goes on: bars on a terminal, now and then a line in a log."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from envol.cli.output import NARROW, console, count, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from envol.errors import EnvolError
    from envol.pipeline import Plan, Task

TICK_SECONDS = 0.2
LINE_SECONDS = 5.0
MANY_FAILURES = 10
LAST_FEW = 2


@dataclass
class NodeState:
    """How far one node is."""

    planned: int
    ended: int = 0
    rows: int = 0
    failed: int = 0


@dataclass
class State:
    """How far the run is."""

    nodes: dict[str, NodeState]
    began: float
    latest: str = ""

    @property
    def planned(self) -> int:
        return sum(node.planned for node in self.nodes.values())

    @property
    def ended(self) -> int:
        return sum(node.ended for node in self.nodes.values())

    @property
    def rows(self) -> int:
        return sum(node.rows for node in self.nodes.values())

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def remaining(self) -> float | None:
        """Seconds left if the rest goes as what is done; None where that says nothing.

        It says nothing at the start, nor of the last few tasks: often a training waits for all others.
        """
        ended = self.ended
        if self.elapsed < 2 or not ended or self.planned - ended <= LAST_FEW:
            return None
        return self.elapsed / ended * (self.planned - ended)


class View(Protocol):
    """Shows a state; called by one thread."""

    def begin(self, state: State) -> None: ...

    def line(self, text: str) -> None: ...

    def show(self, state: State) -> None: ...

    def end(self, state: State) -> None: ...


class Reporter:
    """Observes a run and prints from a thread of its own.

    So a slow terminal does not hold the run up, a note from a signal handler cannot meet a print half done,
    and a reader that goes away ends the display, not the run. What Envol itself warns of meanwhile, such as a
    server that it waits for, is shown as well.
    """

    def __init__(self, stream: TextIO) -> None:
        self._view: View = Bars(stream) if stream.isatty() else Lines(stream)
        self._lines: deque[str] = deque()
        self._state: State | None = None
        self._over = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._print, name="progress", daemon=True)
        self._warnings = _Warnings(self.note)
        logging.getLogger("envol").addHandler(self._warnings)

    def started(self, run: str, plan: Plan) -> None:
        nodes = {name: NodeState(len(node.planned)) for name, node in plan.nodes.items() if len(node.planned)}
        self._state = State(nodes, time.monotonic())
        tasks = sum(node.planned for node in nodes.values())
        self._lines.append(f"run {run}: {count(tasks, 'task')} of {count(len(nodes), 'node')}")
        self._thread.start()

    def finished(self, task: Task, label: str, state: str, rows: int, error: EnvolError | None) -> None:
        assert self._state is not None
        node = self._state.nodes[task.node]
        node.ended += 1
        node.rows += rows
        self._state.latest = f"{task.node} {label}"
        if error is not None:
            node.failed += 1
            self._failures += 1
            if self._failures <= MANY_FAILURES:
                self._lines.append(f"failed: {str(error).splitlines()[0]}")
            elif self._failures == MANY_FAILURES + 1:
                self._lines.append("failed: more; the end of the run counts them")

    def note(self, text: str) -> None:
        self._lines.append(text)

    def close(self) -> None:
        """Show the last state and end."""
        logging.getLogger("envol").removeHandler(self._warnings)
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _print(self) -> None:
        state = self._state
        assert state is not None
        try:
            self._view.begin(state)
            while True:
                over = self._over.wait(TICK_SECONDS)
                while self._lines:
                    self._view.line(self._lines.popleft())
                if over:
                    self._view.end(state)
                    return
                self._view.show(state)
        except (OSError, ValueError):
            return  # nobody reads any more: the run goes on


class _Warnings(logging.Handler):
    """Hands on what is logged as a warning or worse."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


class Lines:
    """For a log: no control characters, a line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = 0.0

    def begin(self, state: State) -> None:
        self._next = LINE_SECONDS

    def line(self, text: str) -> None:
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        self._stream.write(f"{time.strftime('%H:%M:%S')}  {shown}\n")
        self._stream.flush()

    def show(self, state: State) -> None:
        if state.elapsed < self._next:
            return
        self._next = state.elapsed + LINE_SECONDS
        remaining = state.remaining()
        left = "" if remaining is None else f", about {duration(remaining)} left"
        latest = f" ({state.latest})" if state.latest else ""
        self.line(
            f"{state.ended:,} of {state.planned:,} tasks, {count(state.rows, 'row')}, "
            f"{duration(state.elapsed)}{left}{latest}"
        )

    def end(self, state: State) -> None:
        pass


class Bars:
    """For a terminal: a bar for each node, and one for the whole run."""

    def __init__(self, stream: TextIO) -> None:
        self._console = console(stream)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._total: TaskID | None = None

    def begin(self, state: State) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        narrow = self._console.width < NARROW
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=3)),
            BarColumn(bar_width=None if narrow else 40, table_column=Column(ratio=2, min_width=8)),
            TextColumn("{task.fields[done]}", justify="right", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[told]}", justify="right", table_column=Column(no_wrap=True)),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=narrow,
        )
        for name, node in state.nodes.items():
            self._bars[name] = self._progress.add_task(name, total=node.planned, done="", told="")
        if len(self._bars) > 1:
            self._total = self._progress.add_task("all", total=state.planned, done="", told="")
        self.show(state)
        self._progress.start()

    def line(self, text: str) -> None:
        assert self._progress is not None
        self._progress.console.print(text)

    def show(self, state: State) -> None:
        assert self._progress is not None
        crowded = len(self._bars) + 4 > self._console.height
        for name, node in state.nodes.items():
            self._progress.update(
                self._bars[name],
                completed=node.ended,
                done=f"{node.ended:,}/{node.planned:,}",
                told=_told(node),
                visible=not crowded or 0 < node.ended < node.planned,
            )
        if self._total is not None:
            remaining = state.remaining()
            left = (
                "" if remaining is None or state.ended == state.planned else f", {duration(remaining)} left"
            )
            self._progress.update(
                self._total,
                completed=state.ended,
                done=f"{state.ended:,}/{state.planned:,}",
                told=f"{duration(round(state.elapsed, 1))}{left}",
            )
        self._progress.refresh()

    def end(self, state: State) -> None:
        self.show(state)
        assert self._progress is not None
        self._progress.stop()


def _told(node: NodeState) -> str:
    if node.failed:
        return f"{node.failed:,} failed"
    return count(node.rows, "row") if node.rows else ""
