"""One run of the conductor, in a process of its own: the project is loaded anew, planned and carried out.

`python -m envol.pipeline.conducting.conductor_run ROOT EVENTS`: the first line of standard input is the order
as JSON; when standard input ends, so does the process. Events go as JSON lines to the descriptor EVENTS, the
last of them is the result.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from envol.errors import BusyError, EnvolError, UserError
from envol.family import end_with, take_line
from envol.pipeline.amend import hold_back, leave_stale, newest_cutoff, with_training
from envol.pipeline.backfill import carry_on
from envol.pipeline.conducting.control import Asked, Control
from envol.pipeline.due import next_of_all
from envol.pipeline.plan import Plan, Task, make_plan
from envol.pipeline.records import Records
from envol.pipeline.results import RunResult
from envol.pipeline.running import carry_out
from envol.project import Project, load_project
from envol.project.clock import Clock, the_clock
from envol.project.nodes import Model
from envol.storage import PATIENCE, Store, tables

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLD_FAILURES = 10
PROGRESS_SECONDS = 30.0


class Events:
    """Writes events for the conductor; threads share it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def tell(self, event: str, message: str = "", level: int = logging.INFO, **fields: Any) -> None:
        """Send one event."""
        line = json.dumps({"event": event, "message": message, "level": level, "fields": fields}, default=str)
        data = line.encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Observing:
    """Tells how the run goes: its begin, its progress now and then, the first failures."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._run, self._planned = "", 0
        self._ended: Counter[str] = Counter()
        self._rows = 0
        self._told = time.monotonic()

    def started(self, run: str, plan: Plan) -> None:
        """The run has begun."""
        nodes = {name: len(node.planned) for name, node in plan.nodes.items() if len(node.planned)}
        self._run, self._planned = run, sum(nodes.values())
        listed = ", ".join(f"{name} {number:,}" for name, number in nodes.items())
        told = f"run {run} begins: {_count(self._planned, 'task')} ({listed})"
        self._events.tell("run started", told, run=run, planned=self._planned, nodes=nodes)

    def finished(self, task: Task, label: str, state: str, rows: int, error: EnvolError | None) -> None:
        """A task has ended."""
        self._ended[state] += 1
        self._rows += rows
        if error is not None and self._ended["failed"] <= TOLD_FAILURES:
            fields = {"run": self._run, "node": task.node, "window": label, "error": error.message}
            self._events.tell("task failed", str(error), logging.ERROR, **fields)
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            done = f"{self._ended.total():,} of {self._planned:,} tasks, {_count(self._rows, 'row')}"
            self._events.tell("progress", f"{done} ({task.node} {label})", run=self._run)

    def note(self, text: str) -> None:
        """A line about long work."""
        self._events.tell("note", text, run=self._run)


class DueRun:
    """Makes what is due, but for what is held back, and trains what was asked for.

    Args:
        order: `held_back`, the windows by node that are to be left out, and `isolated`, whether every
            function is to run in a process of its own.
    """

    def __init__(
        self, project: Project, store: Store, clock: Clock, order: Mapping[str, Any], events: Events
    ) -> None:
        self._project, self._store, self._clock = project, store, clock
        self._order, self._events = order, events
        self._control = Control(store.metadata, clock)
        self._records = Records(store.metadata)
        self._asked: dict[str, tuple[Asked, int]] = {}
        self._plan: Plan | None = None

    def carry_out(self, stop: threading.Event) -> dict[str, Any]:
        """Plan and run; returns the result as the conductor is told it."""
        observer = Observing(self._events)
        result = carry_out(
            self._project,
            self._store,
            self._clock,
            self._planned,
            kind="due",
            observer=observer,
            stop=stop,
            isolate_all=self._order["isolated"],
        )
        assert self._plan is not None
        self._fulfil(self._plan)
        following = next_of_all(self._project, self._plan)
        told = _described(self._store, result)
        if following is not None:
            node, window = following
            told["next"] = {"node": node, "window": window.key, "at": window.at.timestamp()}
        return told

    def _planned(self) -> Plan:
        plan = make_plan(self._project, self._store, self._clock)
        if self._project.config.conductor.stale == "wait" and (left := leave_stale(plan)):
            self._note(
                f"{left:,} windows are stale and left as they are: envol accept keeps them, envol run"
                " makes them again"
            )
        for model, asked in self._control.wishes().retrain.items():
            plan = self._with_wish(plan, model, asked)
        hold_back(plan, self._order["held_back"], self._records.promoted_cutoffs())
        self._plan = plan
        return plan

    def _with_wish(self, plan: Plan, model: str, asked: Asked) -> Plan:
        current = plan.nodes.get(model)
        if current is None or not isinstance(current.node, Model):
            self._note(f"{model} was to be trained again (by {asked.by}), but is no model of the project")
            self._control.retrained(model, asked)
            return plan
        cutoff = newest_cutoff(plan, current.node)
        recorded = self._records.made([model])[model]
        trained = recorded[(recorded["start"] == cutoff)]
        if (trained["definition"] == current.definition_id).any():
            self._note(f"{model} is trained on the newest data already (wanted by {asked.by})")
            self._control.retrained(model, asked)
            return plan
        extended = with_training(self._project, plan, model)
        if extended is None:
            self._note(f"there are too few data to train {model} (wanted by {asked.by})")
            return plan
        self._asked[model] = asked, cutoff
        return extended

    def _fulfil(self, plan: Plan) -> None:
        for model, (asked, cutoff) in self._asked.items():
            node = plan.nodes[model]
            if node.made[node.slots.keys == cutoff].any():
                self._control.retrained(model, asked)

    def _note(self, text: str) -> None:
        self._events.tell("note", text)


def _described(store: Store, result: RunResult) -> dict[str, Any]:
    told: dict[str, Any] = {"state": result.state, "run": result.run, **result.counts()}
    told |= {"unchanged": result.unchanged, "rows": result.rows, "seconds": round(result.seconds, 3)}
    told |= {"cancelled_by": result.cancelled_by, "failures": {}}
    task = tables.task.c
    query = select(task.node, task.window_start).where(task.run == result.run, task.state == "failed")
    if result.failed:
        for node, start in store.metadata.read(lambda connection: connection.execute(query).all()):
            told["failures"].setdefault(node, []).append(start)
    return told


def _carry_out(root: Path, order: Mapping[str, Any], events: Events, stop: threading.Event) -> dict[str, Any]:
    try:
        project = load_project(root)
        project.definitions, project.resources  # noqa: B018 - everything that is declared
    except UserError as error:
        return {"state": "broken", "error": str(error)}
    if stop.is_set():
        return {"state": "stopped"}
    clock = the_clock()
    try:
        with Store.of(project, patience=PATIENCE) as store:
            if "backfill" not in order:
                return DueRun(project, store, clock, order, events).carry_out(stop)
            result = carry_on(
                project,
                store,
                clock,
                order["backfill"],
                observer=Observing(events),
                stop=stop,
                isolate_all=order["isolated"],
            )
            return _described(store, result)
    except BusyError as error:
        return {"state": "busy", "error": str(error)}
    except EnvolError as error:
        return {"state": "error", "error": str(error)}


class _Forwarding(logging.Handler):
    """Hands what Envol's own modules log to the conductor."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.tell("log", record.getMessage(), record.levelno, logger=record.name)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def main(root: Path, descriptor: int) -> None:
    """Carry out the order on standard input."""
    faulthandler.enable()
    os.set_inheritable(descriptor, False)
    events = Events(descriptor)
    logging.getLogger("envol").addHandler(_Forwarding(events))
    logging.getLogger("envol").setLevel(logging.INFO)
    line = take_line()
    order = json.loads(line.readline())
    end_with(line)
    stop = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, interrupt)
    # In a thread, as this one is to hear signals, and a run in it would do so in its own way.
    at_work = threading.Thread(target=_work, args=[root, order, events, stop], name="run")
    at_work.start()
    at_work.join()


def _work(root: Path, order: Mapping[str, Any], events: Events, stop: threading.Event) -> None:
    try:
        result = _carry_out(root, order, events, stop)
    except Exception as error:
        told = "".join(traceback.format_exception(error)).rstrip()
        result = {"state": "error", "error": f"unexpected {type(error).__name__}\n{told}"}
    events.tell("result", **result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
