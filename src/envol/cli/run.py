"""`envol run`: everything that is due, made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import (
    FromOption,
    JsonOption,
    NodesOption,
    ProjectOption,
    ToOption,
    opened,
    span_of,
)
from envol.cli.output import console, count, duration, print_json
from envol.errors import EnvolError, Failure, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from envol.pipeline import RunResult
    from envol.registry import Version
    from envol.storage import Store

INTERRUPTED = 130
SHOWN_FAILURES = 10


def run(
    node: NodesOption = None,
    first: FromOption = None,
    last: ToOption = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Make the windows of these nodes again although nothing changed.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Tasks side by side; [run] workers, or one a core.", show_default=False
        ),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> int:
    """Make every window that is due.

    It extracts, processes, trains, predicts and joins the outcomes, as the project's nodes say. Running it
    again goes on from where it stopped.

    Exit code 0: done, or nothing to do; 1: some tasks failed; 2: the project or the call is to be put right
    (also when that alone is why tasks failed); 130: interrupted.
    """
    from envol.cli.progress import Reporter
    from envol.pipeline import run as carry_out
    from envol.project.clock import SystemClock

    with opened(project) as (found, store):
        start, end = span_of(found, first, last)
        reporter = Reporter(sys.stderr if json else sys.stdout)
        try:
            result = carry_out(
                found,
                store,
                SystemClock(),
                nodes=node,
                start=start,
                end=end,
                rerun=rerun,
                workers=workers,
                observer=reporter,
            )
        finally:
            reporter.close()
        return report(store, result, json=json)


def report(store: Store, result: RunResult, *, json: bool) -> int:
    """Print how a run ended; returns the exit code."""
    code = _exit_code(result)
    try:
        if json:
            print_json(_described(store, result))
        elif result.state == "nothing":  # without Rich: this is to be quick
            print("nothing to do (what is due next, or blocked, is told by: envol plan)")
        else:
            _print(console(), store, result)
        sys.stdout.flush()
    except BrokenPipeError:
        if code == 0:
            raise
    return code


def _exit_code(result: RunResult) -> int:
    if result.state == "failed" and all(isinstance(one, UserError) for one in result.failures):
        return UserError.exit_code
    return {"failed": Failure.exit_code, "cancelled": INTERRUPTED}.get(result.state, 0)


def _described(store: Store, result: RunResult) -> dict[str, Any]:
    from envol.cli.models import described

    return {
        "run": result.run,
        "state": result.state,
        **result.counts(),
        "unchanged": result.unchanged,
        "rows": result.rows,
        "quarantined": _quarantined(store, result),
        "seconds": round(result.seconds, 3),
        "failures": [
            {"node": one.node, "window": one.window, "error": one.message, "remedy": one.remedy}
            for one in result.failures
        ],
        "trained": [described(one) for one in _trained(store, result)],
    }


def _trained(store: Store, result: RunResult) -> list[Version]:
    """The versions that the run registered."""
    if result.run is None:
        return []
    from envol.project.clock import SystemClock
    from envol.registry import Registry

    return [one for one in Registry(store, SystemClock()).versions() if one.run == result.run]


def _quarantined(store: Store, result: RunResult) -> dict[str, int]:
    """By table the rows of the windows made that broke its contract."""
    if not result.done:
        return {}
    from sqlalchemy import func, select

    from envol.storage.tables import materialization

    made = materialization.c
    query = (
        select(made.node, func.sum(made.quarantined))
        .where(made.run == result.run, made.quarantined > 0)
        .group_by(made.node)
        .order_by(made.node)
    )
    with store.metadata.connect() as connection:
        return {node: int(rows) for node, rows in connection.execute(query)}


def _alike(failures: list[EnvolError]) -> list[list[EnvolError]]:
    """Failures of one node that say the same, together."""
    found: dict[tuple[str | None, str], list[EnvolError]] = {}
    for error in failures:
        found.setdefault((error.node, error.message), []).append(error)
    return list(found.values())


def _together(errors: list[EnvolError]) -> EnvolError:
    """One error that stands for all of them."""
    first = min(errors, key=lambda error: error.window or "")
    if len(errors) == 1:
        return first
    window = f"{first.window} and {len(errors) - 1:,} more"
    return EnvolError(first.message, node=first.node, window=window, remedy=first.remedy)


def _print(out: Console, store: Store, result: RunResult) -> None:
    alike = _alike(result.failures)
    for errors in alike[:SHOWN_FAILURES]:
        out.print(f"failed: {_together(errors)}", style="red", soft_wrap=True)
    more = sum(map(len, alike[SHOWN_FAILURES:]))
    if more:
        out.print(f"and {count(more, 'failure')} more: envol runs {result.run} --failed")
    trained = _trained(store, result)
    if trained:
        _print_trained(out, store, trained)
    parts = [f"{count(result.done - len(trained), 'window')} made"]
    parts += [f"{count(len(trained), 'model version')} trained"] * bool(trained)
    parts += [f"{result.unchanged:,} unchanged"] * bool(result.unchanged)
    parts += [f"{result.failed:,} failed"] * bool(result.failed)
    parts += [f"{result.skipped:,} skipped as what they read is not made"] * bool(result.skipped)
    for table, rows in _quarantined(store, result).items():
        question = f"envol quarantine list {table}"
        out.print(f"{table}: {count(rows, 'row')} in quarantine: {question}", style="yellow", soft_wrap=True)
    word = {"failed": "failed", "cancelled": "stopped"}.get(result.state, "done")
    out.print(f"{word}: {', '.join(parts)}; {count(result.rows, 'row')} in {duration(result.seconds)}")
    if result.state != "done":
        out.print("what was made is kept: envol run goes on from here")


def _print_trained(out: Console, store: Store, trained: list[Version]) -> None:
    """A line a version, and the backtest of the newest of each model."""
    from envol.cli.backtest import backtest_table, stored_backtest

    newest = {one.model: one.version for one in trained}
    for one in trained:
        aliases = f" ({', '.join(one.aliases)})" if one.aliases else ""
        verdict = one.metrics["verdict"]
        out.print(f"{one.model} version {one.version}{aliases}: {verdict}")
        if newest[one.model] == one.version:
            out.print()
            out.print(backtest_table(stored_backtest(store, one)))
            out.print()
