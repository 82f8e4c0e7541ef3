"""`envol backfill` makes windows of the past; `envol accept` keeps stale ones as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import (
    ByOption,
    FromOption,
    JsonOption,
    NodesOption,
    ProjectOption,
    ReasonOption,
    ToOption,
    opened,
    said,
    span_of,
    who,
)
from envol.cli.output import STATES, console, count, duration, moment, print_json, table
from envol.errors import UserError

if TYPE_CHECKING:
    from envol.pipeline import Backfill
    from envol.project import Project
    from envol.storage import Store


def backfill(
    first: FromOption = None,
    last: ToOption = None,
    node: NodesOption = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the windows of these nodes again although nothing changed.")
    ] = False,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Begin with the newest windows; else with the oldest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the backfills and how far they are.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with one that was stopped.", show_default=False)
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Try again what failed or was left by a cancellation.", show_default=False
        ),
    ] = None,
    cancel: Annotated[
        str | None, typer.Option(metavar="ID", help="Leave what still waits.", show_default=False)
    ] = None,
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> int:
    """Make the windows of a range of time, or make them again.

    What is to be made is written down first. A conductor that is active carries it on whenever nothing falls
    due; where there is none, this command does. Ctrl-C leaves the rest for later.
    """
    from envol import pipeline
    from envol.project.clock import SystemClock

    with opened(project) as (found, store):
        clock = SystemClock()
        if show:
            return _list(found, pipeline.backfills(store.metadata), json)
        if cancel is not None:
            one = pipeline.cancel_backfill(store.metadata, cancel, clock.now(), who(by))
            return _tell(one, f"{one.state}: {count(one.waiting, 'window')} left as they are", json)
        if dry_run:
            return _dry_run(found, store, *_range(found, first, last), node, rerun, json)
        if retry is not None:
            wanted = pipeline.retry_backfill(store.metadata, retry)
        elif resume is not None:
            wanted = pipeline.find_backfill(store.metadata, resume)
        else:
            start, end = _range(found, first, last)
            asked = pipeline.request_backfill(
                found,
                store,
                clock,
                start=start,
                end=end,
                by=who(by),
                nodes=node,
                rerun=rerun,
                newest_first=newest_first,
            )
            if asked is None:
                return _nothing(json)
            wanted = asked
        if not wanted.is_open:
            return _tell(wanted, f"backfill {wanted.id} is {wanted.state}; again: --retry {wanted.id}", json)
        return _carry_on(found, store, wanted, json)


def accept(
    node: NodesOption = None,
    first: FromOption = None,
    last: ToOption = None,
    reason: ReasonOption = "",
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Keep stale windows as they are, instead of making them again.

    After a change of code, parameters or contract, `envol plan` shows which windows went stale. Accepted ones
    count as made by what is now; with what they were really made, who accepted them and why stays on record.
    """
    from envol.pipeline import accept as keep
    from envol.project.clock import SystemClock

    with opened(project) as (found, store):
        start, end = span_of(found, first, last)
        accepted = keep(
            found, store, SystemClock(), by=who(by), reason=said(reason), nodes=node, start=start, end=end
        )
    if json:
        print_json(accepted)
        return
    if not accepted:
        print("no stale window was found: envol plan shows what a run would do, and why")
        return
    rows = table("node", "accepted", "from", "to", right=("accepted",))
    for one in accepted:
        rows.add_row(one.node, f"{one.windows:,}", str(one.start.date()), str(one.end.date()))
    console().print(rows)


def _range(project: Project, first: str | None, last: str | None) -> tuple[Any, Any]:
    start, end = span_of(project, first, last)
    if start is None or end is None:
        raise UserError(
            "a backfill needs a range of time",
            remedy="say --from and --to, for example --from 2013-01-01 --to 2013-02-01",
        )
    return start, end


def _nothing(json: bool) -> int:
    if json:
        print_json(None)
    else:
        print("nothing to do: all of it is up to date (again all the same: --rerun)")
    return 0


def _carry_on(project: Project, store: Store, wanted: Backfill, json: bool) -> int:
    from envol import pipeline
    from envol.cli.progress import Reporter
    from envol.cli.run import report
    from envol.pipeline.conducting.control import CONDUCTOR
    from envol.pipeline.lease import holder
    from envol.project.clock import SystemClock

    if (active := holder(store.metadata, CONDUCTOR)) is not None:
        place = f"the conductor (process {active['pid']} on {active['host']})"
        return _tell(
            wanted,
            f"backfill {wanted.id}: {count(wanted.waiting, 'window')}, carried on by {place};"
            " how far it is: envol backfill --list",
            json,
        )
    reporter = Reporter(sys.stderr if json else sys.stdout)
    try:
        result = pipeline.carry_on(project, store, SystemClock(), wanted.id, observer=reporter)
    finally:
        reporter.close()
    code = report(store, result, json=json)
    after = pipeline.find_backfill(store.metadata, wanted.id)
    if not json and after.is_open:
        print(f"{count(after.waiting, 'window')} still wait: envol backfill --resume {after.id}")
    return code


def _dry_run(
    project: Project, store: Store, start: Any, end: Any, node: list[str] | None, rerun: bool, json: bool
) -> int:
    from envol.pipeline import Records, make_plan
    from envol.project.clock import SystemClock

    plan = make_plan(project, store, SystemClock(), nodes=node, start=start, end=end, rerun=rerun)
    seconds = Records(store.metadata).usual_seconds()
    planned = {name: len(one.planned) for name, one in plan.nodes.items() if len(one.planned)}
    known = all(name in seconds for name in planned)
    estimate = sum(number * seconds[name] for name, number in planned.items()) if known else None
    if json:
        print_json({"windows": planned, "task_seconds": estimate})
        return 0
    if not planned:
        return _nothing(json)
    rows = table("node", "windows", "why", "usual", right=("windows", "usual"))
    for name, number in planned.items():
        why = ", ".join(plan.nodes[name].reasons())
        rows.add_row(name, f"{number:,}", why, duration(seconds.get(name)))
    console().print(rows)
    if estimate is not None:
        print(f"\nabout {duration(estimate)} of tasks, which run side by side")
    return 0


def _list(project: Project, found: list[Backfill], json: bool) -> int:
    from rich.text import Text

    if json:
        print_json(found)
        return 0
    if not found:
        print("no backfill on record; start one with: envol backfill --from 2013-01-01 --to 2013-02-01")
        return 0
    rows = table("backfill", "state", "asked", "by", "windows", "done", "failed", "gone", right=("done",))
    zone = project.calendar.zone
    for one in found:
        between = f"{one.start.astimezone(zone).date()} to {one.end.astimezone(zone).date()}"
        rows.add_row(
            one.id,
            Text(one.state, STATES.get(one.state, "")),
            moment(one.created_at, zone),
            one.by,
            between,
            f"{one.windows.get('done', 0):,} of {one.total:,}",
            *(f"{one.windows[state]:,}" if one.windows.get(state) else "" for state in ("failed", "gone")),
        )
    console().print(rows)
    return 0


def _tell(one: Backfill, text: str, json: bool) -> int:
    if json:
        print_json(one)
    else:
        print(text)
    return 0
