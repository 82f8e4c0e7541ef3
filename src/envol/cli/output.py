"""How things are printed: consoles, tables, JSON, numbers and times."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

WIDE = 200
"""Columns where the output is no terminal: tables take what they need, and no line is broken."""
NARROW = 110
"""Below so many columns, tables leave out what helps least."""
BROKEN_WIDTH = 10
"""Characters that a column needs whose texts can be broken."""
GAP = 3
"""Characters between two columns."""
STATES = {"done": "green", "failed": "red", "crashed": "red", "running": "cyan", "cancelled": "yellow"}
"""Colours of the states of runs and tasks."""


def console(stream: TextIO | None = None) -> Console:
    """A Rich console on a stream (stdout when left out) that prints data as it is, without markup."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # Rich itself would end the process here

    file = sys.stdout if stream is None else stream
    width = None if file.isatty() or "COLUMNS" in os.environ else WIDE
    return PlainConsole(file=file, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


class Table:
    """Rows under a header, which take the room there is (see `table`)."""

    def __init__(
        self, columns: Sequence[str], right: Sequence[str], wrap: Sequence[str], spare: Sequence[str]
    ) -> None:
        self._columns, self._right, self._wrap, self._spare = list(columns), right, wrap, spare
        self._rows: list[tuple[Sequence[str | Text], str | None]] = []

    def add_row(self, *cells: str | Text, style: str | None = None) -> None:
        """Add a row with a cell for each column."""
        self._rows.append((cells, style))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Grid

        shown = self._fitting(options.max_width)
        grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
        for number in shown:
            column = self._columns[number]
            grid.add_column(
                column,
                justify="right" if column in self._right else "left",
                no_wrap=number > 0 and column not in self._wrap,
                overflow="fold",
                header_style="bold",
            )
        for cells, style in self._rows:
            grid.add_row(*(cells[number] for number in shown), style=style)
        yield grid

    def _fitting(self, room: int) -> list[int]:
        """The columns that fit: the spare ones go first, then the last."""
        from rich.cells import cell_len

        needed = {}
        for number, column in enumerate(self._columns):
            width = max(cell_len(str(cell)) for cell in (column, *(row[number] for row, _ in self._rows)))
            breakable = number == 0 or column in self._wrap
            needed[number] = min(width, BROKEN_WIDTH) if breakable else width
        spare = [self._columns.index(name) for name in self._spare if name in self._columns]
        while len(needed) > 2 and sum(needed.values()) + GAP * (len(needed) - 1) > room:
            del needed[spare.pop(0) if spare else max(needed)]
        return list(needed)


def table(
    *columns: str, right: Sequence[str] = (), wrap: Sequence[str] = (), spare: Sequence[str] = ()
) -> Table:
    """An empty table with a header.

    Where the screen is narrow, the first column is folded and those in `wrap` are broken between words; the
    others stay whole. Where that is not enough, columns are left out, those in `spare` before others. Columns
    in `right` are aligned to the right.
    """
    return Table(columns, right, wrap, spare)


def print_apart(out: Console, *parts: RenderableType) -> None:
    """Print parts with an empty line between each two."""
    for number, part in enumerate(parts):
        if number:
            out.print()
        out.print(part)


def print_json(data: Any) -> None:
    """Print as indented JSON: instants in ISO format, what is not a number as null."""
    import msgspec

    encoded = msgspec.json.encode(data, enc_hook=str)
    print(msgspec.json.format(encoded, indent=2).decode())


def count(number: int, noun: str) -> str:
    """ "1 window", "1,095 windows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: float) -> str:
    """Bytes in a unit that reads well."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def duration(seconds: float | None) -> str:
    """ "0.42 s", "12.3 s", "3 min 20 s", "2 h 05 min"."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def moment(instant: datetime | float | None, zone: tzinfo = UTC) -> str:
    """An instant (or epoch seconds) as "2013-01-05 14:03" in a time zone."""
    if instant is None:
        return ""
    aware = instant if isinstance(instant, datetime) else datetime.fromtimestamp(instant, UTC)
    return aware.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def metric(stored: Any, *, interval: bool = True) -> str:
    """A metric as "0.783 [0.771, 0.795]"; "undefined" where it has no value, empty where there is none."""
    if not stored:
        return ""
    if stored["value"] is None:
        return "undefined"
    low, high = stored.get("low"), stored.get("high")
    told = f" [{low:.3g}, {high:.3g}]" if interval and low is not None and low != high else ""
    return f"{stored['value']:.3g}{told}"
