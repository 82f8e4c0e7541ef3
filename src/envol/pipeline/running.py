"""A run: carries a plan out, independent tasks side by side, and records each as it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from envol.errors import CorruptArtifactError, EnvolError, StorageError
from envol.pipeline.cancelling import Cancelling
from envol.pipeline.lease import Lease, LeaseLostError, run_lease
from envol.pipeline.limits import Limits
from envol.pipeline.logs import divided_output
from envol.pipeline.order import Order
from envol.pipeline.plan import Plan, Task, make_plan
from envol.pipeline.quarantine.settling import settle
from envol.pipeline.records import Records, TaskRecord
from envol.pipeline.results import Observer, RunResult
from envol.pipeline.source_control import Revision, revision_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from envol.pipeline.attempt import Attempts, Outcome
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

INTERRUPTED = 130
IN_FLIGHT = 4
"""Tasks begun for each that computes: the others wait for the lake, which commits them together."""


def run(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    nodes: Iterable[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    rerun: bool = False,
    workers: int | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Plan, then make everything that is planned.

    A task that fails is tried again as its node says; what reads it is skipped, everything else goes on.

    Args:
        nodes: only these nodes and what they are made from.
        start, end: only their windows inside [start, end), and what these are made from.
        rerun: make these windows of the named nodes again although nothing changed.
        workers: tasks side by side; the project's `[run] workers`, or one a core.

    Raises:
        BusyError: another run is active on the project.
        StorageError: the disk is full or cannot be written; what was committed before is kept.
        LeaseLostError: this process was silent for so long that another one took over.
        UserError: the project is declared wrongly.
    """

    def plan() -> Plan:
        return make_plan(project, store, clock, nodes=nodes, start=start, end=end, rerun=rerun)

    return carry_out(project, store, clock, plan, workers=workers, observer=observer)


def carry_out(
    project: Project,
    store: Store,
    clock: Clock,
    plan: Callable[[], Plan],
    *,
    kind: str = "run",
    backfill: str | None = None,
    newest_first: bool = False,
    workers: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
    isolate_all: bool = False,
) -> RunResult:
    """Make everything that a plan holds, as the only run on the project.

    Args:
        plan: makes the plan once the run has the project for itself.
        kind: "run" when somebody asked for it, "due" when time did, "backfill".
        backfill: id of the backfill whose windows are made.
        newest_first: begin with the newest windows.
        stop: once set, running tasks end and no other begins.
        isolate_all: carry out every task in a process of its own, after one has brought down a run.

    Raises:
        As `run`.
    """
    project.graph, project.resources  # noqa: B018 - faults of the declaration come before the lease
    if stop is None:
        stop = threading.Event()
    cancelled = Cancelling()
    lease = run_lease(store.metadata, cancelled.look)
    with lease.held():
        settle(project, store, clock, lease)
        made = plan()
        if not len(made):
            return RunResult(None, "nothing")
        order = Order(made, newest_first=newest_first)
        one = _Run(project, store, clock, made, order, lease, workers, observer, stop)
        cancelled.stop = lease.on_lost = one.stop
        result = one.carry_out(kind, backfill, cancelled, isolate_all=isolate_all)
    if not stop.is_set():
        from envol.pipeline.retention import collect_daily

        collect_daily(project, store, clock)
    return result


