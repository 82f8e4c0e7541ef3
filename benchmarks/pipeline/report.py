"""The results as one table, a column a tool: on the terminal by Rich, or as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from measuring import Bare, Measured
from rich.console import Console
from rich.table import Table

MB = 1_000_000
Value = Callable[[Measured], float]
Text = Callable[[Measured], str]


@dataclass(frozen=True)
class Report:
    """A table of text and what is said below it."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def report(measured: list[Measured], plain: Bare) -> Report:
    """All that was measured; a figure in brackets is the ratio to the first tool's, which is Envol."""
    steps = len(plain.tables)

    def figure(name: str, value: Value, of_plain: float | None = None) -> list[str]:
        first = value(measured[0])
        rest = [f"{number(value(one))} ({number(value(one) / first)})" for one in measured[1:]]
        return [name, number(first), *rest, "" if of_plain is None else number(of_plain)]

    def words(name: str, text: Text) -> list[str]:
        return [name, *map(text, measured), ""]

    rows = [
        figure("cold run, s", lambda one: one.cold_seconds, plain.seconds),
        figure("overhead a step, ms", lambda one: one.step_milliseconds),
        figure("peak memory, MB", lambda one: one.peak_bytes / MB, plain.peak / MB),
        figure("nothing to do, s", lambda one: one.again_seconds),
        words("killed: steps done", lambda one: f"{one.killed.computed:,}"),
        words("broken tables seen", lambda one: f"{one.killed.broken:,}"),
        words("restart: done again", lambda one: f"{one.killed.again:,} ({one.killed.share:.1%})"),
        figure("restart, s", lambda one: one.killed.seconds),
        words("all tables right", lambda one: "yes" if one.killed.mended else f"no, exit {one.killed.code}"),
        words("stray files left", lambda one: f"{one.killed.stray:,}"),
        words("runs still «running»", lambda one: f"{one.killed.running:,}"),
        figure("tables and records, MB", lambda one: one.state_bytes / MB),
        words("files", lambda one: f"{one.state_files:,}"),
        figure("installed, MB", lambda one: one.installed_bytes / MB),
        words("packages", lambda one: f"{one.packages:,}"),
    ]
    notes = [
        f"{one.title}: side by side {one.side_by_side}; by hand after kill -9 {one.by_hand}"
        for one in measured
    ]
    head = [f"{steps:,} steps", *(f"{one.title} {one.version}" for one in measured), "plain loop"]
    return Report(f"{steps:,} steps", head, rows, notes)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(found: Report) -> None:
    table = Table()
    for index, name in enumerate(found.head):
        table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
    for row in found.rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    for note in found.notes:
        console.print(note)


def markdown(found: Report) -> str:
    lines = [found.head, ["---"] * len(found.head), *found.rows]
    return "\n".join(
        [*(f"| {' | '.join(row)} |" for row in lines), "", *(f"- {note}" for note in found.notes)]
    )
