"""`envol contract`: what tables hold, and what their contracts say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import console, count, moment, print_json, table

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from envol.pipeline.checking.recheck import Broken
    from envol.project import Project
    from envol.storage import Lake, Store

SHOWN = 50
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="Name of the table.")]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="DATE", help="Only windows from this day or instant on.", show_default=False
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="DATE", help="Only windows before this day or instant.", show_default=False),
]
LimitOption = Annotated[int, typer.Option(min=1, metavar="N", help="Print so many at most.")]


def suggest(
    name: TableArgument,
    begin: FromOption = None,
    until: ToOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Print a contract that the stored rows meet, as Python code.

    It says of each column what was seen: read it, and keep what you know to hold.
    """
    from envol.pipeline.checking.suggest import suggest as suggested

    with opened(project) as (found, store):
        code = suggested(_lake(found, store), name, *_range(found, begin, until))
    if json:
        print_json({"table": name, "code": code})
    else:
        print(code, end="")


def check(
    name: TableArgument,
    begin: FromOption = None,
    until: ToOption = None,
    limit: LimitOption = SHOWN,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Count the stored rows that break the contract as it is declared now.

    Nothing is changed: it shows what a contract would do before a run makes the windows again.
    """
    from envol.pipeline.checking.recheck import recheck

    with opened(project) as (found, store):
        windows = list(recheck(found, _lake(found, store), name, *_range(found, begin, until)))
    broken = [one for one in windows if one.rows]
    if json:
        print_json({"table": name, "windows": len(windows), "broken": broken})
    else:
        _print_broken(name, windows, broken, limit)


def changes(
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only of this table.")] = None,
    limit: LimitOption = SHOWN,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List how the columns of tables have changed, the newest first."""
    with opened(project) as (found, store):
        told = schema_changes(found, store, name, limit) if store.exists() else []
        if json:
            print_json(told)
        elif told:
            console().print(_change_rows(told, found.calendar.zone))
        else:
            print("no change of columns was seen")


def schema_changes(
    project: Project, store: Store, name: str | None, limit: int | None
) -> list[dict[str, Any]]:
    """The newest changes of tables' columns, the newest first, for JSON.

    Raises:
        NotFoundError: the project declares no such table.
    """
    from envol.errors import NotFoundError
    from envol.pipeline.checking.schema_changes import changes, lines
    from envol.project.names import nearest

    nodes = project.graph.nodes
    if name is not None and name not in nodes:
        raise NotFoundError(f"the project declares no table {name!r}", remedy=nearest(name, nodes))
    return [
        {
            "table": one.node,
            "window": project.calendar.from_epoch(project.graph.period_of(one.node), one.window_start).key
            if one.node in nodes
            else None,
            "at": one.at,
            "run": one.run,
            "refused": one.refused,
            "columns": one.columns,
            "diff": lines(one.columns),
        }
        for one in reversed(changes(store.metadata, name, limit))
    ]


def _lake(project: Project, store: Store) -> Lake:
    """The project's tables; looking must not make any."""
    from envol.errors import NotFoundError

    if not store.exists():
        raise NotFoundError(
            f"the project {project.name} has no tables yet", remedy="make them with: envol run"
        )
    return store.lake


def _range(project: Project, begin: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    calendar = project.calendar
    return (
        None if begin is None else calendar.instant(begin),
        None if until is None else calendar.instant(until),
    )


def _print_broken(name: str, windows: list[Broken], broken: list[Broken], limit: int) -> None:
    total = sum(one.of for one in windows)
    if not broken:
        print(f"{name}: all of {count(total, 'row')} in {count(len(windows), 'window')} meet the contract")
        return
    out = console()
    rows = table("window", "rows", "of", "rules", right=("rows", "of"), wrap=("rules",))
    for one in broken[:limit]:
        rows.add_row(one.window, f"{one.rows:,}", f"{one.of:,}", _rules(one.rules))
    out.print(rows)
    rules = Counter[str]()
    for one in broken:
        rules.update(one.rules)
    more = f", {limit:,} shown: --limit {len(broken)} shows all" if len(broken) > limit else ""
    out.print(
        f"\n{name}: {sum(one.rows for one in broken):,} of {count(total, 'row')} break the contract,"
        f" in {len(broken):,} of {count(len(windows), 'window')}{more}"
    )
    out.print(_rules(rules))


def _rules(rules: dict[str, int]) -> str:
    return ", ".join(
        f"{number:,} x {rule}" for rule, number in sorted(rules.items(), key=lambda one: -one[1])
    )


def _change_rows(told: list[dict[str, Any]], zone: tzinfo) -> Any:
    rows = table("table", "since window", "change", "seen", "run", wrap=("change",), spare=("run",))
    for one in told:
        rows.add_row(
            one["table"],
            (one["window"] or "") + " (failed)" * one["refused"],
            "\n".join(one["diff"]),
            moment(one["at"], zone),
            one["run"],
        )
    return rows