class _Run:
    def __init__(
        self,
        project: Project,
        store: Store,
        clock: Clock,
        plan: Plan,
        order: Order,
        lease: Lease,
        workers: int | None,
        observer: Observer | None,
        stop: threading.Event,
    ) -> None:
        self._project, self._store, self._clock = project, store, clock
        self._plan, self._order, self._lease = plan, order, lease
        self._workers = workers or project.config.run.workers or os.cpu_count() or 1
        self._observer = observer
        self._records = Records(store.metadata, lease.check)
        self._stop = stop
        self._telling = threading.RLock()  # again by a signal that comes while it is held
        self._limits = Limits(project.resources)
        self._result = RunResult(None, "running")
        self._backfill: str | None = None
        self._began = clock.now()
        self._broken: EnvolError | None = None

    def stop(self) -> None:
        """Let running tasks end, and begin no other."""
        self._stop.set()

    def carry_out(
        self, kind: str, backfill: str | None, cancelled: Cancelling, *, isolate_all: bool
    ) -> RunResult:
        from envol.pipeline.attempt import Attempts
        from envol.pipeline.isolation import Isolation
        from envol.pipeline.work import Worker
        from envol.registry import Registry

        began = time.monotonic()
        self._backfill = backfill
        revision = revision_of(self._project.root)
        planned = len(self._plan)
        run_id = self._records.start_run(kind, planned, revision, self._began, backfill=backfill)
        self._result.run = cancelled.run = run_id
        slots = threading.Semaphore(self._workers)
        definitions = self._define(revision)
        if self._observer:
            self._observer.started(run_id, self._plan)
        with self._interruptible(), divided_output(), Isolation(self._project) as isolation:
            worker = Worker(
                self._project,
                self._store,
                Registry(self._store, self._clock),
                self._plan,
                run_id,
                self._lease,
                isolation,
                definitions,
                self._note,
                isolate_all=isolate_all,
            )
            self._work_off(Attempts(self._plan, worker, slots, self._stop))
        result = self._result
        result.cancelled_by = cancelled.by
        result.seconds = time.monotonic() - began
        if self._broken:
            result.state = "failed"
        elif self._stop.is_set():
            result.state = "cancelled"
        else:
            result.state = "failed" if result.failed else "done"
        try:
            self._records.end_run(run_id, result.state, result.counts(), self._now())
        except (StorageError, LeaseLostError) as error:
            raise self._broken or error from None
        if self._broken:
            raise self._broken
        return result

    def _define(self, revision: Revision) -> dict[str, int]:
        """Record the definitions of the planned nodes; returns their ids."""
        planned = {name: one for name, one in self._plan.nodes.items() if one.reason.any()}
        reads = {name: self._project.graph.reads(one.node) for name, one in planned.items()}
        definitions = {name: one.definition for name, one in planned.items()}
        return self._records.define(definitions, reads, revision, self._now())

    def _now(self) -> datetime:
        """The current instant; not before the run began, though the clock may have been set back since."""
        return max(self._clock.now(), self._began)

    def _work_off(self, attempts: Attempts) -> None:
        running: dict[Future[Outcome | None], Task] = {}
        in_flight = self._workers * IN_FLIGHT
        with ThreadPoolExecutor(in_flight, thread_name_prefix="task") as pool:
            while True:
                while len(running) < in_flight and not self._stop.is_set():
                    task = self._order.take(self._limits.allow)
                    self._tell_lost()
                    if task is None:
                        break
                    self._limits.begin(self._plan.nodes[task.node].node)
                    running[pool.submit(attempts.carry_out, task)] = task
                if not running:
                    return
                # The short timeout lets the main thread see signals on every platform.
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._limits.end(self._plan.nodes[running.pop(future).node].node)
                    outcome = future.result()
                    if outcome is not None:
                        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Record how a task ended, and pass on what follows from it."""
        task, result = outcome.task, self._result
        try:
            if outcome.state != "unchanged" or self._backfill:
                record, run = self._record(outcome), result.run or ""
                self._records.end_task(run, record, self._now(), outcome.made, backfill=self._backfill)
        except (StorageError, LeaseLostError) as error:
            outcome.state = "failed"
            outcome.error = error.located(node=task.node, window=self._plan.label(task))
        if outcome.state in ("done", "unchanged"):
            if outcome.made is not None:
                self._plan.nodes[task.node].record(task.index, outcome.made)
                result.rows += outcome.made.rows
            self._order.finished(task)
        else:
            self._order.fell_through(task)
        if outcome.error is not None:
            result.failures.append(outcome.error)
        damaged = isinstance(outcome.error, CorruptArtifactError)  # of one model only
        if isinstance(outcome.error, StorageError | LeaseLostError) and not damaged:
            self._broken = self._broken or outcome.error  # the next task would fail alike
            self._stop.set()
        setattr(result, outcome.state, getattr(result, outcome.state) + 1)
        if self._observer:
            rows = outcome.made.rows if outcome.made else 0
            with self._telling:
                self._observer.finished(task, self._plan.label(task), outcome.state, rows, outcome.error)
        self._tell_lost()

    def _tell_lost(self) -> None:
        """Count the tasks that cannot be made as something that they read was not."""
        for task in self._order.lost():
            self._result.skipped += 1
            if self._observer:
                with self._telling:
                    self._observer.finished(task, self._plan.label(task), "skipped", 0, None)

    def _record(self, outcome: Outcome) -> TaskRecord:
        slots = self._plan.nodes[outcome.task.node].slots
        return TaskRecord(
            node=outcome.task.node,
            start=int(slots.keys[outcome.task.index]),
            end=int(slots.ends[outcome.task.index]),
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
