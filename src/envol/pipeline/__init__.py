"""Plan what is due and carry it out: fingerprints, runs, tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envol.pipeline.accepting import accept
    from envol.pipeline.backfill import carry_on, request_backfill
    from envol.pipeline.backfill_records import (
        Backfill,
        backfills,
        cancel_backfill,
        find_backfill,
        next_backfill,
        retry_backfill,
    )
    from envol.pipeline.conducting.conductor import Conductor
    from envol.pipeline.conducting.control import Asked, Control, Wishes
    from envol.pipeline.conducting.delays import Delay
    from envol.pipeline.conducting.standby import Conductors, conductors
    from envol.pipeline.due import Next, next_due, next_of_all
    from envol.pipeline.lease import Lease, LeaseLostError, run_lease
    from envol.pipeline.plan import NodePlan, Plan, Reason, Task, make_plan
    from envol.pipeline.records import Records, Totals
    from envol.pipeline.results import Observer, RunResult
    from envol.pipeline.running import carry_out, run

__all__ = [
    "Asked",
    "Backfill",
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
    "accept",
    "backfills",
    "cancel_backfill",
    "carry_on",
    "carry_out",
    "conductors",
    "find_backfill",
    "make_plan",
    "next_backfill",
    "next_due",
    "next_of_all",
    "request_backfill",
    "retry_backfill",
    "run",
    "run_lease",
]

_MODULES = {
    "accepting": ("accept",),
    "backfill": ("carry_on", "request_backfill"),
    "backfill_records": (
        "Backfill",
        "backfills",
        "cancel_backfill",
        "find_backfill",
        "next_backfill",
        "retry_backfill",
    ),
    "conducting.conductor": ("Conductor",),
    "conducting.control": (
        "Asked",
        "Control",
        "Wishes",
    ),
    "conducting.delays": ("Delay",),
    "due": (
        "Next",
        "next_due",
        "next_of_all",
    ),
    "lease": (
        "Lease",
        "LeaseLostError",
        "run_lease",
    ),
    "plan": (
        "NodePlan",
        "Plan",
        "Reason",
        "Task",
        "make_plan",
    ),
    "records": (
        "Records",
        "Totals",
    ),
    "results": (
        "Observer",
        "RunResult",
    ),
    "running": (
        "carry_out",
        "run",
    ),
    "conducting.standby": (
        "Conductors",
        "conductors",
    ),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    # Loaded when first used: an isolated process needs little of it, and SQLAlchemy takes a quarter second.
    from importlib import import_module

    if name in _PLACES:
        return getattr(import_module(f"envol.pipeline.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'envol.pipeline' has no attribute {name!r}")
