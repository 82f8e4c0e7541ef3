"""How many tasks may run side by side: of one node, and of those that need the same resource."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

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
