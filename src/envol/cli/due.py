"""When the next window of a node is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envol.pipeline import Plan
    from envol.project import Project
    from envol.project.nodes import Node


@dataclass(frozen=True)
class Next:
    """The next window (or a model's next cutoff) by its key, and the instant from which it can be made."""

    key: str
    at: datetime


def next_due(project: Project, plan: Plan, name: str) -> Next | None:
    """What of the node comes next; None where the project's data end before it."""
    from envol.project.nodes import Model

    node = plan.nodes[name].node
    if isinstance(node, Model):
        cutoff = node.every.times(len(plan.nodes[name].slots)).after(node.train.after(project.start))
        key, end = cutoff.strftime("%Y-%m-%d"), cutoff
    else:
        ends = plan.nodes[name].slots.ends
        first = datetime.fromtimestamp(int(ends[-1]), UTC) if len(ends) else _first_instant(project, node)
        period = project.graph.period_of(name)
        window = project.calendar.window_at(period, first)
        if window.start < first:  # only whole windows are made
            window = project.calendar.window_at(period, window.end)
        key, end = window.key, window.end
    if project.end is not None and end > project.end:
        return None
    return Next(key, _ready_at(project, node, end))


def _first_instant(project: Project, node: Node) -> datetime:
    from envol.project.nodes import Model, Predictions

    if isinstance(node, Predictions):
        return node.model.train.after(project.start)
    inputs = [project.graph.nodes[one] for one in node.inputs]
    return max(
        (_first_instant(project, one) for one in inputs if not isinstance(one, Model)), default=project.start
    )


def _ready_at(project: Project, node: Node, end: datetime) -> datetime:
    """When everything that a node reads up to `end` is complete: the latest of the delays of its sources."""
    from envol.project.nodes import Model, Source

    if isinstance(node, Source):
        return end if node.delay is None else node.delay.after(end)
    inputs = [project.graph.nodes[one] for one in node.inputs]
    return max(_ready_at(project, one, end) for one in inputs if not isinstance(one, Model))
