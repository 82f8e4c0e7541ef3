"""When the next window of a node falls due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from envol.project.nodes import Model, Node, Predictions, Source

if TYPE_CHECKING:
    from envol.pipeline.plan import Plan
    from envol.project import Project


@dataclass(frozen=True)
class Next:
    """The next window (or a model's next cutoff) by its key, and the instant from which it can be made."""

    key: str
    at: datetime


def next_due(project: Project, plan: Plan, name: str) -> Next | None:
    """What of the node comes next; None where the project's data end before it."""
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
    if project.end is not None and end.timestamp() > project.end.timestamp():
        return None
    return Next(key, _ready_at(project, node, end))


def next_of_all(project: Project, plan: Plan) -> tuple[str, Next] | None:
    """The source whose window falls due next, and that window; None where the data of all have ended.

    Whatever else falls due, a training as well, does so at an instant at which some source's window does.
    """
    following = ((name, next_due(project, plan, name)) for name in plan.nodes if _is_source(plan, name))
    found = [(name, one) for name, one in following if one is not None]
    # Of one zone, datetimes are compared by wall time, which repeats when clocks go back.
    return min(found, key=lambda pair: pair[1].at.timestamp(), default=None)


def _is_source(plan: Plan, name: str) -> bool:
    return isinstance(plan.nodes[name].node, Source)


def _first_instant(project: Project, node: Node) -> datetime:
    if isinstance(node, Predictions):
        return node.model.train.after(project.start)
    inputs = [project.graph.nodes[one] for one in node.inputs]
    return max(
        (_first_instant(project, one) for one in inputs if not isinstance(one, Model)), default=project.start
    )


def _ready_at(project: Project, node: Node, end: datetime) -> datetime:
    """When everything that a node reads up to `end` is complete: the latest of the delays of its sources."""
    if isinstance(node, Source):
        return end if node.delay is None else node.delay.after(end)
    inputs = [project.graph.nodes[one] for one in node.inputs]
    ready = (_ready_at(project, one, end) for one in inputs if not isinstance(one, Model))
    return max(ready, key=datetime.timestamp)
