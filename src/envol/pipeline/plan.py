"""The plan: which windows of which nodes would be made now, and why.

Everything is compared as arrays over a node's windows, so that a million of them take a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from envol.pipeline.records import RECORDED, Array, Made, Records
from envol.pipeline.schedule import Epochs, Schedule, Slots
from envol.pipeline.versions import inputs_hashes, window_tokens
from envol.project.fingerprint import Definition
from envol.project.nodes import Node

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
UNRECORDED = -1
"""Id of a definition that nothing was ever made with."""


class Reason(StrEnum):
    """Why a window is to be made."""

    MISSING = "missing"
    DUE = "due"
    CODE = "code changed"
    PARAMETERS = "parameters changed"
    CONTRACT = "contract changed"
    INPUTS = "inputs changed"
    REREAD = "read again for late rows"
    RERUN = "asked for"


REASONS = tuple(Reason)
CHANGED = (Reason.CODE, Reason.PARAMETERS, Reason.CONTRACT)
"""The reasons that an edit of the project gives."""
NO_INPUT, NO_CHAMPION = "an input is not made", "no champion yet"
BLOCKED = (NO_INPUT, NO_CHAMPION)


def code_of(reason: Reason) -> int:
    """The reason as it stands in `NodePlan.reason`."""
    return REASONS.index(reason) + 1


@dataclass(frozen=True)
class Task:
    """One slot of one node that is to be made."""

    node: str
    index: int
    reason: Reason


@dataclass(eq=False)
class NodePlan:
    """One node's due slots: what of them is made, what is planned, and what cannot be made yet.

    The arrays have an entry a slot: `recorded` what was made of it where `made`, `reason` why it is planned
    and `blocked` why it is not (places in REASONS and BLOCKED counted from 1; 0: it is not).
    """

    node: Node
    slots: Slots
    definition: Definition
    definition_id: int
    made: Flags
    recorded: Array
    reason: Codes
    blocked: Codes

    @property
    def planned(self) -> npt.NDArray[np.intp]:
        """Indexes of the planned slots, oldest first."""
        return np.flatnonzero(self.reason)

    @property
    def done(self) -> int:
        """How many due slots are made and up to date."""
        return len(self.slots) - int(np.count_nonzero(self.reason) + np.count_nonzero(self.blocked))

    def reasons(self) -> Counter[str]:
        """How many slots are planned for which reason."""
        return _counted(self.reason, REASONS)

    def obstacles(self) -> Counter[str]:
        """How many slots cannot be made yet, and why."""
        return _counted(self.blocked, BLOCKED)

    def reason_of(self, index: int) -> Reason | None:
        """Why the slot is planned; None when it is not."""
        code = int(self.reason[index])
        return REASONS[code - 1] if code else None

    def obstacle_of(self, index: int) -> str | None:
        """Why the slot cannot be made yet; None when nothing is in the way."""
        code = int(self.blocked[index])
        return BLOCKED[code - 1] if code else None

    def record(self, index: int, made: Made) -> None:
        """Take note that the slot has been made."""
        self.made[index] = True
        self.recorded[index] = (self.slots.keys[index], made.definition, made.inputs, made.version)


@dataclass(eq=False)
class Plan:
    """What a run would do at the instant `now`, node by node in the order of their data."""

    now: datetime
    schedule: Schedule
    nodes: dict[str, NodePlan]

    def __post_init__(self) -> None:
        self._reads: dict[str, list[tuple[str, Epochs, Epochs]]] = {}

    def tasks(self) -> Iterator[Task]:
        """The planned tasks, node by node, oldest window first."""
        for name, node in self.nodes.items():
            for index in node.planned.tolist():
                yield self.task(name, index)

    def task(self, node: str, index: int) -> Task:
        """The planned task of a slot."""
        reason = self.nodes[node].reason_of(index)
        assert reason is not None
        return Task(node, index, reason)

    def __len__(self) -> int:
        return sum(int(np.count_nonzero(node.reason)) for node in self.nodes.values())

    def label(self, task: Task) -> str:
        return self.schedule.label(self.nodes[task.node].node, task.index)

    def reads(self, name: str) -> list[tuple[str, Epochs, Epochs]]:
        """By input of a node, for all its slots: the slots [a, b) of the input that each reads."""
        if name not in self._reads:
            self._reads[name] = self.schedule.input_slots(self.nodes[name].node)
        return self._reads[name]

    def input_slots(self, name: str, index: int) -> list[tuple[str, int, int]]:
        """(input, a, b): the slots [a, b) of each table that a slot of the node reads."""
        return [(one, int(first[index]), int(last[index])) for one, first, last in self.reads(name)]

    def inputs_hash(self, reads: Sequence[tuple[str, int, int]]) -> int | None:
        """Hash over the versions of what `input_slots` told; None where something is not made."""
        parts = []
        for name, first, last in reads:
            node = self.nodes[name]
            if not node.made[first:last].all():
                return None
            part = node.recorded[first:last]
            whole = np.array([0]), np.array([last - first])
            parts.append((name, window_tokens(node.slots.keys[first:last], part["version"].copy()), *whole))
        return int(inputs_hashes(1, parts)[0])


def make_plan(
    project: Project,
    store: Store,
    clock: Clock,
    *,
    nodes: Iterable[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    windows: Mapping[str, Epochs] | None = None,
    rerun: bool = False,
) -> Plan:
    """Compare what is due with what is recorded.

    Args:
        nodes: only these nodes and what they are made from; all when None.
        start, end: only their windows inside [start, end), and what these are made from.
        windows: only the windows that start at these instants, by node, and what these are made from.
        rerun: make these windows of the named nodes again although nothing changed.

    Raises:
        UserError: the project is declared wrongly, or a named node does not exist.
    """
    from envol.pipeline.planning import plan_nodes
    from envol.pipeline.selection import Selection

    now = clock.now()
    selection = Selection.of(project, nodes=nodes, start=start, end=end, windows=windows, rerun=rerun)
    schedule = Schedule(project, now)
    records = Records(store.metadata)
    recorded, definitions = records.made(project.graph.nodes), records.definitions()
    plan = Plan(now, schedule, {})
    for name, node in project.graph.nodes.items():
        slots, definition = schedule.slots[name], project.definitions[name]
        ids = {known: identity for identity, known in definitions.get(name, {}).items()}
        made, rows = aligned(slots, recorded[name])
        nothing = np.zeros(len(slots), np.uint8)
        plan.nodes[name] = NodePlan(
            node, slots, definition, ids.get(definition, UNRECORDED), made, rows, nothing, nothing.copy()
        )
    plan_nodes(plan, selection, definitions, records)
    return plan


def aligned(slots: Slots, recorded: Array) -> tuple[Flags, Array]:
    """For each slot whether there is a record of it, and the record."""
    rows = np.zeros(len(slots), RECORDED)
    if not len(recorded) or not len(slots):
        return np.zeros(len(slots), np.bool_), rows
    place = np.minimum(np.searchsorted(recorded["start"], slots.keys), len(recorded) - 1)
    made = recorded["start"][place] == slots.keys
    rows[made] = recorded[place[made]]
    return made, rows


def _counted(codes: Codes, words: Sequence[str]) -> Counter[str]:
    counts = np.bincount(codes, minlength=len(words) + 1)[1:]
    return Counter({str(word): int(count) for word, count in zip(words, counts, strict=True) if count})
