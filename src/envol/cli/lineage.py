"""`envol lineage`: what a window, a row or a prediction was made from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import console, count, print_json
from envol.errors import UserError

if TYPE_CHECKING:
    from envol.pipeline.lineage import Lineage, RowLineage
    from envol.project import Project
    from envol.serving import PredictionLineage
    from envol.storage import Store

TOKEN = "OPENLINEAGE_API_KEY"


def lineage(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A table or a model.", show_default=False)
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window", "-w", metavar="WINDOW", help="Its window; the newest if left out.", show_default=False
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            "-k",
            metavar="COLUMN=VALUE",
            help="Follow the rows with this value; may be given several times.",
            show_default=False,
        ),
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(metavar="ID", help="An online prediction, by its id in the log.", show_default=False),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Follow so many levels of inputs; all if left out."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List each window where several were read.")] = False,
    openlineage: Annotated[bool, typer.Option("--openlineage", help="Print OpenLineage events.")] = False,
    send: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Send OpenLineage events to a server; {TOKEN} may hold its key.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what a window was made from, down to the sources.

    For each step: windows, rows, the snapshot that holds them, the run, the code with its Git commit, and the
    package of the model that predicted. Windows that were made again since they were read are marked.
    """
    keys = _keys(key or [])
    events = openlineage or send is not None
    if (table is None) == (prediction is None):
        raise UserError(
            "lineage is asked of a table or of a prediction",
            remedy="name a table, or give --prediction ID",
        )
    if (keys or prediction) and events:
        raise UserError(
            "OpenLineage tells of windows, not of rows", remedy="leave --key or --prediction away"
        )
    options: dict[str, Any] = {"depth": depth, "every_window": every or events}
    with opened(project) as (found, store):
        if prediction is not None:
            _tell_prediction(found, store, prediction, options, json)
        elif table is not None and keys:
            _tell_rows(found, store, table, window, keys, options, json)
        elif table is not None:
            from envol.pipeline.lineage import lineage as trace

            told = trace(found, store, table, window, **options)
            if events:
                _export(found, store, told, send)
            else:
                _tell_windows(found, told, json)


def _keys(given: list[str]) -> dict[str, str]:
    keys = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{text!r} names no value", remedy="write --key COLUMN=VALUE")
        keys[name] = value
    return keys


def _tell_windows(project: Project, told: Lineage, json: bool) -> None:
    from envol.cli.lineage_tree import window_tree

    if json:
        print_json(told)
    else:
        console().print(window_tree(told, project.calendar.zone))


def _tell_rows(
    project: Project,
    store: Store,
    table: str,
    window: str | None,
    keys: dict[str, str],
    options: dict[str, Any],
    json: bool,
) -> None:
    from envol.cli.lineage_tree import row_tree
    from envol.pipeline.lineage import row_lineage

    told: RowLineage = row_lineage(project, store, table, keys, window, **options)
    if json:
        print_json(told)
    else:
        console().print(row_tree(told, project.calendar.zone))


def _tell_prediction(
    project: Project, store: Store, identity: str, options: dict[str, Any], json: bool
) -> None:
    from envol.cli.lineage_tree import prediction_tree
    from envol.serving import prediction_lineage

    told: PredictionLineage = prediction_lineage(project, store, identity, **options)
    if json:
        print_json(told)
    else:
        console().print(prediction_tree(told, project.calendar.zone))


def _export(project: Project, store: Store, told: Lineage, url: str | None) -> None:
    import os

    from envol.pipeline.lineage.openlineage import as_json, events, send

    found = list(events(project, store, told))
    if url is None:
        print("\n".join(as_json(one) for one in found))
        return
    send(found, url, os.environ.get(TOKEN))
    print(f"{count(len(found), 'event')} sent to {url}", file=sys.stderr)
