"""A run: carries a plan out, independent tasks side by side, and records each as it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from envol.errors import EnvolError, Failure, StorageError, UserError
from envol.pipeline.lock import run_lock
from envol.pipeline.logs import divided_output, shortened, task_log
from envol.pipeline.order import Order
from envol.pipeline.plan import Plan, Task, make_plan
from envol.pipeline.records import Made, Records, TaskRecord
from envol.project.nodes import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from envol.pipeline.work import Worker
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


@dataclass
class _Outcome:
    task: Task
    state: str
    attempts: int = 0
    started_at: float = 0.0
    seconds: float = 0.0
    made: Made | None = None
    lineage: Mapping[str, Any] | None = None
    error: EnvolError | None = None
    log: str = ""


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
        self._slots = threading.Semaphore(self._workers)
        self._stop = threading.Event()
        self._order = Order(plan)
        self._result = RunResult(None, "running")
        self._broken: StorageError | None = None

    def carry_out(self) -> RunResult:
        from envol.pipeline.work import Worker
        from envol.registry import Registry

        began = time.monotonic()
        registry = Registry(self._store, self._clock)
        run_id = self._records.start_run(len(self._plan), self._clock.now())
        self._result.run = run_id
        worker = Worker(self._project, self._store, registry, self._plan, run_id, self._note, self._slots)
        if self._observer:
            self._observer.started(run_id, self._plan)
        with self._interruptible(), divided_output():
            self._work_off(worker)
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

    def _work_off(self, worker: Worker) -> None:
        running: dict[Future[_Outcome | None], Task] = {}
        in_flight = self._workers * IN_FLIGHT
        with ThreadPoolExecutor(in_flight, thread_name_prefix="task") as pool:
            while True:
                while len(running) < in_flight and not self._stopping:
                    # One training at a time: two would fight for the same cores (see docs/decisions).
                    training = any(self._is_training(task) for task in running.values())
                    task = self._order.take(training=not training)
                    if task is None:
                        break
                    running[pool.submit(self._attempt, worker, task)] = task
                if not running:
                    return
                # The short timeout lets the main thread see signals on every platform.
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    del running[future]
                    outcome = future.result()
                    if outcome is not None:
                        self._settle(outcome)

    @property
    def _stopping(self) -> bool:
        return self._stop.is_set() or self._broken is not None

    def _is_training(self, task: Task) -> bool:
        return isinstance(self._plan.nodes[task.node].node, Model)

    def _attempt(self, worker: Worker, task: Task) -> _Outcome | None:
        """Carry one task out when there is a slot; None when the run stops before."""
        with self._slots:
            return None if self._stopping else self._carry_out(worker, task)

    def _carry_out(self, worker: Worker, task: Task) -> _Outcome:
        """Carry one task out, again after a failure as often as its node says."""
        from envol.pipeline.work import NotYet

        node = self._plan.nodes[task.node]
        inputs = self._plan.inputs_hash(self._plan.input_slots(node.node, task.index))
        outcome = _Outcome(task, "failed", started_at=time.time())
        if inputs is None:
            outcome.state = "skipped"
            return outcome
        if self._is_unchanged(task, inputs):
            outcome.state = "unchanged"
            return outcome
        began = time.monotonic()
        with task_log() as log:
            for attempt in range(1, node.node.retries + 2):
                outcome.attempts = attempt
                try:
                    done = worker.carry_out(task, inputs)
                    outcome.made, outcome.lineage, outcome.error = done.made, done.lineage, None
                    outcome.state = "done"
                    break
                except NotYet as reason:
                    print(f"not yet: {reason}")
                    outcome.state = "skipped"
                    break
                except Exception as error:
                    traceback.print_exception(error)
                    outcome.error = _as_envol_error(error, task.node, self._plan.label(task))
                    final = isinstance(outcome.error, UserError | StorageError)
                    if final or self._stop.is_set() or attempt > node.node.retries:
                        break
                    self._stop.wait(node.node.backoff * 2 ** (attempt - 1))
            outcome.seconds = time.monotonic() - began
            outcome.log = shortened(log)
        return outcome

    def _is_unchanged(self, task: Task, inputs: str) -> bool:
        """Whether an input that was made again came out as before."""
        node = self._plan.nodes[task.node]
        made = node.made[task.index]
        same = made is not None and made.inputs == inputs
        return same and str(task.reason) == "inputs changed"

    def _settle(self, outcome: _Outcome) -> None:
        """Record how a task ended, and pass on what follows from it."""
        task, result = outcome.task, self._result
        lost: list[Task] = []
        try:
            if outcome.state != "unchanged":
                self._records.end_task(result.run or "", self._record(outcome), outcome.made, outcome.lineage)
        except StorageError as error:
            outcome.state, outcome.error = "failed", error
        if outcome.state in ("done", "unchanged"):
            if outcome.made is not None:
                self._plan.nodes[task.node].made[task.index] = outcome.made
                result.rows += outcome.made.rows
            self._order.finished(task)
        else:
            lost = self._order.fell_through(task)
        if outcome.error is not None:
            result.failures.append(outcome.error)
        if isinstance(outcome.error, StorageError):
            self._broken = self._broken or outcome.error
        setattr(result, outcome.state, getattr(result, outcome.state) + 1)
        result.skipped += len(lost)
        if self._observer:
            rows = outcome.made.rows if outcome.made else 0
            self._observer.finished(task, self._plan.label(task), outcome.state, rows, outcome.error)
            for one in lost:
                self._observer.finished(one, self._plan.label(one), "skipped", 0, None)

    def _record(self, outcome: _Outcome) -> TaskRecord:
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


def _as_envol_error(error: Exception, node: str, window: str) -> EnvolError:
    if isinstance(error, EnvolError):
        return error.located(node=node, window=window)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(
        f"{type(error).__name__} at {frame.filename}:{frame.lineno}: {error}",
        node=node,
        window=window,
        remedy="look at the task's log: envol runs --log",
    )
