"""Plan what is due and carry it out: fingerprints, runs, tasks."""

from __future__ import annotations

from envol.pipeline.plan import NodePlan, Plan, Reason, Task, make_plan
from envol.pipeline.run import Observer, RunResult, run

__all__ = ["NodePlan", "Observer", "Plan", "Reason", "RunResult", "Task", "make_plan", "run"]
