"""Changes to a plan that only the conductor makes: what it holds back, and what it trains besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from envol.pipeline.plan import CHANGED, Flags, NodePlan, Plan, Reason, code_of
from envol.pipeline.planning import current_inputs
from envol.pipeline.schedule import Epochs, Slots
from envol.project.nodes import Model, Predictions

if TYPE_CHECKING:
    from envol.project import Project


def hold_back(plan: Plan, windows: Mapping[str, Iterable[int]], promoted: Mapping[str, int]) -> None:
    """Leave windows out of the plan, and all that would be made from them.

    While a training is held back, an earlier version predicts.

    Args:
        windows: their keys in the plan's slots, by node.
        promoted: by model the earliest cutoff that a version was promoted at.
    """
    left_out: dict[str, Flags] = {}
    for name, node in plan.nodes.items():
        out = np.isin(node.slots.keys, np.array(list(windows.get(name, ())), np.int64))
        for other, first, last in plan.reads(name):
            out |= _any(left_out[other], first, last)
        if isinstance(node.node, Predictions):
            model = plan.nodes[node.node.model.name]
            cutoffs = model.slots.ends[model.planned].tolist()
            first_cutoff = min([*cutoffs, promoted.get(model.node.name, 1 << 62)])
            out |= node.slots.starts < first_cutoff
        left_out[name] = out & (node.reason > 0)
        node.reason[left_out[name]] = 0


def leave_stale(plan: Plan) -> int:
    """Leave windows as they are that a change of code, parameters or contract made stale; returns how many.

    What is due goes on with them. A window whose inputs came out otherwise is made again all the same.
    """
    left = 0
    for name, node in plan.nodes.items():
        changed = np.isin(node.reason, [code_of(reason) for reason in CHANGED])
        left += int(np.count_nonzero(changed))
        node.reason[changed] = 0
        waits = np.zeros(len(node.slots), np.bool_)
        for other, first, last in plan.reads(name):
            waits |= _any(plan.nodes[other].reason > 0, first, last)
        same = node.recorded["inputs"] == current_inputs(plan, node)
        node.reason[(node.reason == code_of(Reason.INPUTS)) & same & ~waits] = 0
    return left


def newest_cutoff(plan: Plan, model: Model) -> int:
    """The instant up to which everything that the model is trained on is due."""
    return min(plan.nodes[name].slots.ready_until for name in model.inputs)


def with_training(project: Project, plan: Plan, name: str) -> Plan | None:
    """The plan with one more training of a model, on the newest data; None where these are too few yet.

    Where the model is to be trained at that cutoff anyway, or was, it is the plan itself.
    """
    node = plan.nodes[name].node
    assert isinstance(node, Model)
    cutoff = newest_cutoff(plan, node)
    if cutoff < node.train.after(project.start).timestamp():
        return None
    if cutoff in plan.nodes[name].slots.keys:
        return plan
    start = node.history_start(plan.schedule.local(cutoff))
    begin = max(int(start.timestamp()), int(project.start.timestamp()))
    extended = _with_slot(plan.nodes[name], begin, cutoff)
    plan.schedule.slots[name] = extended.slots
    return Plan(plan.now, plan.schedule, {**plan.nodes, name: extended})


def _with_slot(node: NodePlan, start: int, cutoff: int) -> NodePlan:
    place = int(np.searchsorted(node.slots.keys, cutoff))

    def put(values: Epochs, value: int) -> Epochs:
        return np.insert(values, place, value)

    slots = Slots(put(node.slots.starts, start), put(node.slots.ends, cutoff), put(node.slots.keys, cutoff))
    nothing = np.zeros(1, node.recorded.dtype)
    return replace(
        node,
        slots=slots,
        made=np.insert(node.made, place, False),
        recorded=np.concatenate([node.recorded[:place], nothing, node.recorded[place:]]),
        reason=np.insert(node.reason, place, code_of(Reason.RERUN)),
        blocked=np.insert(node.blocked, place, 0),
    )


def _any(flags: Flags, first: Epochs, last: Epochs) -> Flags:
    """Whether any flag is set in each range."""
    sums = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=sums[1:])
    return np.asarray(sums[last] > sums[first], np.bool_)
