"""Plan what is due and carry it out: fingerprints, runs, tasks."""

from __future__ import annotations

from envol.pipeline.lease import Lease, LeaseLostError, run_lease
from envol.pipeline.plan import NodePlan, Plan, Reason, Task, make_plan
from envol.pipeline.records import Records, Totals
from envol.pipeline.run import Observer, RunResult, carry_out, run

__all__ = [
    "Lease",
    "LeaseLostError",
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
    "run",
    "run_lease",
]
