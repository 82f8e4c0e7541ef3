"""The conductor: keeps a project up to date as time passes.

It holds the lease of the only active conductor, looks once a second whether there is a reason to run, and
gives each run to a process of its own (see docs/decisions/0007-conductor.md): so a run takes the code that is
on disk, and whatever the project's functions do to their process, the conductor goes on.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from envol.errors import BusyError, Failure, StorageError
from envol.log import tell
from envol.pipeline.backfill_records import next_backfill
from envol.pipeline.conducting.control import CONDUCTOR, Asked, Control, Wishes
from envol.pipeline.conducting.delays import Delay, HeldBack
from envol.pipeline.conducting.other_run import OtherRun
from envol.pipeline.conducting.run_process import RunProcess, how_it_died, outlook, summary
from envol.pipeline.conducting.standby import Standby
from envol.pipeline.conducting.watch import Watch, store_has_moved
from envol.pipeline.lease import Lease

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

logger = logging.getLogger("envol.conductor")

LOOK_SECONDS = 1.0
STOPPED, KILLED = 0, 130
CRASHES = 2
"""So many runs in a row die before every function gets a process of its own."""


class Conductor:
    """Plans and runs whenever something falls due, or there is another reason to.

    Args:
        project: only its folder and its configuration are used.
        delay: makes the waits before what failed is tried again.
    """

    def __init__(
        self, project: Project, store: Store, clock: Clock, *, delay: Callable[[], Delay] = Delay
    ) -> None:
        self._project, self._store, self._clock = project, store, clock
        self._control = Control(store.metadata, clock)
        self._lease = Lease(store.metadata, CONDUCTOR, "another conductor is active on this project")
        self._watch = Watch(project.root, project.store_path)
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stops = 0
        self._lost = False
        self._process: RunProcess | None = None
        self._reason: str | None = None  # why a run of what is due is wanted
        self._next: float | None = None
        self._held_back = HeldBack(delay)
        self._trouble = delay()  # of a run as a whole
        self._backfill_trouble = delay()
        self._crashes, self._isolated = 0, False
        self._paused: Asked | None = None
        self._stopping = False
        self._wanted: dict[str, Asked] = {}
        self._other_run = OtherRun()

    def stop(self) -> None:
        """End once the running tasks have ended; called again: at once. For any thread, and for signals."""
        self._stops += 1
        self._bell.put(None)

    def conduct(self) -> int:
        """Work until `stop`, waiting in turn while another conductor is active.

        Returns:
            The exit code: 0, or 130 where running tasks had to be killed.

        Raises:
            Failure: the project has moved to another store.
        """
        code = STOPPED
        with Standby(self._store.metadata) as standby:
            while not self._stops:
                with ExitStack() as held:
                    try:
                        held.enter_context(self._lease.held())
                    except BusyError as busy:
                        standby.wait(busy)
                        self._rest()
                        continue
                    except StorageError as error:
                        self._away(error)
                        continue
                    standby.end()
                    code = self._lead()
        tell(logger, logging.INFO, "stopped", "stopped")
        return code

    def _lead(self) -> int:
        """Be the active conductor until stopped, or until another one has taken over."""
        tell(logger, logging.INFO, "active", f"active: keeps {self._project.name} up to date")
        self._lost, self._lease.on_lost = False, self._lose
        self._reason = "at its start"
        code = STOPPED
        try:
            while not self._stops and not self._lost:
                try:
                    self._look()
                except StorageError as error:
                    self._away(error)
                self._rest()
        finally:
            code = self._end_run()
        if self._lost:
            tell(logger, logging.ERROR, "lost", "another conductor has taken over as this one was silent")
        return code

    def _look(self) -> None:
        if self._process is not None and (code := self._process.exit_code()) is not None:
            ended, self._process = self._process, None
            self._settle(ended, code)
        wishes = self._control.wishes()
        self._mind_pause(wishes.paused)
        self._mind_files()
        self._mind_time()
        self._mind_wishes(wishes)
        if self._paused is None:
            self._begin(wishes)

    def _mind_pause(self, paused: Asked | None) -> None:
        before, self._paused = self._paused, paused
        if paused is not None and before is None:
            why = f": {paused.reason}" if paused.reason else ""
            tell(logger, logging.INFO, "paused", f"paused by {paused.by}{why}", by=paused.by)
            self._stop_run()
        elif paused is None and before is not None:
            tell(logger, logging.INFO, "resumed", "resumed")
            self._reason = "to go on after the pause"

    def _mind_files(self) -> None:
        if not self._watch.has_changed():
            return
        self._watch.take()
        self._held_back.clear()
        self._trouble.reset()
        self._backfill_trouble.reset()
        self._crashes, self._isolated = 0, False
        self._reason = "the project's files have changed"
        after = "; the run that is on ends first (envol cancel ends it)" if self._process else ""
        tell(logger, logging.INFO, "changed", f"{self._reason}{after}")
        if store_has_moved(self._project):
            raise Failure(
                "envol.toml names another store than this conductor works on", remedy="start it again"
            )

    def _mind_time(self) -> None:
        if self._next is not None and self._clock.now().timestamp() >= self._next:
            self._next = None
            self._reason = self._reason or "windows have fallen due"
        if self._held_back.is_over():
            self._reason = self._reason or "to try again what failed"

    def _mind_wishes(self, wishes: Wishes) -> None:
        if wishes.wake is not None:
            self._control.woken(wishes.wake)
            self._held_back.clear()
            self._trouble.reset()
            self._backfill_trouble.reset()
            self._reason = f"woken by {wishes.wake.by}"
        for model, asked in wishes.retrain.items():
            if self._wanted.get(model) != asked:
                self._reason = f"{asked.by} wants {model} to be trained: {asked.reason}"
        self._wanted = dict(wishes.retrain)

    def _begin(self, wishes: Wishes) -> None:
        """Give the next run to a process, if there is one to begin; what is due goes before a backfill."""
        if self._process is not None:
            if self._reason is not None and self._process.kind == "backfill" and self._trouble.is_over():
                self._yield()
            return
        due = self._reason is not None and self._trouble.is_over()
        backfill = next_backfill(self._store) if not due and self._backfill_trouble.is_over() else None
        if (due or backfill) and self._other_run.is_over(wishes.run_by):
            if due:
                tell(logger, logging.INFO, "woke", f"looks what is to do ({self._reason})")
                self._reason = None
            order = {"backfill": backfill} if backfill else {"held_back": self._held_back.begin()}
            self._process = RunProcess(
                self._project.root, {**order, "isolated": self._isolated}, lambda: self._bell.put(None)
            )
            self._stopping = False

    def _settle(self, process: RunProcess, code: int) -> None:
        """Draw the conclusions from how a run ended."""
        result, trouble = process.result, self._trouble
        if process.kind == "backfill":
            trouble = self._backfill_trouble
        if result is None:
            if not self._stopping:
                self._crashed(process, code, trouble)
            return
        state = result["state"]
        if state == "stopped":
            return
        if state == "busy":
            self._reason = self._reason or ("at its start" if process.kind == "due" else None)
        elif state in ("broken", "error"):
            self._failed(process, state, result["error"], trouble)
        else:
            trouble.reset()
            self._crashes = 0
            self._ended(process, result)

    def _ended(self, process: RunProcess, result: Mapping[str, Any]) -> None:
        state = result["state"]
        if state != "nothing":
            level = logging.WARNING if state == "failed" else logging.INFO
            fields = {name: result[name] for name in ("run", "state", "done", "unchanged", "failed")}
            tell(logger, level, "run ended", summary(result), **fields)
        if process.kind == "backfill":
            return
        self._held_back.end(result.get("failures", {}))
        if state == "failed" and result["skipped"]:
            self._reason = self._reason or "to go on without what failed"
        following = result.get("next")
        self._next = following and following["at"]
        if self._reason is None and not self._stopping:
            told, fields = outlook(following, self._project.calendar.zone)
            told += "; what the run has left, sooner by: envol wake" if state == "cancelled" else ""
            tell(logger, logging.INFO, "idle", told, **fields)

    def _failed(self, process: RunProcess, state: str, error: str, trouble: Delay) -> None:
        wait = trouble.failed()
        what = "the project cannot be loaded" if state == "broken" else "the run has failed"
        told = f"{what}, tried again in {wait:,.0f} s or when its files change: {error}"
        tell(logger, logging.ERROR, state, told, run=process.run, error=error)
        if process.kind == "due":
            self._reason = self._reason or "to try again"

    def _crashed(self, process: RunProcess, code: int, trouble: Delay) -> None:
        self._crashes += 1
        told = how_it_died(process.run, code)
        if self._crashes >= CRASHES:
            self._isolated = True
            told += "; from now on every function runs in a process of its own"
        if self._crashes > CRASHES:
            told += f"; tried again in {trouble.failed():,.0f} s"
        tell(logger, logging.ERROR, "run crashed", told, run=process.run)
        if process.kind == "due":
            self._reason = self._reason or "to go on after the crash"
        if process.run is not None:
            self._control.crashed(process.run)

    def _yield(self) -> None:
        """Let a backfill stand back for what is due."""
        if not self._stopping:
            tell(logger, logging.INFO, "yields", f"the backfill stands back ({self._reason})")
            self._stop_run()

    def _stop_run(self) -> None:
        if self._process is not None and not self._stopping:
            self._stopping = True
            self._process.stop()

    def _end_run(self) -> int:
        """Let the active run end its tasks within `[conductor] stop_timeout`, or kill it."""
        if self._process is None:
            return STOPPED
        patience = self._project.config.conductor.stop_timeout
        tell(logger, logging.INFO, "stopping", f"stopping: running tasks have {patience:g} s to end")
        deadline, stops = time.monotonic() + patience, self._stops
        self._stop_run()
        while self._process.exit_code() is None:
            if self._stops > stops or time.monotonic() > deadline:
                self._process.kill()
                tell(logger, logging.WARNING, "killed", "running tasks were killed", run=self._process.run)
                self._process = None
                return KILLED
            self._rest()
        ended, self._process = self._process, None
        self._settle(ended, 0)
        return STOPPED

    def _lose(self) -> None:
        self._lost = True
        self._bell.put(None)

    def _away(self, error: StorageError) -> None:
        """The database could not be asked, though it was waited for."""
        tell(logger, logging.ERROR, "away", str(error))
        self._rest()

    def _rest(self) -> None:
        try:
            self._bell.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            pass
