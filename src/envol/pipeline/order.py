"""The order of a run's tasks: each after the planned ones that it reads, older windows first."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator

from envol.pipeline.plan import Plan, Task
from envol.project.nodes import Model, Predictions

Key = tuple[str, int]


class Order:
    """Hands out the tasks of a plan as they become ready.

    A task is ready once all planned tasks that it reads are finished; one whose inputs failed never is.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rank = {name: rank for rank, name in enumerate(plan.nodes)}
        self._tasks = {(task.node, task.index): task for task in plan.tasks()}
        self._waits_for: dict[Key, int] = {}
        self._wanted_by: dict[Key, list[Key]] = {}
        self._ready: list[tuple[int, int, Key]] = []
        planned = {name: sorted(node.planned) for name, node in plan.nodes.items()}
        for key, task in self._tasks.items():
            needs = list(self._needs(task, planned))
            self._waits_for[key] = len(needs)
            for need in needs:
                self._wanted_by.setdefault(need, []).append(key)
            if not needs:
                self._push(key)

    def take(self, *, training: bool) -> Task | None:
        """The oldest ready task; trainings are left where they are unless `training`."""
        left = []
        taken = None
        while self._ready:
            entry = heapq.heappop(self._ready)
            if training or not isinstance(self._plan.nodes[entry[2][0]].node, Model):
                taken = self._tasks[entry[2]]
                break
            left.append(entry)
        for entry in left:
            heapq.heappush(self._ready, entry)
        return taken

    def finished(self, task: Task) -> None:
        """The task is made (or was found unchanged): what waited for it may become ready."""
        for key in self._wanted_by.pop((task.node, task.index), ()):
            if key in self._waits_for:
                self._waits_for[key] -= 1
                if self._waits_for[key] == 0:
                    self._push(key)

    def fell_through(self, task: Task) -> list[Task]:
        """The task was not made: returns all that can therefore not be made either."""
        lost = []
        waiting = [(task.node, task.index)]
        while waiting:
            for key in self._wanted_by.pop(waiting.pop(), ()):
                if self._waits_for.pop(key, None) is not None:
                    lost.append(self._tasks[key])
                    waiting.append(key)
        return lost

    def _needs(self, task: Task, planned: dict[str, list[int]]) -> Iterator[Key]:
        node = self._plan.nodes[task.node].node
        for name, first, last in self._plan.input_slots(node, task.index):
            slots = planned[name]
            for position in range(bisect_left(slots, first), bisect_left(slots, last)):
                yield name, slots[position]
        if isinstance(node, Predictions):
            for slot in self._plan.trainings_before(node, task.index):
                yield node.model.name, slot

    def _push(self, key: Key) -> None:
        name, index = key
        end = self._plan.nodes[name].slots.ends[index]
        heapq.heappush(self._ready, (end, self._rank[name], key))
