"""Which windows and cutoffs every node has at an instant, and how many of them are due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from envol.project.nodes import Model, Node, Predictions, Source
from envol.project.windows import Window

if TYPE_CHECKING:
    from envol.project import Project


@dataclass(frozen=True)
class Slots:
    """The due windows of a node, oldest first, as epochs; for a model the ranges it trains on.

    `keys` tells them apart in the records: the start of a window, the cutoff of a training.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    keys: Sequence[int]
    ready_until: int
    """Everything before this instant is due."""

    def __len__(self) -> int:
        return len(self.keys)

    def overlapping(self, start: int, end: int) -> tuple[int, int]:
        """Indexes [a, b) of the windows that overlap [start, end)."""
        return bisect_right(self.ends, start), bisect_left(self.starts, end)


class Schedule:
    """The slots of every node of a project at the instant `now` (aware)."""

    def __init__(self, project: Project, now: datetime) -> None:
        self._project = project
        self._graph = project.graph
        self._now = now
        self._until = now if project.end is None else min(now, project.end)
        self.slots: dict[str, Slots] = {}
        for name, node in self._graph.nodes.items():
            self.slots[name] = self._cutoffs(node) if isinstance(node, Model) else self._windows(node)

    def input_ranges(self, node: Node, index: int) -> list[tuple[str, int, int]]:
        """What a slot of the node reads: (table, start, end) as epochs, trainings not included."""
        slots = self.slots[node.name]
        start, end = slots.starts[index], slots.ends[index]
        ranges = []
        for name in node.inputs:
            if isinstance(self._graph.nodes[name], Model):
                continue
            span = self._graph.lookback(node, name)
            first = start if span is None else int(span.before(self.local(start)).timestamp())
            ranges.append((name, max(first, int(self._project.start.timestamp())), end))
        return ranges

    def local(self, epoch: int) -> datetime:
        """The instant in the project's time zone."""
        return datetime.fromtimestamp(epoch, UTC).astimezone(self._project.calendar.zone)

    def window(self, node: Node, index: int) -> Window:
        """The window of a slot of a node that has windows."""
        slots = self.slots[node.name]
        period = self._graph.period_of(node.name)
        return Window(self.local(slots.starts[index]), self.local(slots.ends[index]), period)

    def label(self, node: Node, index: int) -> str:
        """What people call a slot: the key of its window, or the date of a cutoff."""
        if isinstance(node, Model):
            return self.local(self.slots[node.name].keys[index]).strftime("%Y-%m-%d")
        return self.window(node, index).key

    def _windows(self, node: Node) -> Slots:
        bounds = self._project.calendar.bounds(
            self._graph.period_of(node.name), self._first_instant(node), self._until
        )
        if isinstance(node, Source):
            ready = len(bounds) - 1
            while ready > 0 and not self._is_due(node, bounds[ready]):
                ready -= 1
        else:
            ready = bisect_right(bounds, self._inputs_ready(node)) - 1
        starts, ends = bounds[: max(ready, 0)], bounds[1 : max(ready, 0) + 1]
        return Slots(starts, ends, starts, ends[-1] if ends else 0)

    def _cutoffs(self, node: Model) -> Slots:
        ready = self._inputs_ready(node)
        first = node.train.after(self._project.start)
        starts, cutoffs = list[int](), list[int]()
        cutoff, number = first, 0
        while cutoff <= self._until and cutoff.timestamp() <= ready:
            cutoffs.append(int(cutoff.timestamp()))
            starts.append(int(max(node.history_start(cutoff), self._project.start).timestamp()))
            number += 1
            cutoff = node.every.times(number).after(first)
        return Slots(starts, cutoffs, cutoffs, cutoffs[-1] if cutoffs else 0)

    def _inputs_ready(self, node: Node) -> int:
        tables = [name for name in node.inputs if not isinstance(self._graph.nodes[name], Model)]
        return min(self.slots[name].ready_until for name in tables)

    def _first_instant(self, node: Node) -> datetime:
        """Where the node's windows begin: predictions, and what reads them, at the first cutoff."""
        if isinstance(node, Predictions):
            return node.model.train.after(self._project.start)
        if node.inputs and not isinstance(node, Source):
            predictions = [self._graph.nodes[name] for name in node.inputs]
            return max(self._first_instant(one) for one in predictions if not isinstance(one, Model))
        return self._project.start

    def _is_due(self, node: Source, end: int) -> bool:
        ended = self.local(end)
        return (ended if node.delay is None else node.delay.after(ended)) <= self._now
