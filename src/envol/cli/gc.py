"""`envol gc`: removes records that have served their time, and tells what the store takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import console, print_json, size, table

if TYPE_CHECKING:
    from rich.console import Console

    from envol.pipeline.retention import Collected, Part
    from envol.project import Project

GAUGE = 20
"""Characters of the bar of the largest part."""


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would go, and remove nothing.")
    ] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Remove old records: logs, tasks, runs, past states of the tables, rows in quarantine.

    How long each kind is kept is said under [retention] in envol.toml. Runs do the same by themselves, once a
    day. What is needed stays: what models were trained on, and the last run and last failed run of each node.
    """
    from envol.errors import NotFoundError
    from envol.pipeline.retention import collect, sizes
    from envol.project.clock import the_clock

    with opened(project) as (found, store):
        if not store.exists():
            raise NotFoundError(
                f"the project {found.name} has no records yet", remedy="make some with: envol run"
            )
        gone = collect(found, store, the_clock(), dry_run=dry_run)
        parts, free = sizes(store)
        if json:
            told = [{**asdict(one), "kept_for": _kept_for(found, one.kind)} for one in gone]
            print_json({"dry_run": dry_run, "collected": told, "parts": parts, "free_bytes": free})
        else:
            _print(console(), found, gone, parts, free, dry_run)


def _kept_for(project: Project, kind: str) -> str | None:
    return getattr(project.config.retention, kind, None)


def _print(
    out: Console, project: Project, gone: list[Collected], parts: list[Part], free: int, dry_run: bool
) -> None:
    removed = "would go" if dry_run else "removed"
    rows = table("records", "kept for", removed, "bytes", "", right=(removed, "bytes"), wrap=("",))
    for one in gone:
        told = "" if one.bytes is None else size(one.bytes)
        count = "" if one.note or one.kind == "space" else f"{one.count:,}"
        rows.add_row(one.what, _kept_for(project, one.kind) or "", count, told, one.note)
    out.print(rows)
    out.print()
    largest = max((part.bytes for part in parts), default=1)
    gauge = table("the store", "bytes", " ", right=("bytes",))
    for part in parts:
        gauge.add_row(part.name, size(part.bytes), "█" * round(GAUGE * part.bytes / largest))
    gauge.add_row("in all", size(sum(part.bytes for part in parts)), f"{size(free)} are free on its disk")
    out.print(gauge)
