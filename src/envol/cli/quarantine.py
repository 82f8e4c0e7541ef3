"""`envol quarantine`: rows that broke a contract, and what is decided about them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from envol.cli.options import ByOption, JsonOption, ProjectOption, ReasonOption, opened, said, who
from envol.cli.output import console, count, print_json
from envol.cli.quarantine_tables import print_history, print_overview, print_report

if TYPE_CHECKING:
    from envol.pipeline.quarantine.held import Choice
    from envol.pipeline.quarantine.review import Quarantine
    from envol.project import Project
    from envol.storage import Store

SHOWN = 50
MANY = 20
"""So many rows are decided about without a question."""

TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="Name of the table.")]
WindowOption = Annotated[
    str | None,
    typer.Option(metavar="WINDOW", help="Only rows of this window, such as 2013-01-05.", show_default=False),
]
RuleOption = Annotated[
    str | None,
    typer.Option(
        metavar="RULE", help='Only rows that break this rule, such as "heat: min".', show_default=False
    ),
]
IdsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="Only the row with this quarantine_id; may be given several times.",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many rows it is about.")]


def show(
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="Show the rows of this table.")] = None,
    window: WindowOption = None,
    rule: RuleOption = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Print so many rows at most.")] = SHOWN,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List what is in quarantine.

    By table and window, with the rules that are broken, or the rows of one table.
    """
    from envol.cli.data import print_frame
    from envol.errors import UserError
    from envol.pipeline.quarantine.held import Choice

    with opened(project) as (found, store):
        quarantine = _quarantine(found, store)
        if name is not None:
            choice = Choice(window, rule)
            frame = quarantine.rows(name, choice, limit)
            if json:
                print_json(frame.to_dicts())
            else:
                whole = f"envol quarantine export {name}"
                print_frame(console(), frame, limit, total=_size(quarantine, name, choice), whole=whole)
        elif window or rule:
            raise UserError("--window and --rule choose rows of a table", remedy="name the table as well")
        else:
            print_overview(quarantine.overview(), limit, json)


def export(
    name: TableArgument,
    window: WindowOption = None,
    rule: RuleOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file, as its name says: .csv, .jsonl or .parquet.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["csv", "jsonl", "parquet"], typer.Option("--format", help="How standard output is written.")
    ] = "csv",
    project: ProjectOption = None,
) -> None:
    """Write quarantined rows to a file, to be edited and replayed.

    Leave the column quarantine_id as it is: it tells which row an edited one is to replace. Rows that are not
    to be replaced can be left out.
    """
    from envol.pipeline.quarantine.edited import write_rows
    from envol.pipeline.quarantine.held import WAITING, WINDOW_START, Choice

    with opened(project) as (found, store):
        frame = _quarantine(found, store).rows(name, Choice(window, rule))
        write_rows(frame.drop(WINDOW_START, WAITING, strict=False), output, kind)
    if output is not None:
        print(f"{count(frame.height, 'row')} written to {output}")


def replay(
    name: TableArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The edited rows: .csv, .jsonl or .parquet.")],
    reason: ReasonOption,
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> int:
    """Put edited rows through the contract again.

    Those that meet it now go into the table, in place of the rows with their ids. Nothing is extracted again;
    whenever the window is, rows that come as before are replaced by the edited ones as well.

    Exit code 1 when some of them still break the contract: they stay in quarantine as they came.
    """
    from envol.pipeline.quarantine.edited import read_rows

    rows = read_rows(file)
    with opened(project) as (found, store):
        report = _quarantine(found, store).replay(name, rows, by=who(by), reason=said(reason))
    print_report(report, json)
    return 1 if report.refused else 0


def release(
    name: TableArgument,
    reason: ReasonOption,
    window: WindowOption = None,
    rule: RuleOption = None,
    ids: IdsOption = None,
    by: ByOption = None,
    yes: YesOption = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> int:
    """Accept rows although they break the contract.

    They go into the table as they are, also whenever they come again.
    """
    from envol.pipeline.quarantine.held import Choice

    with opened(project) as (found, store):
        quarantine, choice = _quarantine(found, store), Choice(window, rule, ids or ())
        if not (yes or _agreed(quarantine, name, choice, "release")):
            return 1
        print_report(quarantine.release(name, choice, by=who(by), reason=said(reason)), json)
    return 0


def drop(
    name: TableArgument,
    reason: ReasonOption,
    window: WindowOption = None,
    rule: RuleOption = None,
    ids: IdsOption = None,
    by: ByOption = None,
    yes: YesOption = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> int:
    """Let rows go. They are left out whenever they come again."""
    from envol.pipeline.quarantine.held import Choice

    with opened(project) as (found, store):
        quarantine, choice = _quarantine(found, store), Choice(window, rule, ids or ())
        if not (yes or _agreed(quarantine, name, choice, "drop")):
            return 1
        print_report(quarantine.drop(name, choice, by=who(by), reason=said(reason)), json)
    return 0


def undo(
    name: TableArgument,
    ids: Annotated[
        list[str],
        typer.Option("--id", metavar="ID", help="The quarantine_id of the row; may be given several times."),
    ],
    reason: ReasonOption,
    by: ByOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Take back what was decided about rows.

    They are in quarantine again, as they came, once their window is made again.
    """
    with opened(project) as (found, store):
        print_report(_quarantine(found, store).undo(name, ids, by=who(by), reason=said(reason)), json)


def history(
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only of this table.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Print so many at most.")] = SHOWN,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """List what was decided, by whom and why, the newest first."""
    with opened(project) as (found, store):
        told: list[dict[str, Any]] = [
            {
                "at": one.at,
                "table": one.node,
                "quarantine_id": identity,
                "action": str(one.action),
                "row": one.row,
                "by": one.by,
                "reason": one.reason,
                "settled": one.settled,
            }
            for identity, one in _quarantine(found, store).history(name, limit)
        ]
        if json:
            print_json(told)
        else:
            print_history(told, found.calendar.zone)


def _quarantine(project: Project, store: Store) -> Quarantine:
    from envol.pipeline.quarantine.review import Quarantine
    from envol.project.clock import the_clock

    return Quarantine(project, store, the_clock(), _tell if sys.stderr.isatty() else lambda _: None)


def _tell(text: str) -> None:
    """Show how far it is, in a line that the next one overwrites."""
    print(f"{text}\x1b[K\r", end="", file=sys.stderr, flush=True)


def _size(quarantine: Quarantine, name: str, choice: Choice) -> int:
    """How many rows a choice is about."""
    held = [one for one in quarantine.overview() if one.table == name]
    return sum(
        one.rows if choice.rule is None else one.rules.get(choice.rule, 0)
        for one in held
        if choice.window in (None, one.window)
    )


def _agreed(quarantine: Quarantine, name: str, choice: Choice, verb: str) -> bool:
    """Whether many rows are really meant; asked on a terminal only."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or choice.ids:
        return True
    rows = _size(quarantine, name, choice)
    if rows <= MANY or typer.confirm(f"{verb} {count(rows, 'row')} of {name}?"):
        return True
    print("nothing has changed")
    return False
