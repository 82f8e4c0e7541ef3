"""Carrying one task out: in its turn, again after a failure as often as its node says, with its log."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass

from envol.errors import EnvolError, Failure, StorageError, UserError
from envol.pipeline.lease import LeaseLostError
from envol.pipeline.limits import Slot
from envol.pipeline.logs import shortened, task_log
from envol.pipeline.plan import Plan, Reason, Task
from envol.pipeline.records import Made
from envol.pipeline.work import NotYet, Worker


@dataclass
class Outcome:
    """How a task ended: "done", "unchanged", "failed" or "skipped"."""

    task: Task
    state: str
    attempts: int = 0
    started_at: float = 0.0
    seconds: float = 0.0
    made: Made | None = None
    error: EnvolError | None = None
    log: str = ""


class Attempts:
    """Carries tasks out; threads share one.

    Args:
        slots: held while a task computes.
        stop: once set, tasks that have not begun are left, and failed ones are not tried again.
    """

    def __init__(self, plan: Plan, worker: Worker, slots: threading.Semaphore, stop: threading.Event) -> None:
        self._plan, self._worker, self._slots, self._stop = plan, worker, slots, stop

    def carry_out(self, task: Task) -> Outcome | None:
        """Carry the task out when there is a slot; None when the run stops before."""
        with Slot(self._slots) as slot:
            if self._stop.is_set():
                return None
            inputs = self._plan.inputs_hash(self._plan.input_slots(task.node, task.index))
            outcome = Outcome(task, "failed", started_at=time.time())
            if inputs is None:
                outcome.state = "skipped"
            elif self._is_unchanged(task, inputs):
                outcome.state = "unchanged"
            else:
                self._try(outcome, inputs, slot)
            return outcome

    def _is_unchanged(self, task: Task, inputs: int) -> bool:
        """Whether an input that was made again came out as before."""
        recorded = self._plan.nodes[task.node].recorded[task.index]
        return task.reason is Reason.INPUTS and int(recorded["inputs"]) == inputs

    def _try(self, outcome: Outcome, inputs: int, slot: Slot) -> None:
        task = outcome.task
        node = self._plan.nodes[task.node].node
        began = time.monotonic()
        with task_log() as log:
            for attempt in range(1, node.retries + 2):
                outcome.attempts = attempt
                slot.take()
                try:
                    outcome.made, outcome.error = self._worker.carry_out(task, inputs, slot), None
                    outcome.state = "done"
                    break
                except NotYet as reason:
                    print(f"not yet: {reason}")
                    outcome.state = "skipped"
                    break
                except (Exception, SystemExit) as error:
                    traceback.print_exception(error)
                    outcome.error = _as_envol_error(error, task.node, self._plan.label(task))
                    final = isinstance(outcome.error, UserError | StorageError | LeaseLostError)
                    if final or self._stop.is_set() or attempt > node.retries:
                        break
                    slot.give_up()
                    self._stop.wait(node.backoff * 2 ** (attempt - 1))
            outcome.seconds = time.monotonic() - began
            outcome.log = shortened(log)


def _as_envol_error(error: BaseException, node: str, window: str) -> EnvolError:
    if isinstance(error, EnvolError):
        return error.located(node=node, window=window)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(
        f"{type(error).__name__} at {frame.filename}:{frame.lineno}: {error}",
        node=node,
        window=window,
        remedy="look at the task's log: envol runs --log",
    )
