"""`envol plan`: what a run would do now, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import (
    FromOption,
    JsonOption,
    NodesOption,
    ProjectOption,
    ToOption,
    opened,
    span_of,
)
from envol.cli.output import NARROW, console, count, moment, print_apart, print_json, table

if TYPE_CHECKING:
    from envol.cli.output import Table
    from envol.pipeline import NodePlan, Plan, Totals
    from envol.project import Project


def plan(
    node: NodesOption = None,
    first: FromOption = None,
    last: ToOption = None,
    windows: Annotated[bool, typer.Option("--windows", help="List each window.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a run would do now, and why."""
    from envol.pipeline import Records, make_plan
    from envol.project.clock import SystemClock

    with opened(project) as (found, store):
        start, end = span_of(found, first, last)
        made = make_plan(found, store, SystemClock(), nodes=node, start=start, end=end)
        totals = Records(store.metadata).totals()
        shown = _shown(found, made, node)
        if json:
            rows = [_described(found, made, totals, name, windows) for name in shown]
            print_json({"now": made.now, "tasks": len(made), "nodes": rows})
            return
        listing = [_listing(made, shown)] if windows and len(made) else []
        out = console()
        overview = _overview(found, made, totals, shown, wide=out.width >= NARROW)
        print_apart(out, overview, *listing, _sentence(made))


def _shown(project: Project, made: Plan, nodes: list[str] | None) -> list[str]:
    wanted = project.graph.upstream(made.nodes if nodes is None else nodes)
    return [name for name in made.nodes if name in wanted]


def _described(
    project: Project, made: Plan, totals: dict[str, Totals], name: str, windows: bool
) -> dict[str, Any]:
    from envol.pipeline import Totals, next_due

    current, total = made.nodes[name], totals.get(name, Totals())
    following = next_due(project, made, name)
    told = {
        "node": name,
        "kind": current.node.kind,
        "due": len(current.slots),
        "up_to_date": current.done,
        "to_do": dict(current.reasons()),
        "blocked": dict(current.obstacles()),
        "rows": total.rows,
        "quarantined_rows": total.quarantined,
        "quarantined_windows": total.quarantined_windows,
        "next": None if following is None else {"window": following.key, "due_at": following.at},
    }
    if windows:
        told["windows"] = [
            {"window": key, "state": state, "why": why} for key, state, why in _listed(made, current)
        ]
    return told


def _listed(made: Plan, current: NodePlan) -> list[tuple[str, str, str]]:
    """(window, "to do" or "blocked", why) of each slot that is not up to date, oldest first."""
    found = []
    for index in range(len(current.slots)):
        state, why = "to do", current.reason_of(index) or ""
        if not why:
            state, why = "blocked", current.obstacle_of(index) or ""
        if why:
            found.append((made.schedule.label(current.node, index), state, str(why)))
    return found


def _overview(
    project: Project, made: Plan, totals: dict[str, Totals], shown: list[str], *, wide: bool
) -> Table:
    from envol.pipeline import Totals, next_due

    nodes = [made.nodes[name] for name in shown]
    blocked = any(one.blocked.any() for one in nodes)
    quarantined = any(totals[name].quarantined for name in shown if name in totals)
    headers = ["node", *["kind"] * wide, "due", "up to date", "to do"]
    headers += ["blocked"] * blocked + ["quarantined"] * quarantined + ["next"]
    rows = table(*headers, right=("due", "up to date"), wrap=("to do", "blocked", "quarantined", "next"))
    for name, one in zip(shown, nodes, strict=True):
        cells = [
            name,
            *[one.node.kind] * wide,
            f"{len(one.slots):,}",
            f"{one.done:,}",
            _counts(one.reasons()),
        ]
        if blocked:
            cells.append(_counts(one.obstacles()))
        if quarantined:
            total = totals.get(name, Totals())
            told = f"{count(total.quarantined, 'row')} in {count(total.quarantined_windows, 'window')}"
            cells.append(told if total.quarantined else "")
        following = next_due(project, made, name)
        if following is None:
            cells.append("data end")
        elif following.at <= made.now:
            cells.append(following.key)
        else:
            cells.append(f"{following.key}, from {moment(following.at, project.calendar.zone)}")
        rows.add_row(*cells)
    return rows


def _counts(counts: Counter[str]) -> str:
    return "\n".join(f"{number:,} {why}" for why, number in counts.most_common())


def _listing(made: Plan, shown: list[str]) -> Table:
    rows = table("node", "window", "state", "why", wrap=("why",))
    for name in shown:
        for key, state, why in _listed(made, made.nodes[name]):
            rows.add_row(name, key, state, why)
    return rows


def _sentence(made: Plan) -> str:
    from envol.pipeline.plan import CHANGED
    from envol.project.nodes import Model

    trainings = sum(len(one.planned) for one in made.nodes.values() if isinstance(one.node, Model))
    windows = len(made) - trainings
    blocked = sum(one.obstacles().total() for one in made.nodes.values())
    parts = [f"make {count(windows, 'window')}"] * bool(windows)
    parts += [f"train {count(trainings, 'model version')}"] * bool(trainings)
    waiting = f" {count(blocked, 'window')} cannot be made yet." if blocked else ""
    if not parts:
        return f"A run would do nothing: all that can be made is up to date.{waiting}"
    told = f"A run would {' and '.join(parts)}. Start it with: envol run{'.' if waiting else ''}{waiting}"
    if any(set(CHANGED) & set(one.reasons()) for one in made.nodes.values()):
        told += "\nWhat went stale by a change can be kept as it is: envol accept --reason ..."
    return told
