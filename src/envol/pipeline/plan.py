"""The plan: which windows of which nodes would be made now, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from envol.pipeline.records import Made, Records
from envol.pipeline.schedule import Schedule, Slots
from envol.project.fingerprint import Definition, digest
from envol.project.nodes import Model, Node, Predictions

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store


class Reason(StrEnum):
    """Why a window is to be made."""

    MISSING = "missing"
    DUE = "due"
    CODE = "code changed"
    PARAMETERS = "parameters changed"
    CONTRACT = "contract changed"
    INPUTS = "inputs changed"
    RERUN = "asked for"


NO_CHAMPION = "no champion yet"
NO_INPUT = "an input is not made"


@dataclass(frozen=True)
class Task:
    """One slot of one node that is to be made."""

    node: str
    index: int
    reason: Reason


@dataclass
class NodePlan:
    """One node's due slots: what of them is made, what is planned, and what cannot be made yet."""

    node: Node
    slots: Slots
    definition: Definition
    made: list[Made | None]
    planned: dict[int, Reason] = field(default_factory=dict)
    blocked: dict[int, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many due slots are made and up to date."""
        return len(self.slots) - len(self.planned) - len(self.blocked)

    @property
    def rows(self) -> int:
        return sum(made.rows for made in self.made if made)

    @property
    def quarantined(self) -> int:
        """How many rows of the made windows are in quarantine."""
        return sum(made.quarantined for made in self.made if made)

    @property
    def quarantined_windows(self) -> int:
        return sum(made.quarantined > 0 for made in self.made if made)

    def reasons(self) -> Counter[str]:
        return Counter(str(reason) for reason in self.planned.values())


@dataclass
class Plan:
    """What a run would do at the instant `now`, node by node in the order of their data."""

    now: datetime
    schedule: Schedule
    nodes: dict[str, NodePlan]

    def tasks(self) -> Iterator[Task]:
        """The planned tasks, node by node, oldest window first."""
        for name, node in self.nodes.items():
            for index, reason in node.planned.items():
                yield Task(name, index, reason)

    def __len__(self) -> int:
        return sum(len(node.planned) for node in self.nodes.values())

    def label(self, task: Task) -> str:
        return self.schedule.label(self.nodes[task.node].node, task.index)

    def input_slots(self, node: Node, index: int) -> list[tuple[str, int, int]]:
        """(input, a, b): the slots [a, b) of each table that a slot of the node reads."""
        return [
            (name, *self.nodes[name].slots.overlapping(start, end))
            for name, start, end in self.schedule.input_ranges(node, index)
        ]

    def inputs_hash(self, reads: Sequence[tuple[str, int, int]]) -> str | None:
        """Hash over the versions of what `input_slots` told; None where something is not made."""
        parts = []
        for name, first, last in reads:
            for made in self.nodes[name].made[first:last]:
                if made is None:
                    return None
                parts.append(made.version)
            parts.append(name)
        return digest("\n".join(parts))

    def trainings_before(self, node: Predictions, index: int) -> list[int]:
        """Planned slots of the model that end before the window to predict begins."""
        model = self.nodes[node.model.name]
        start = self.nodes[node.name].slots.starts[index]
        return [slot for slot in model.planned if model.slots.ends[slot] <= start]


def make_plan(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    nodes: Iterable[str] | None = None,
    rerun: bool = False,
) -> Plan:
    """Compare what is due with what is recorded.

    Args:
        nodes: only these nodes and what they are made from; all when None.
        rerun: make the windows of the named nodes again although nothing changed.

    Raises:
        UserError: the project is declared wrongly, or a named node does not exist.
    """
    now = clock.now()
    graph = project.graph
    named = set(graph.nodes if nodes is None else nodes)
    wanted = graph.upstream(named)
    schedule = Schedule(project, now)
    records = Records(store.metadata)
    recorded, promoted = records.made(), records.promoted_cutoffs()
    plan = Plan(now, schedule, {})
    for name, node in graph.nodes.items():
        slots = schedule.slots[name]
        made = recorded.get(name, {})
        current = NodePlan(node, slots, project.definitions[name], [made.get(key) for key in slots.keys])
        plan.nodes[name] = current
        if name in wanted:
            _plan_node(plan, current, promoted, rerun=rerun and name in named)
    return plan


def _plan_node(plan: Plan, current: NodePlan, promoted: Mapping[str, int], *, rerun: bool) -> None:
    node, slots = current.node, current.slots
    newest = max((index for index, made in enumerate(current.made) if made), default=-1)
    planned = {name: _flags(plan.nodes[name]) for name in node.inputs if not _is_model(plan, name)}
    first_training = _first_cutoff(plan, node, promoted)
    for index, made in enumerate(current.made):
        reads = plan.input_slots(node, index)
        waits_for_input = any(1 in planned[name][first:last] for name, first, last in reads)
        if not waits_for_input and not _all_made(plan, reads):
            current.blocked[index] = NO_INPUT
        elif first_training is not None and slots.starts[index] < first_training:
            current.blocked[index] = NO_CHAMPION
        else:
            reason = _changed(current.definition, made)
            if made is None:
                reason = Reason.DUE if 0 <= newest < index else Reason.MISSING
            elif reason is None and rerun:
                reason = Reason.RERUN
            elif reason is None and (waits_for_input or made.inputs != plan.inputs_hash(reads)):
                reason = Reason.INPUTS
            if reason is not None:
                current.planned[index] = reason


def _changed(definition: Definition, made: Made | None) -> Reason | None:
    if made is None or made.code != definition.code:
        return Reason.CODE
    if made.parameters != definition.parameters:
        return Reason.PARAMETERS
    return Reason.CONTRACT if made.contract != definition.contract else None


def _all_made(plan: Plan, reads: Sequence[tuple[str, int, int]]) -> bool:
    return all(None not in plan.nodes[name].made[first:last] for name, first, last in reads)


def _first_cutoff(plan: Plan, node: Node, promoted: Mapping[str, int]) -> int | None:
    """From when on a model can predict: the first cutoff promoted or about to be trained."""
    if not isinstance(node, Predictions):
        return None
    model = plan.nodes[node.model.name]
    cutoffs = [model.slots.ends[index] for index in model.planned]
    if node.model.name in promoted:
        cutoffs.append(promoted[node.model.name])
    return min(cutoffs, default=1 << 62)


def _flags(node: NodePlan) -> bytearray:
    flags = bytearray(len(node.slots))
    for index in node.planned:
        flags[index] = 1
    return flags


def _is_model(plan: Plan, name: str) -> bool:
    return isinstance(plan.nodes[name].node, Model)
