"""A run: carries a plan out, independent tasks side by side, and records each as it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from envol.errors import CorruptArtifactError, EnvolError, StorageError
from envol.pipeline.lock import run_lock
from envol.pipeline.logs import divided_output
from envol.pipeline.order import Order
from envol.pipeline.plan import Plan, Task, make_plan
from envol.pipeline.records import Records, TaskRecord
from envol.project.nodes import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envol.pipeline.attempt import Attempts, Outcome
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

INTERRUPTED = 130
IN_FLIGHT = 4
"""Tasks begun for each that computes: the others wait for the lake, which commits them together."""


class Observer(Protocol):
    """Hears how a run goes. Called from several threads, one at a time."""

    def started(self, run: str, plan: Plan) -> None: ...

    def finished(self, task: Task, label: str, state: str, rows: int, error: EnvolError | None) -> None:
        """A task ended as "done", "unchanged", "failed" or "skipped"."""

    def note(self, text: str) -> None:
        """A line about long work."""


@dataclass
class RunResult:
    """How a run ended; `state` is "done", "failed" or "cancelled", or "nothing" when nothing was due."""

    run: str | None
    state: str
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    seconds: float = 0.0
    failures: list[EnvolError] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {"done": self.done, "failed": self.failed, "skipped": self.skipped}


def run(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    nodes: Iterable[str] | None = None,
    rerun: bool = False,
    workers: int | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Plan, then make everything that is planned.

    A task that fails is tried again as its node says; what reads it is skipped, everything else goes on.

    Args:
        nodes: only these nodes and what they are made from.
        rerun: make the windows of the named nodes again although nothing changed.
        workers: tasks side by side; the project's `[run] workers`, or one a core.

    Raises:
        BusyError: another run is active on the project.
        StorageError: the disk is full or cannot be written; what was committed before is kept.
        UserError: the project is declared wrongly.
    """
    project.graph  # noqa: B018 - faults of the declaration come before the lock
    with run_lock(store.path):
        plan = make_plan(project, store, clock, nodes=nodes, rerun=rerun)
        if not len(plan):
            return RunResult(None, "nothing")
        return _Run(project, store, clock, plan, workers, observer).carry_out()


class _Run:
    def __init__(
        self,
        project: Project,
        store: Store,
        clock: Clock,
        plan: Plan,
        workers: int | None,
        observer: Observer | None,
    ) -> None:
        self._project, self._store, self._clock, self._plan = project, store, clock, plan
        self._workers = workers or project.config.run.workers or os.cpu_count() or 1
        self._observer = observer
        self._records = Records(store.metadata)
        self._stop = threading.Event()
        self._telling = threading.RLock()  # again by a signal that comes while it is held
        self._order = Order(plan)
        self._result = RunResult(None, "running")
        self._broken: StorageError | None = None

    def carry_out(self) -> RunResult:
        from envol.pipeline.attempt import Attempts
        from envol.pipeline.work import Worker
        from envol.registry import Registry

        began = time.monotonic()
        registry = Registry(self._store, self._clock)
        run_id = self._records.start_run(len(self._plan), self._clock.now())
        self._result.run = run_id
        slots = threading.Semaphore(self._workers)
        worker = Worker(self._project, self._store, registry, self._plan, run_id, self._note, slots)
        if self._observer:
            self._observer.started(run_id, self._plan)
        with self._interruptible(), divided_output():
            self._work_off(Attempts(self._plan, worker, slots, self._stop))
        result = self._result
        result.seconds = time.monotonic() - began
        if self._broken:
            result.state = "failed"
        elif self._stop.is_set():
            result.state = "cancelled"
        else:
            result.state = "failed" if result.failed else "done"
        try:
            self._records.end_run(run_id, result.state, result.counts(), self._clock.now())
        except StorageError as error:
            raise self._broken or error from None
        if self._broken:
            raise self._broken
        return result

    def _work_off(self, attempts: Attempts) -> None:
        running: dict[Future[Outcome | None], Task] = {}
        in_flight = self._workers * IN_FLIGHT
        with ThreadPoolExecutor(in_flight, thread_name_prefix="task") as pool:
            while True:
                while len(running) < in_flight and not self._stop.is_set():
                    # One training at a time: two would fight for the same cores (see docs/decisions).
                    training = any(self._is_training(task) for task in running.values())
                    task = self._order.take(training=not training)
                    if task is None:
                        break
                    running[pool.submit(attempts.carry_out, task)] = task
                if not running:
                    return
                # The short timeout lets the main thread see signals on every platform.
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    del running[future]
                    outcome = future.result()
                    if outcome is not None:
                        self._settle(outcome)

    def _is_training(self, task: Task) -> bool:
        return isinstance(self._plan.nodes[task.node].node, Model)

    def _settle(self, outcome: Outcome) -> None:
        """Record how a task ended, and pass on what follows from it."""
        task, result = outcome.task, self._result
        lost: list[Task] = []
        try:
            if outcome.state != "unchanged":
                self._records.end_task(result.run or "", self._record(outcome), outcome.made, outcome.lineage)
        except StorageError as error:
            outcome.state = "failed"
            outcome.error = error.located(node=task.node, window=self._plan.label(task))
        if outcome.state in ("done", "unchanged"):
            if outcome.made is not None:
                self._plan.nodes[task.node].made[task.index] = outcome.made
                result.rows += outcome.made.rows
            self._order.finished(task)
        else:
            lost = self._order.fell_through(task)
        if outcome.error is not None:
            result.failures.append(outcome.error)
        damaged = isinstance(outcome.error, CorruptArtifactError)  # of one model only
        if isinstance(outcome.error, StorageError) and not damaged:  # the next task would fail alike
            self._broken = self._broken or outcome.error
            self._stop.set()
        setattr(result, outcome.state, getattr(result, outcome.state) + 1)
        result.skipped += len(lost)
        if self._observer:
            rows = outcome.made.rows if outcome.made else 0
            with self._telling:
                self._observer.finished(task, self._plan.label(task), outcome.state, rows, outcome.error)
                for one in lost:
                    self._observer.finished(one, self._plan.label(one), "skipped", 0, None)

    def _record(self, outcome: Outcome) -> TaskRecord:
        slots = self._plan.nodes[outcome.task.node].slots
        return TaskRecord(
            node=outcome.task.node,
            start=slots.keys[outcome.task.index],
            end=slots.ends[outcome.task.index],
            state=outcome.state,
            attempts=outcome.attempts,
            started_at=outcome.started_at,
            seconds=outcome.seconds,
            rows=outcome.made.rows if outcome.made else None,
            error=str(outcome.error) if outcome.error else None,
            log=outcome.log,
        )

    def _note(self, text: str) -> None:
        print(text)  # into the task's log
        if self._observer:
            with self._telling:
                self._observer.note(text)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) lets running tasks end, the second ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, _frame: FrameType | None) -> None:
            if self._stop.is_set():
                os._exit(INTERRUPTED)
            self._stop.set()
            if self._observer:
                self._observer.note("stopping once the running tasks have ended; again to stop at once")

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
