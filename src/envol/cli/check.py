"""`envol check`: the project validated without running it, and its graph as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envol.cli.options import JsonOption, ProjectOption
from envol.cli.output import console, count, print_json

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from envol.project import Project
    from envol.project.nodes import Node


def check(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Validate the project without running it, and print its graph.

    Reads envol.toml, imports the modules, closes the graph, resolves the parameters, and looks at every
    contract and calendar. Nothing is computed or written.
    """
    from envol.project import load_project

    found = load_project(project)
    assert found.start  # an instant that the project's calendar knows
    nodes, _ = found.definitions, found.parameters
    if json:
        print_json({**_about(found), "nodes": [_described(found, name) for name in nodes]})
        return
    out = console()
    out.print(_tree(found))
    kinds = [node.kind for node in found.graph.nodes.values()]
    told = [count(kinds.count(kind), kind) for kind in dict.fromkeys(kinds) if kind in _DECLARED]
    out.print(f"\n{found.name} is declared rightly: {', '.join(told)}. Next: envol run")


_DECLARED = ("source", "table", "model", "value")


def _about(project: Project) -> dict[str, Any]:
    return {
        "project": project.name,
        "root": str(project.root),
        "timezone": project.calendar.name,
        "start": project.start,
        "end": project.end,
    }


def _described(project: Project, name: str) -> dict[str, Any]:
    graph, node = project.graph, project.graph.nodes[name]
    return {
        "node": name,
        "kind": node.kind,
        "module": node.module,
        "inputs": list(node.inputs),
        "period": str(graph.periods[name]) if name in graph.periods else None,
        "settings": _settings(node),
        "contract": None if node.contract is None else node.contract.__name__,
        "parameters": dict(project.parameters[name].values) if name in project.parameters else {},
        "doc": _summary(node),
    }


def _settings(node: Node) -> dict[str, str]:
    """What a node says about time, as text."""
    from envol.project.nodes import Model, Source, Table, Value

    if isinstance(node, Source):
        return {"delay": str(node.delay)} if node.delay else {}
    if isinstance(node, Table):
        return (
            {"lookback": ", ".join(f"{name} {span}" for name, span in node.lookback.items())}
            if (node.lookback)
            else {}
        )
    if isinstance(node, Model):
        return {"train": str(node.train), "every": str(node.every), "target": node.target}
    return {"unit": node.unit} if isinstance(node, Value) else {}


def _summary(node: Node) -> str:
    return node.doc.strip().partition("\n")[0]


def _tree(project: Project) -> Tree:
    """Sources at the top; every node once, below the input that is furthest from the sources."""
    from rich.text import Text
    from rich.tree import Tree

    graph = project.graph
    end = "" if project.end is None else f" to {project.config.project.end}"
    root = Tree(
        Text.assemble(
            (project.name, "bold"), f"  from {project.config.project.start}{end}, {project.calendar.name}"
        ),
        guide_style="dim",
    )
    depth: dict[str, int] = {}
    branches: dict[str, Tree] = {}
    for name, node in graph.nodes.items():
        depth[name] = 1 + max((depth[one] for one in node.inputs), default=-1)
        above = max(node.inputs, key=lambda one: depth[one], default=None)
        parent = root if above is None else branches[above]
        branches[name] = parent.add(_label(project, node, [one for one in node.inputs if one != above]))
    return root


def _label(project: Project, node: Node, others: list[str]) -> Text:
    from rich.text import Text

    periods = project.graph.periods
    facts = [node.kind]
    if node.name in periods:
        facts.append(str(periods[node.name]))
    facts += [f"{key} {value}" for key, value in _settings(node).items()]
    if node.contract is not None:
        facts.append(f"contract {node.contract.__name__}")
    text = Text.assemble((node.name, "bold"), "  ", (", ".join(facts), "cyan"))
    if others:
        text.append(f"  with {', '.join(others)}", "dim")
    if summary := _summary(node):
        text.append(f"\n{summary}", "dim italic")
    return text
