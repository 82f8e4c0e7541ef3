"""The order of a run's tasks: each after the planned ones that it reads, older windows first (or newer)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np

from envol.pipeline.plan import Plan, Task
from envol.project.nodes import Node, Predictions

Key = tuple[str, int]
HORIZON = 2000
"""Tasks looked at ahead of those that run: what a run of a million tasks keeps of them in memory."""
_PLANNED, _SEEN, _MADE, _LOST = 1, 2, 3, 4


class Order:
    """Hands out the tasks of a plan as they become ready.

    A task is ready once all planned tasks that it reads are finished; one whose inputs failed never is.

    Args:
        newest_first: begin with the newest windows; what these read comes before them all the same.
    """

    def __init__(self, plan: Plan, *, newest_first: bool = False, horizon: int = HORIZON) -> None:
        self._plan, self._horizon = plan, horizon
        self._names = list(plan.nodes)
        self._state = {name: (node.reason > 0).astype(np.uint8) for name, node in plan.nodes.items()}
        planned = [node.planned for node in plan.nodes.values()]
        rank = np.repeat(np.arange(len(planned)), [len(indexes) for indexes in planned])
        ends = [node.slots.ends[one] for node, one in zip(plan.nodes.values(), planned, strict=True)]
        end = np.concatenate([*ends, np.zeros(0, np.int64)])
        sequence = np.lexsort((rank, -end if newest_first else end))
        self._ranks = rank[sequence].astype(np.int16)
        self._indexes = np.concatenate([*planned, np.zeros(0, np.intp)])[sequence].astype(np.int32)
        self._next = self._seen = 0
        self._place: dict[Key, int] = {}
        self._waits_for: dict[Key, int] = {}
        self._wanted_by: dict[Key, list[Key]] = {}
        self._ready: dict[str, list[tuple[int, Key]]] = {name: [] for name in plan.nodes}
        self._lost: list[Task] = []

    def take(self, allowed: Callable[[Node], bool]) -> Task | None:
        """The first ready task of a node that is allowed to run now."""
        self._look_ahead()
        ready = [
            (heap[0], name)
            for name, heap in self._ready.items()
            if heap and allowed(self._plan.nodes[name].node)
        ]
        if not ready:
            return None
        _, key = heapq.heappop(self._ready[min(ready)[1]])
        return self._plan.task(*key)

    def finished(self, task: Task) -> None:
        """The task is made (or was found unchanged): what waited for it may become ready."""
        done = (task.node, task.index)
        self._settle(done, _MADE)
        for key in self._wanted_by.pop(done, ()):
            if key in self._waits_for:
                self._waits_for[key] -= 1
                if self._waits_for[key] == 0:
                    self._push(key)

    def fell_through(self, task: Task) -> None:
        """The task was not made: what reads it is lost."""
        self._settle((task.node, task.index), _LOST)
        self._lose_readers((task.node, task.index))

    def lost(self) -> list[Task]:
        """The tasks lost since it was asked last, because something that they read was not made."""
        lost, self._lost = self._lost, []
        return lost

    def _look_ahead(self) -> None:
        while len(self._waits_for) < self._horizon and self._next < len(self._indexes):
            name = self._names[self._ranks[self._next]]
            index = int(self._indexes[self._next])
            self._next += 1
            if self._state[name][index] == _PLANNED:
                self._see((name, index))

    def _see(self, wanted: Key) -> None:
        """Take a task in, and before it the planned ones that it reads."""
        waiting = [wanted]
        while waiting:
            key = waiting[-1]
            if self._state_of(key) != _PLANNED:
                waiting.pop()
                continue
            needs = list(self._needs(key))
            unseen = [need for need in needs if self._state_of(need) == _PLANNED]
            if unseen:
                waiting.extend(reversed(unseen))
                continue
            waiting.pop()
            self._take_in(key, needs)

    def _take_in(self, key: Key, needs: list[Key]) -> None:
        self._state[key[0]][key[1]] = _SEEN
        self._seen += 1
        self._place[key], self._waits_for[key] = self._seen, 0
        if any(self._state_of(need) == _LOST for need in needs):
            self._lose(key)
            return
        for need in needs:
            if self._state_of(need) == _SEEN:
                self._wanted_by.setdefault(need, []).append(key)
                self._waits_for[key] += 1
        if not self._waits_for[key]:
            self._push(key)

    def _needs(self, key: Key) -> Iterator[Key]:
        """The tasks of this run that a task reads."""
        name, index = key
        for other, first, last in self._plan.input_slots(name, index):
            for slot in np.flatnonzero(self._state[other][first:last]).tolist():
                yield other, first + slot
        node = self._plan.nodes[name]
        if isinstance(node.node, Predictions):
            model = self._plan.nodes[node.node.model.name]
            before = model.slots.ends <= node.slots.starts[index]
            for slot in np.flatnonzero(before & (self._state[model.node.name] > 0)).tolist():
                yield model.node.name, slot

    def _push(self, key: Key) -> None:
        heapq.heappush(self._ready[key[0]], (self._place[key], key))

    def _settle(self, key: Key, state: int) -> None:
        self._state[key[0]][key[1]] = state
        self._waits_for.pop(key, None)
        self._place.pop(key, None)

    def _lose(self, key: Key) -> None:
        self._settle(key, _LOST)
        self._lost.append(self._plan.task(*key))
        self._lose_readers(key)

    def _lose_readers(self, key: Key) -> None:
        waiting = [key]
        while waiting:
            for reader in self._wanted_by.pop(waiting.pop(), ()):
                if self._state_of(reader) == _SEEN:
                    self._settle(reader, _LOST)
                    self._lost.append(self._plan.task(*reader))
                    waiting.append(reader)

    def _state_of(self, key: Key) -> int:
        return int(self._state[key[0]][key[1]])
