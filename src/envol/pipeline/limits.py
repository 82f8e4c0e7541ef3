"""How many tasks may run side by side: of one node, of those that need the same resource, and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Semaphore
from typing import Self

from envol.project.nodes import Model, Node

_TRAINING = "training"


class Limits:
    """Counts what the running tasks of a run occupy; it ends with the run, however that ends.

    Args:
        resources: how many tasks may hold each resource at once.
    """

    def __init__(self, resources: Mapping[str, int]) -> None:
        self._most = {("resource", name): most for name, most in resources.items()}
        # Two trainings at a time would fight for the same cores (see docs/decisions).
        self._most[_TRAINING, ""] = 1
        self._used: Counter[tuple[str, str]] = Counter()

    def allow(self, node: Node) -> bool:
        """Whether a task of the node may begin now."""
        within = all(self._used[key] < self._most[key] for key in self._of(node) if key in self._most)
        return within and (node.at_once is None or self._used["node", node.name] < node.at_once)

    def begin(self, node: Node) -> None:
        """A task of the node has begun."""
        self._used.update(self._of(node))

    def end(self, node: Node) -> None:
        """A task of the node has ended."""
        self._used.subtract(self._of(node))

    def _of(self, node: Node) -> list[tuple[str, str]]:
        keys = [("node", node.name), *(("resource", name) for name in node.resources)]
        return [*keys, (_TRAINING, "")] if isinstance(node, Model) else keys


class Slot:
    """A task's place among those that compute; given up while it waits for something else.

    Args:
        slots: as many as tasks may compute side by side.
    """

    def __init__(self, slots: Semaphore) -> None:
        self._slots = slots
        self._held = False

    def take(self) -> None:
        """Wait for a place, unless it has one."""
        if not self._held:
            self._slots.acquire()
            self._held = True

    def give_up(self) -> None:
        """Let another task have the place."""
        if self._held:
            self._held = False
            self._slots.release()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()
