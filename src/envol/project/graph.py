"""The graph: nodes in the order of their data, with every fault of the declaration named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from envol.errors import ProjectError
from envol.project.contracts import check_contract
from envol.project.names import nearest
from envol.project.nodes import Model, Node, Outcomes, Predictions, Source, Table, Value, derived
from envol.project.windows import Period, Span

QUARANTINE = "_quarantine"
# Every window of the first lies inside one window of each of the others.
_NESTED = {
    Period.HOUR: {Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH},
    Period.DAY: {Period.DAY, Period.WEEK, Period.MONTH},
    Period.WEEK: {Period.WEEK},
    Period.MONTH: {Period.MONTH},
}


@dataclass(frozen=True)
class Graph:
    """All nodes by name, inputs before what reads them, and the period of each but models."""

    nodes: Mapping[str, Node]
    periods: Mapping[str, Period]

    def period_of(self, name: str) -> Period:
        """How long the node's windows are. Models have none: they are fitted at cutoffs."""
        return self.periods[name]

    def lookback(self, node: Node, name: str) -> Span | None:
        """How much before the window the node reads of its input `name`."""
        return (node.lookback.get(name) or node.history.get(name)) if isinstance(node, Table) else None

    def reads_window(self, node: Node, name: str) -> bool:
        """Whether the node reads the window itself of its input `name`, and not only what came before."""
        return not isinstance(node, Table) or name not in node.history

    def reads(self, node: Node) -> dict[str, str]:
        """By input what of it is read for a window: "window", "window and 7d before", "7d before"."""
        told = {}
        for name in node.inputs:
            span = self.lookback(node, name)
            window = "window" if self.reads_window(node, name) else ""
            told[name] = " and ".join(part for part in (window, span and f"{span} before") if part)
        return told

    def readers(self, name: str) -> list[Node]:
        """The nodes that read `name`."""
        return [node for node in self.nodes.values() if name in node.inputs]

    def of(self, kind: type[Node]) -> list[Node]:
        """The nodes of one kind."""
        return [node for node in self.nodes.values() if isinstance(node, kind)]

    def upstream(self, names: Iterable[str]) -> set[str]:
        """The named nodes and everything that they are made from.

        Raises:
            ProjectError: for an unknown name, with the nearest known one.
        """
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self.nodes:
                raise ProjectError(f"no node is called {name!r}", remedy=nearest(name, self.nodes))
            if name not in found:
                found.add(name)
                waiting.extend(self.nodes[name].inputs)
        return found


def build_graph(declared: Iterable[Node]) -> Graph:
    """Close the graph over the declared nodes and what their models bring.

    Raises:
        ProjectError: duplicate or reserved name, unknown input, cycle, or periods that do not fit.
    """
    nodes: dict[str, Node] = {}
    for node in declared:
        for one in (node, *(derived(node) if isinstance(node, Model) else ())):
            _add(one, nodes)
    for node in nodes.values():
        _check_node(node, nodes)
    ordered = {name: nodes[name] for name in _order(nodes)}
    periods: dict[str, Period] = {}
    for node in ordered.values():
        period = _period(node, periods)
        if period is not None:
            periods[node.name] = period
    return Graph(ordered, periods)


def _add(node: Node, nodes: dict[str, Node]) -> None:
    for other in nodes.values():
        if other.name.lower() != node.name.lower():
            continue
        if other.name != node.name:
            problem = f"{other.name!r} differs from it only in upper and lower case, which tables do not"
        elif brought := [one for one in (node, other) if isinstance(one, Predictions | Outcomes)]:
            problem = f"the model {brought[0].model.name!r} brings a table of this name with it"
        else:
            problem = f"{other.module} and {node.module} both declare this name"
        raise ProjectError(problem, node=node.name, remedy="rename one of them")
    nodes[node.name] = node


def _check_node(node: Node, nodes: Mapping[str, Node]) -> None:
    if node.name.endswith(QUARANTINE):
        raise ProjectError(
            f"names that end in {QUARANTINE} are for quarantined rows", node=node.name, remedy="rename it"
        )
    if node.contract is not None:
        check_contract(node.contract, node.name)
    read = [argument.name for argument in node.arguments if argument.is_input]
    if isinstance(node, Source) and read:
        raise ProjectError(
            f"a source reads no tables, but has the parameter {read[0]!r}",
            node=node.name,
            remedy="declare it with @table, or give the parameter another type",
        )
    if isinstance(node, Value):
        if not isinstance(nodes.get(node.model), Model):
            models = [name for name, other in nodes.items() if isinstance(other, Model)]
            raise ProjectError(
                f"no model is called {node.model!r}", node=node.name, remedy=nearest(node.model, models)
            )
        return
    if isinstance(node, Table):
        if not node.inputs:
            raise ProjectError(
                "a table is made from at least one other",
                node=node.name,
                remedy="name a node as parameter, or declare it with @source",
            )
        _check_spans(node)
    tables = [name for name, other in nodes.items() if not isinstance(other, Model) and name != node.name]
    for name in node.inputs:
        if name not in nodes:
            raise ProjectError(f"unknown input {name!r}", node=node.name, remedy=nearest(name, tables))
        if isinstance(nodes[name], Model) and not isinstance(node, Predictions):
            raise ProjectError(
                f"{name!r} is a model, not a table",
                node=node.name,
                remedy=f"read {name}_predictions or {name}_outcomes",
            )


def _check_spans(node: Table) -> None:
    for setting, spans in (("lookback", node.lookback), ("history", node.history)):
        for name in spans:
            if name not in node.inputs:
                raise ProjectError(
                    f"{setting} names {name!r}, which is no input",
                    node=node.name,
                    remedy=nearest(name, node.inputs),
                )
    if both := set(node.lookback) & set(node.history):
        raise ProjectError(
            f"{min(both)!r} is both in lookback and in history",
            node=node.name,
            remedy="keep it in lookback to read the window as well, in history to read only what came before",
        )
    if set(node.inputs) == set(node.history):
        raise ProjectError(
            "all its inputs are in history, so that nothing says which windows it has",
            node=node.name,
            remedy="read at least one input's window itself",
        )


def _order(nodes: Mapping[str, Node]) -> list[str]:
    try:
        return list(TopologicalSorter({name: node.inputs for name, node in nodes.items()}).static_order())
    except CycleError as error:
        path: list[str] = error.args[1]
        raise ProjectError(
            "these nodes need each other: " + " -> ".join(path), remedy="take one of these inputs away"
        ) from None


def _period(node: Node, periods: Mapping[str, Period]) -> Period | None:
    if isinstance(node, Source):
        return node.every
    if isinstance(node, Model):
        return None
    inputs = {name: periods[name] for name in node.inputs if name in periods}
    declared = node.every if isinstance(node, Table) else None
    if isinstance(node, Outcomes):
        declared = inputs[node.model.predictions]
    if declared is None and len(set(inputs.values())) > 1:
        told = ", ".join(f"{name} {period}" for name, period in inputs.items())
        raise ProjectError(
            f"its inputs have different windows ({told})",
            node=node.name,
            remedy=f'say which it has: @table(every="{_longest(inputs.values())}")',
        )
    period = declared or next(iter(inputs.values()))
    for name, other in inputs.items():
        if period not in _NESTED[other]:
            raise ProjectError(
                f"its windows of {period} cannot be made of whole windows of {name}, which has {other}",
                node=node.name,
                remedy=f"give both the same `every`, or {node.name} a longer one",
            )
    return period


def _longest(periods: Iterable[Period]) -> Period:
    return max(periods, key=list(Period).index)
