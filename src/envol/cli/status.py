"""`envol status`: how everything stands, on one screen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import (
    NARROW,
    STATES,
    console,
    count,
    duration,
    metric,
    moment,
    print_apart,
    print_json,
    size,
    table,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from envol.cli.output import Table
    from envol.pipeline import Plan
    from envol.project import Project
    from envol.storage import Store

LAST_RUNS = 3
RECENT_SECONDS = 7 * 24 * 3600
"""How long a change of a table's columns is told."""


def status(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Show how everything stands: conductor, last runs, tables, models."""
    from envol.pipeline import make_plan
    from envol.project.clock import the_clock

    with opened(project) as (found, store):
        made = make_plan(found, store, the_clock())
        told: dict[str, Any] = {
            "project": found.name,
            "root": str(found.root),
            "to_do": len(made),
            "blocked": sum(node.obstacles().total() for node in made.nodes.values()),
            "conductor": _conductor(found, store, made),
            "runs": _runs(store),
            "tables": _tables(store, made),
            "models": _models(found, store),
            "schema_changes": _schema_changes(found, store, made.now.timestamp()),
        }
        if json:
            print_json(told)
        else:
            _print(console(), found, told)


def _conductor(project: Project, store: Store, made: Plan) -> dict[str, Any]:
    """Who keeps the project up to date, whether that is paused, and what falls due next."""
    from dataclasses import asdict

    from envol.pipeline import Control, conductors, next_of_all
    from envol.project.clock import the_clock

    working = conductors(store.metadata)
    paused = Control(store.metadata, the_clock()).wishes().paused
    following = next_of_all(project, made)
    return {
        "active": working.active and _with_instant(asdict(working.active), "since"),
        "standby": [_with_instant(asdict(one), "since") for one in working.waiting],
        "paused": paused and _with_instant(asdict(paused), "at"),
        "next": following and {"node": following[0], "window": following[1].key, "due_at": following[1].at},
    }


def _with_instant(told: dict[str, Any], name: str) -> dict[str, Any]:
    return {**told, name: datetime.fromtimestamp(told[name], UTC)}


def _runs(store: Store) -> list[dict[str, Any]]:
    from envol.cli.history import last_runs

    return last_runs(store, LAST_RUNS)


def _tables(store: Store, made: Plan) -> list[dict[str, Any]]:
    """Every table that the project declares, with what is made of it, and what is kept besides."""
    from envol.pipeline import Records, Totals
    from envol.project.graph import QUARANTINE
    from envol.project.nodes import Model

    any_made = any(node.made.any() for node in made.nodes.values())
    totals = Records(store.metadata).totals()
    infos = {info.name: info for info in store.lake.tables()} if any_made else {}
    rows = []
    for name, node in made.nodes.items():
        if isinstance(node.node, Model):
            continue
        windows, total = node.made.nonzero()[0], totals.get(name, Totals())
        info = infos.get(name)
        rows.append(
            {
                "table": name,
                "kind": node.node.kind,
                "windows": len(windows),
                "due": len(node.slots),
                "rows": total.rows,
                "last": made.schedule.label(node.node, int(windows[-1])) if len(windows) else None,
                "quarantined_rows": total.quarantined,
                "bytes": info.bytes if info else 0,
                "files": info.files if info else 0,
            }
        )
    known = set(made.nodes) | {name + QUARANTINE for name in made.nodes}
    for name, info in infos.items():
        if name not in known:  # of a node that is no longer declared
            rows.append({"table": name, "kind": "not declared", "windows": None, "due": None})
            rows[-1] |= {"rows": info.rows, "last": None, "quarantined_rows": 0}
            rows[-1] |= {"bytes": info.bytes, "files": info.files}
    return rows


def _schema_changes(project: Project, store: Store, now: float) -> list[dict[str, Any]]:
    """By table the last change of its columns that a run has seen of late."""
    from envol.cli.contract import schema_changes

    newest: dict[str, dict[str, Any]] = {}
    for one in schema_changes(project, store, None, None):
        if one["at"] > now - RECENT_SECONDS:
            newest.setdefault(one["table"], one)
    return list(newest.values())


def _models(project: Project, store: Store) -> list[dict[str, Any]]:
    """Every declared model: its newest version, its champion, and how that does on what came true since."""
    from envol.project.nodes import Model

    names = [node.name for node in project.graph.of(Model)]
    if not names or not _registered(store):
        return [{"model": name, "versions": 0, "champion": None, "live": None} for name in names]
    from envol.monitoring import performance
    from envol.project.clock import SystemClock
    from envol.registry import CHAMPION, Registry

    versions = Registry(store, SystemClock()).versions()
    rows = []
    for name in names:
        own = [one for one in versions if one.model == name]
        champion = next((one for one in own if CHAMPION in one.aliases), None)
        live = performance(project, store, name) if champion else None
        main = champion.metrics["main"] if champion else None
        rows.append(
            {
                "model": name,
                "versions": len(own),
                "newest": own[-1].version if own else None,
                "champion": champion.version if champion else None,
                "cutoff": champion.cutoff if champion else None,
                "metric": main,
                "backtest": champion.metrics["model"].get(main) if champion else None,
                "baseline": champion.metrics["baseline"].get(main) if champion else None,
                "live": live.overall.to_dict()["values"].get(main) if live else None,
                "live_windows": live.windows if live else 0,
            }
        )
    return rows


def _registered(store: Store) -> bool:
    """Whether there is any version; asked without the registry, which takes a second to import."""
    from sqlalchemy import select

    from envol.storage.tables import model_version

    with store.metadata.connect() as connection:
        return connection.execute(select(model_version.c.version).limit(1)).first() is not None


def _print(out: Console, project: Project, told: dict[str, Any]) -> None:
    from rich.text import Text

    wide = out.width >= NARROW
    end = f" to {project.config.project.end}" if project.end else ""
    parts: list[RenderableType] = [
        Text.assemble(
            (project.name, "bold"), f"  from {project.config.project.start}{end}, {project.calendar.name}"
        )
    ]
    parts.append(_conductor_lines(project, told["conductor"]))
    if told["runs"]:
        parts.append(_run_rows(project, told["runs"], wide=wide))
    parts.append(_table_rows(told["tables"]))
    if told["models"]:
        parts.append(_model_rows(project, told["models"], wide=wide))
    if told["schema_changes"]:
        parts.append("\n".join(_changed_columns(one) for one in told["schema_changes"]))
    print_apart(out, *parts, _next(told))


def _changed_columns(change: dict[str, Any]) -> str:
    since = f" since {change['window']}" if change["window"] else ""
    more = f"envol contract changes {change['table']}" if change["window"] else "envol contract changes"
    return f"{change['table']} has other columns{since}: {', '.join(change['diff'])}: {more}"


def _next(told: dict[str, Any]) -> str:
    """The sentence at the end: what to do."""
    if not told["runs"]:
        return f"Nothing was run yet: {count(told['to_do'], 'task')} to do. Start with: envol run"
    if told["runs"][0]["state"] == "failed":
        return f"The last run failed: envol runs {told['runs'][0]['run']} --failed"
    if told["to_do"]:
        at_it = told["conductor"]["active"] and not told["conductor"]["paused"]
        return f"{count(told['to_do'], 'task')} to do{'' if at_it else ': envol run'}"
    return "Everything that can be made is up to date."


def _conductor_lines(project: Project, told: dict[str, Any]) -> str:
    zone = project.calendar.zone

    def at(one: dict[str, Any]) -> str:
        return f"process {one['pid']} on {one['host']}, since {moment(one['since'], zone)}"

    lines = [f"conductor: {at(told['active'])}" if told["active"] else "conductor: none is active"]
    lines += [f"standby: {at(one)}" for one in told["standby"]]
    if paused := told["paused"]:
        why = f": {paused['reason']}" if paused["reason"] else ""
        lines.append(
            f"paused by {paused['by']} at {moment(paused['at'], zone)}{why}; go on with: envol resume"
        )
    if following := told["next"]:
        due = moment(following["due_at"], zone)
        lines.append(f"next due: {following['node']} {following['window']}, at {due}")
    return "\n".join(lines)


def _run_rows(project: Project, runs: list[dict[str, Any]], *, wide: bool) -> Table:
    from rich.text import Text

    failed = any(one["failed"] for one in runs)
    headers = ["run", "state", "started", "took", "done", *["failed"] * failed]
    rows = table(*headers, right=("took", "done", "failed"))
    for one in runs:
        rows.add_row(
            one["run"],
            Text(one["state"], STATES.get(one["state"], "")),
            moment(one["started_at"], project.calendar.zone)[0 if wide else 5 :],  # the id tells the year
            duration(one["seconds"]),
            f"{one['done']:,} of {one['planned']:,}",
            *[f"{one['failed']:,}" if one["failed"] else ""] * failed,
        )
    return rows


def _table_rows(tables: list[dict[str, Any]]) -> Table:
    quarantined = any(one["quarantined_rows"] for one in tables)
    headers = ["table", "windows", "rows", "last", *["quarantine"] * quarantined, "size"]
    rows = table(*headers, right=("windows", "rows", "quarantine", "size"))
    for one in tables:
        windows = "not declared" if one["due"] is None else f"{one['windows']:,} of {one['due']:,}"
        cells = [one["table"], windows, f"{one['rows']:,}", one["last"] or ""]
        if quarantined:
            cells.append(f"{one['quarantined_rows']:,}" if one["quarantined_rows"] else "")
        rows.add_row(*cells, size(one["bytes"]) if one["bytes"] else "")
    return rows


def _model_rows(project: Project, models: list[dict[str, Any]], *, wide: bool) -> Table:
    rows = table("model", "champion", "cutoff", "backtest", "baseline", "live", spare=("baseline", "cutoff"))
    for one in models:
        if not one["versions"]:
            rows.add_row(one["model"], "not trained", "", "", "", "")
            continue
        live = metric(one["live"], interval=wide)
        rows.add_row(
            one["model"],
            f"version {one['champion']}" if one["champion"] else f"none of {one['versions']}",
            one["cutoff"].astimezone(project.calendar.zone).strftime("%Y-%m-%d") if one["cutoff"] else "",
            f"{one['metric'] or ''} {metric(one['backtest'], interval=wide)}".strip(),
            metric(one["baseline"], interval=wide),
            f"{live} in {count(one['live_windows'], 'window')}" if live and wide else live,
        )
    return rows
