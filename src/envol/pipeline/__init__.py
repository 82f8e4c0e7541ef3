"""Plan what is due and carry it out: fingerprints, runs, tasks."""

from __future__ import annotations

from envol.pipeline.due import Next, next_due, next_of_all
from envol.pipeline.lease import Lease, LeaseLostError, run_lease
from envol.pipeline.plan import NodePlan, Plan, Reason, Task, make_plan
from envol.pipeline.records import Records, Totals
from envol.pipeline.run import Observer, RunResult, carry_out, run

__all__ = [
    "Lease",
    "LeaseLostError",
    "Next",
    "NodePlan",
    "Observer",
    "Plan",
    "Reason",
    "Records",
    "RunResult",
    "Task",
    "Totals",
    "carry_out",
    "make_plan",
    "next_due",
    "next_of_all",
    "run",
    "run_lease",
]
