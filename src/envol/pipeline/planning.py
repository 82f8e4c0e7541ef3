"""Deciding which slots of each node are planned, and why, inputs before what reads them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envol.pipeline.plan import (
    BLOCKED,
    NO_CHAMPION,
    NO_INPUT,
    Codes,
    Flags,
    NodePlan,
    Plan,
    Reason,
    code_of,
)
from envol.pipeline.records import Records
from envol.pipeline.schedule import Epochs
from envol.pipeline.selection import Selection
from envol.pipeline.versions import inputs_hashes, window_tokens
from envol.project.fingerprint import Definition
from envol.project.nodes import Predictions, Source


def plan_nodes(
    plan: Plan,
    selection: Selection,
    definitions: Mapping[str, Mapping[int, Definition]],
    records: Records,
) -> None:
    """Fill in the reasons and the obstacles of every node that the selection wants.

    Args:
        definitions: all that were ever used, by node and id.
        records: tells which models predict, and when windows were made.
    """
    promoted = records.promoted_cutoffs()
    for name, current in plan.nodes.items():
        if name in selection.wanted:
            again = selection.chosen(name, current.slots) if selection.rerun else None
            late = _late(plan, current, records)
            _plan_node(plan, current, definitions.get(name, {}), promoted, late, again)
    if selection.partial:
        _restrict(plan, selection)


def _plan_node(
    plan: Plan,
    current: NodePlan,
    definitions: Mapping[int, Definition],
    promoted: Mapping[str, int],
    late: Flags | None,
    again: Flags | None,
) -> None:
    slots, reads = len(current.slots), plan.reads(current.node.name)
    waits, complete = np.zeros(slots, np.bool_), np.ones(slots, np.bool_)
    for name, first, last in reads:
        other = plan.nodes[name]
        waits |= _count(other.reason > 0, first, last) > 0
        complete &= _count(other.made, first, last) == last - first
    blocked = np.zeros(slots, np.uint8)
    blocked[current.slots.starts < _first_cutoff(plan, current, promoted)] = _obstacle(NO_CHAMPION)
    blocked[~waits & ~complete] = _obstacle(NO_INPUT)

    newest = np.flatnonzero(current.made)[-1:]
    reason = np.full(slots, code_of(Reason.MISSING), np.uint8)
    if len(newest):
        reason[newest[0] + 1 :] = code_of(Reason.DUE)
    made = current.made
    stale = waits | (current.recorded["inputs"] != current_inputs(plan, current))
    reason[made] = np.where(stale, code_of(Reason.INPUTS), 0)[made]
    for asked, why in ((late, Reason.REREAD), (again, Reason.RERUN)):
        if asked is not None:
            reason[made & asked] = code_of(why)
    changed = _changed(current, definitions)
    reason[made & (changed > 0)] = changed[made & (changed > 0)]
    reason[blocked > 0] = 0
    current.reason, current.blocked = reason, blocked


def current_inputs(plan: Plan, current: NodePlan) -> Epochs:
    """For each slot of a node the hash of what it would be made from now."""
    reads = []
    for name, first, last in plan.reads(current.node.name):
        other = plan.nodes[name]
        tokens = window_tokens(other.slots.keys, np.ascontiguousarray(other.recorded["version"]))
        reads.append((name, tokens, first, last))
    return inputs_hashes(len(current.slots), reads)


def _changed(current: NodePlan, definitions: Mapping[int, Definition]) -> Codes:
    """For each slot the code of what has changed in the node's definition since; 0 for nothing."""
    used, place = np.unique(current.recorded["definition"], return_inverse=True)
    codes = [_difference(current, definitions.get(int(identity))) for identity in used]
    return np.array(codes, np.uint8)[place] if codes else np.zeros(0, np.uint8)


def _difference(current: NodePlan, before: Definition | None) -> int:
    now = current.definition
    if before is None or before.code != now.code:
        return code_of(Reason.CODE)
    if before.parameters != now.parameters:
        return code_of(Reason.PARAMETERS)
    return code_of(Reason.CONTRACT) if before.contract != now.contract else 0


def _late(plan: Plan, current: NodePlan, records: Records) -> Flags | None:
    """The windows of a source that were read before a later one fell due that asks for them again."""
    node, slots = current.node, len(current.slots)
    if not isinstance(node, Source) or not node.reread or not current.made.any():
        return None
    starts, instants = records.made_at(node.name)
    place = np.minimum(np.searchsorted(starts, current.slots.keys), len(starts) - 1)
    due = plan.schedule.all_due_at(node)
    asks = np.minimum(np.arange(slots) + node.reread, slots - 1)
    return np.asarray(instants[place] < due[asks], np.bool_) & (asks > np.arange(slots))


def _first_cutoff(plan: Plan, current: NodePlan, promoted: Mapping[str, int]) -> int:
    """From when on a model can predict: the first cutoff promoted or about to be trained."""
    node = current.node
    if not isinstance(node, Predictions):
        return 0
    model = plan.nodes[node.model.name]
    cutoffs = model.slots.ends[model.planned].tolist()
    if node.model.name in promoted:
        cutoffs.append(promoted[node.model.name])
    return min(cutoffs, default=1 << 62)


def _restrict(plan: Plan, selection: Selection) -> None:
    """Keep the chosen windows, and the planned ones that these are made from."""
    keep = {name: selection.chosen(name, node.slots) for name, node in plan.nodes.items()}
    for name, current in reversed(plan.nodes.items()):
        wanted = np.flatnonzero(keep[name] & (current.reason > 0))
        for other, first, last in plan.reads(name):
            keep[other] |= _covered(len(plan.nodes[other].slots), first[wanted], last[wanted])
        if isinstance(current.node, Predictions) and len(wanted):
            model = plan.nodes[current.node.model.name]
            keep[model.node.name] |= model.slots.ends <= current.slots.starts[wanted[-1]]
        current.reason[~keep[name]] = 0
        current.blocked[~keep[name]] = 0


def _covered(slots: int, first: Epochs, last: Epochs) -> Flags:
    """Which of so many slots lie in any of the ranges."""
    edges = np.zeros(slots + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    return np.asarray(np.cumsum(edges[:-1]) > 0, np.bool_)


def _count(flags: Flags, first: Epochs, last: Epochs) -> Epochs:
    """How many flags are set in each range."""
    sums = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=sums[1:])
    return sums[last] - sums[first]


def _obstacle(word: str) -> int:
    return BLOCKED.index(word) + 1
