"""Which windows and cutoffs every node has at an instant, and how many of them are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from envol.project.nodes import Model, Node, Predictions, Source
from envol.project.windows import HOUR_SECONDS, Period, Span, Window

if TYPE_CHECKING:
    from envol.project import Project

Epochs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slots:
    """The due windows of a node, oldest first, as epochs; for a model the ranges it trains on.

    `keys` tells them apart in the records: the start of a window, the cutoff of a training.
    """

    starts: Epochs
    ends: Epochs
    keys: Epochs

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def ready_until(self) -> int:
        """Everything before this instant is due."""
        return int(self.ends[-1]) if len(self) else 0

    def overlapping(self, start: int, end: int) -> tuple[int, int]:
        """Indexes [a, b) of the windows that overlap [start, end)."""
        first, last = self.all_overlapping(np.array([start]), np.array([end]))
        return int(first[0]), int(last[0])

    def all_overlapping(self, starts: Epochs, ends: Epochs) -> tuple[Epochs, Epochs]:
        """The same for many ranges at once."""
        first = np.searchsorted(self.ends, starts, side="right")
        return first, np.maximum(first, np.searchsorted(self.starts, ends, side="left"))


class Schedule:
    """The slots of every node of a project at the instant `now` (aware)."""

    def __init__(self, project: Project, now: datetime) -> None:
        self._project = project
        self._graph = project.graph
        self._now = now
        self._start = int(project.start.timestamp())
        self._until = now if project.end is None else min(now, project.end)
        self._found: dict[tuple[Period, int], Epochs] = {}
        self.slots: dict[str, Slots] = {}
        for name, node in self._graph.nodes.items():
            self.slots[name] = self._cutoffs(node) if isinstance(node, Model) else self._windows(node)

    def input_ranges(self, node: Node, index: int) -> list[tuple[str, int, int]]:
        """What a slot of the node reads: (table, start, end) as epochs, trainings not included."""
        slots = self.slots[node.name]
        part = Slots(*(epochs[index : index + 1] for epochs in (slots.starts, slots.ends, slots.keys)))
        return [(name, int(starts[0]), int(ends[0])) for name, starts, ends in self._ranges(node, part)]

    def input_slots(self, node: Node) -> list[tuple[str, Epochs, Epochs]]:
        """By input, for all slots of the node at once: the slots [a, b) of the input that each reads."""
        return [
            (name, *self.slots[name].all_overlapping(starts, ends))
            for name, starts, ends in self._ranges(node, self.slots[node.name])
        ]

    def local(self, epoch: int) -> datetime:
        """The instant in the project's time zone."""
        return datetime.fromtimestamp(epoch, UTC).astimezone(self._project.calendar.zone)

    def window(self, node: Node, index: int) -> Window:
        """The window of a slot of a node that has windows."""
        slots = self.slots[node.name]
        period = self._graph.period_of(node.name)
        return Window(self.local(int(slots.starts[index])), self.local(int(slots.ends[index])), period)

    def label(self, node: Node, index: int) -> str:
        """What people call a slot: the key of its window, or the date of a cutoff."""
        if isinstance(node, Model):
            return self.local(int(self.slots[node.name].keys[index])).strftime("%Y-%m-%d")
        return self.window(node, index).key

    def due_at(self, node: Source, end: int) -> datetime:
        """When the source's window that ends then is complete."""
        ended = self.local(end)
        return ended if node.delay is None else node.delay.after(ended)

    def all_due_at(self, node: Source) -> Epochs:
        """When each of the source's windows was complete."""
        ends = self.slots[node.name].ends
        if node.delay is None:
            return ends
        return np.fromiter((int(self.due_at(node, end).timestamp()) for end in ends.tolist()), np.int64)

    def _ranges(self, node: Node, slots: Slots) -> list[tuple[str, Epochs, Epochs]]:
        ranges = []
        for name in node.inputs:
            if isinstance(self._graph.nodes[name], Model):
                continue
            span = self._graph.lookback(node, name)
            starts = slots.starts if span is None else self._before(span, slots.starts)
            ends = slots.ends if self._graph.reads_window(node, name) else slots.starts
            ranges.append((name, np.maximum(starts, self._start), ends))
        return ranges

    def _before(self, span: Span, starts: Epochs) -> Epochs:
        if span.unit == "h":
            return starts - span.count * HOUR_SECONDS
        earlier = (int(span.before(self.local(start)).timestamp()) for start in starts.tolist())
        return np.fromiter(earlier, np.int64, len(starts))

    def _windows(self, node: Node) -> Slots:
        bounds = self._bounds(self._graph.period_of(node.name), self._first_instant(node))
        if isinstance(node, Source):
            ready = len(bounds) - 1
            while ready > 0 and self.due_at(node, int(bounds[ready])) > self._now:
                ready -= 1
        else:
            ready = min(
                int(np.searchsorted(bounds, self.slots[name].ready_until, side="right"))
                - self._graph.reads_window(node, name)
                for name in self._tables(node)
            )
            ready = min(ready, len(bounds) - 1)
        starts, ends = bounds[: max(ready, 0)], bounds[1 : max(ready, 0) + 1]
        return Slots(starts, ends, starts)

    def _bounds(self, period: Period, start: datetime) -> Epochs:
        """Starts of the windows from `start` until now, and the last one's end."""
        key = (period, int(start.timestamp()))
        if key not in self._found:
            self._found[key] = np.array(self._project.calendar.bounds(period, start, self._until), np.int64)
        return self._found[key]

    def _cutoffs(self, node: Model) -> Slots:
        ready = min(self.slots[name].ready_until for name in self._tables(node))
        first = node.train.after(self._project.start)
        starts, cutoffs = list[int](), list[int]()
        cutoff, number = first, 0
        while cutoff <= self._until and cutoff.timestamp() <= ready:
            cutoffs.append(int(cutoff.timestamp()))
            starts.append(int(max(node.history_start(cutoff), self._project.start).timestamp()))
            number += 1
            cutoff = node.every.times(number).after(first)
        keys = np.array(cutoffs, np.int64)
        return Slots(np.array(starts, np.int64), keys, keys)

    def _tables(self, node: Node) -> list[str]:
        return [name for name in node.inputs if not isinstance(self._graph.nodes[name], Model)]

    def _first_instant(self, node: Node) -> datetime:
        """Where the node's windows begin: predictions, and what reads them, at the first cutoff."""
        if isinstance(node, Predictions):
            return node.model.train.after(self._project.start)
        if node.inputs and not isinstance(node, Source):
            predictions = [self._graph.nodes[name] for name in node.inputs]
            return max(self._first_instant(one) for one in predictions if not isinstance(one, Model))
        return self._project.start
