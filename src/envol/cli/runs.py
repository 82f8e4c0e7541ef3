"""`envol runs`: what was run, how each task went, and its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import NARROW, STATES, console, count, duration, moment, print_json, table

if TYPE_CHECKING:
    from datetime import tzinfo

    from rich.console import Console

SHOWN_RUNS = 20
SHOWN_TASKS = 100


def runs(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run by its id or the start of it, or: last.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Print what the tasks wrote, and their errors.")] = False,
    node: Annotated[
        str | None, typer.Option("--node", "-n", metavar="NODE", help="Only its tasks.", show_default=False)
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", "-w", metavar="WINDOW", help="Only of this window.", show_default=False),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only tasks that failed.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List the last runs, or one run's tasks, their errors and logs.

    With --log, --node, --window or --failed and no RUN, the last run is meant.
    """
    from envol.cli.history import LAST, find_run, last_runs, tasks_of

    with opened(project) as (found, store):
        zone = found.calendar.zone
        if run is None and not (log or node or window or failed):
            listed = last_runs(store, SHOWN_RUNS)
            if json:
                print_json(listed)
            else:
                _print_runs(console(), zone, listed)
            return
        one = find_run(store, run or LAST)
        tasks = [
            task
            for task in tasks_of(store, one["run"], zone, logs=log)
            if (node is None or task["node"] == node)
            and (window is None or task["window"] == window)
            and (not failed or task["state"] == "failed")
        ]
        if json:
            print_json({**one, "tasks": tasks})
        elif log:
            _print_logs(console(), tasks)
        else:
            _print_tasks(console(), zone, one, tasks)


def _print_runs(out: Console, zone: tzinfo, listed: list[dict[str, Any]]) -> None:
    from rich.text import Text

    if not listed:
        out.print("nothing was run yet; start with: envol run")
        return
    counts = [name for name in ("failed", "skipped") if any(one[name] for one in listed)]
    rows = table("run", "state", "started", "took", "done", *counts, right=("took", "done", *counts))
    for one in listed:
        rows.add_row(
            one["run"],
            Text(one["state"], STATES.get(one["state"], "")),
            moment(one["started_at"], zone)[0 if out.width >= NARROW else 5 :],  # the id tells the year
            duration(one["seconds"]),
            f"{one['done']:,} of {one['planned']:,}",
            *(f"{one[name]:,}" if one[name] else "" for name in counts),
        )
    out.print(rows)
    out.print(f"\nOne of them: envol runs {listed[0]['run']}")


def _print_tasks(out: Console, zone: tzinfo, one: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    from rich.text import Text

    took = f", took {duration(one['seconds'])}" if one["seconds"] is not None else ""
    out.print(f"run {one['run']}: {one['state']}, started {moment(one['started_at'], zone)}{took}")
    if not tasks:
        out.print("no such task")
        return
    shown = tasks[-SHOWN_TASKS:]
    if len(shown) < len(tasks):
        out.print(
            f"the last {len(shown):,} of {count(len(tasks), 'task')}; --node, --window, --failed or --json"
        )
    retried = any(task["attempts"] > 1 for task in shown)
    headers = ["node", "window", "state", *["tries"] * retried, "rows", "took"]
    rows = table(*headers, right=("tries", "rows", "took"))
    for task in shown:
        cells = [task["node"], task["window"], Text(task["state"], STATES.get(task["state"], ""))]
        cells += [str(task["attempts"])] * retried
        cells.append("" if task["rows"] is None else f"{task['rows']:,}")
        rows.add_row(*cells, duration(task["seconds"]))
    out.print()
    out.print(rows)
    for task in shown:
        if task["error"]:
            out.print(task["error"], style="red", soft_wrap=True)


def _print_logs(out: Console, tasks: list[dict[str, Any]]) -> None:
    if not tasks:
        out.print("no such task")
    for task in tasks:
        took = f" in {duration(task['seconds'])}" if task["seconds"] is not None else ""
        out.print(f"== {task['node']} {task['window']}: {task['state']}{took}", style="bold")
        if task["error"]:
            out.print(task["error"], style="red", soft_wrap=True)
        if task["log"]:
            out.print(task["log"].rstrip("\n"), soft_wrap=True)
