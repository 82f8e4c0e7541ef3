"""How what is in quarantine, and what is decided about it, is printed."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from envol.cli.output import console, count, moment, print_json, table

if TYPE_CHECKING:
    from envol.pipeline.quarantine.held import Held
    from envol.pipeline.quarantine.review import Report

SHOWN_REFUSED = 10


def print_overview(held: list[Held], limit: int, json: bool) -> None:
    """The windows with rows in quarantine."""
    if json:
        print_json(held)
        return
    if not held:
        print("nothing is in quarantine")
        return
    rows = table("table", "window", "rows", "reasons", right=("rows",), wrap=("reasons",))
    for one in held[:limit]:
        reasons = sorted(one.rules.items(), key=lambda rule: -rule[1])
        rows.add_row(
            one.table,
            one.window,
            f"{one.rows:,}",
            ", ".join(f"{number:,} x {rule}" for rule, number in reasons),
        )
    out = console()
    out.print(rows)
    total, oldest = sum(one.rows for one in held), min(held, key=lambda one: one.window_start)
    told = f"{count(total, 'row')} in {count(len(held), 'window')}, the oldest {oldest.table} {oldest.window}"
    more = f", {limit:,} shown: --limit {len(held)} shows all" if len(held) > limit else ""
    out.print(f"\n{told}{more}")


def print_report(report: Report, json: bool) -> None:
    """What came of a decision."""
    from envol.pipeline.quarantine.review import DONE

    if json:
        print_json(report)
        return
    done, again = DONE[report.action], "once their windows are made again"
    by = ", by the conductor" if report.woken else ": envol run"
    if report.action == "undo":
        command = f"envol run --node {report.table} --rerun"
        print(f"{report.table}: {count(report.later, 'row')} in quarantine again {again}: {command}")
        return
    if report.rows or not (report.later or report.before or report.refused):
        print(f"{report.table}: {count(report.rows, 'row')} {done} in {count(report.windows, 'window')}")
    if report.readers:
        print(f"to be made again from them: {', '.join(report.readers)}{by}")
    if report.later:
        print(f"{report.table}: {count(report.later, 'row')} {done} {again}{by}")
    if report.before:
        print(f"{report.table}: {count(report.before, 'row')} replaced by the same before")
    if report.refused:
        stay = "stays" if len(report.refused) == 1 else "stay"
        print(f"{report.table}: {count(len(report.refused), 'row')} {stay} in quarantine, still breaking:")
        for identity, reason in list(report.refused.items())[:SHOWN_REFUSED]:
            print(f"  {identity}  {reason}")
        if (rest := len(report.refused) - SHOWN_REFUSED) > 0:
            print(f"  and {count(rest, 'row')} more: --json tells all")


def print_history(told: list[dict[str, Any]], zone: tzinfo) -> None:
    """What was decided, the newest first."""
    if not told:
        print("nothing was decided yet")
        return
    rows = table(
        "at", "table", "row", "action", "by", "reason", "replaced by", wrap=("reason", "replaced by")
    )
    for one in told:
        waiting = "" if one["settled"] else " (at the next run)"
        rows.add_row(
            moment(one["at"], zone),
            one["table"],
            one["quarantine_id"],
            one["action"] + waiting,
            one["by"],
            one["reason"],
            one["row"] or "",
        )
    console().print(rows)
