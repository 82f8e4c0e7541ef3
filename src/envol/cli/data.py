"""`envol query` and `envol compact`: the lake in SQL, and its upkeep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import GAP, console, count, print_json, size

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

SHOWN_ROWS = 50
LONGEST_VALUE = 60
LEAST_WIDTH = 10
"""Characters that a column is not made narrower than."""


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the project's tables.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="ROWS",
            help="Print so many rows at most; 50 in a table, else all.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the tables in SQL. Nothing can be written."""
    from envol.connection import connect
    from envol.errors import UserError

    if csv and json:
        raise UserError("--csv and --json are two formats", remedy="give one of them")
    with connect(project) as connection:
        frame = connection.sql(sql)
    shown = frame if limit is None else frame.head(limit)
    if json:
        print_json(shown.to_dicts())
    elif csv:
        sys.stdout.write(_flat(shown).write_csv())
    else:
        print_frame(console(), frame, SHOWN_ROWS if limit is None else limit)


def compact(
    expire: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Also forget snapshots older than this, such as 30d; what models were trained on stays.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Merge the small files of the tables.

    Files that nothing needs any more are removed; no row is lost. No run may be active.
    """
    from envol.pipeline import run_lease
    from envol.project.clock import SystemClock
    from envol.project.windows import Span
    from envol.registry import Registry

    with opened(project) as (_, store):
        now = SystemClock().now()
        age = None if expire is None else now - Span.parse(expire).before(now)
        with run_lease(store.metadata).held():
            versions = Registry(store, SystemClock()).versions() if age is not None else []
            kept = {read.get("snapshot") for one in versions for read in one.lineage.values()} - {None}
            expired = 0 if age is None else store.lake.expire(age, now, keep=kept)
            done = store.lake.compact()
    if json:
        print_json({"compaction": done, "snapshots_expired": expired})
        return
    if age is not None:
        print(f"snapshots forgotten: {expired:,}")
    print(f"files: {done.files_before:,} before, {done.files_after:,} after, {done.files_removed:,} removed")
    print(f"bytes: {size(done.bytes_before)} before, {size(done.bytes_after)} after")


def print_frame(
    out: Console, frame: pl.DataFrame, limit: int, *, total: int | None = None, whole: str = "--csv"
) -> None:
    """Print a frame as a table, as many columns and characters as there is room for.

    Args:
        limit: rows to print at most.
        total: how many rows there are in all, where the frame has not all of them.
        whole: what shows the columns that there is no room for.
    """
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = {name: [_cell(value) for value in frame[name].head(limit)] for name in frame.columns}
    natural = [max(map(cell_len, (name, _label(frame.schema[name]), *cells[name]))) for name in frame.columns]
    widths = _widths(natural, out.width)
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for name, width in zip(frame.columns, widths, strict=False):
        dtype = frame.schema[name]
        grid.add_column(
            Text.assemble((name, "bold"), "\n", (_label(dtype), "dim not bold")),
            justify="right" if dtype.is_numeric() else "left",
            overflow="ellipsis",
            no_wrap=True,
            width=width,
        )
    shown = list(cells)[: len(widths)]
    for texts in zip(*(cells[name] for name in shown), strict=True):
        grid.add_row(*texts)
    if frame.width:
        out.print(grid)
    if len(shown) < frame.width:
        out.print(
            f"\nno room for {', '.join(frame.columns[len(shown) :])}: {whole} shows all", soft_wrap=True
        )
    rows = frame.height if total is None else total
    rest = "" if rows <= limit else f", {limit:,} shown: --limit {rows} shows all"
    out.print(f"\n{count(rows, 'row')}{rest}")


def _widths(natural: Sequence[int], room: int) -> list[int]:
    """Widths of the columns, or of as many of the first as there is room for; the widest give way."""
    widths = [min(width, room) for width in natural]
    while len(widths) > 1 and _whole([min(width, LEAST_WIDTH) for width in widths]) > room:
        widths.pop()
    while _whole(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _label(dtype: pl.DataType) -> str:
    import polars as pl

    if isinstance(dtype, pl.Datetime):
        return f"datetime {dtype.time_zone}" if dtype.time_zone else "datetime"
    return str(dtype).lower()


def _cell(value: object) -> str:
    from datetime import datetime

    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return str(value).removesuffix("+00:00").removesuffix(" 00:00:00")
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with lists and records as JSON text: CSV has neither."""
    import json

    import polars as pl

    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    texts = [
        pl.Series(
            name,
            [None if value is None else json.dumps(value, default=str) for value in frame[name].to_list()],
            pl.String,
        )
        for name in nested
    ]
    return frame.with_columns(texts)
