"""Plan what is due and carry it out: fingerprints, runs, tasks."""

from __future__ import annotations

from envol.pipeline.conductor import Conductor
from envol.pipeline.control import Asked, Control, Wishes
from envol.pipeline.delays import Delay
from envol.pipeline.due import Next, next_due, next_of_all
from envol.pipeline.lease import Lease, LeaseLostError, run_lease
from envol.pipeline.plan import NodePlan, Plan, Reason, Task, make_plan
from envol.pipeline.records import Records, Totals
from envol.pipeline.run import Observer, RunResult, carry_out, run
from envol.pipeline.standby import Conductors, conductors

__all__ = [
    "Asked",
    "Conductor",
    "Conductors",
    "Control",
    "Delay",
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
    "Wishes",
    "carry_out",
    "conductors",
    "make_plan",
    "next_due",
    "next_of_all",
    "run",
    "run_lease",
]
