"""Deciding about quarantined rows: release, replace, drop, and taking that back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import NotFoundError, UserError
from envol.pipeline.batches import Divided
from envol.pipeline.conducting.control import CONDUCTOR, Control
from envol.pipeline.lease import holder, run_lease
from envol.pipeline.plan import make_plan
from envol.pipeline.quarantine.decisions import Action, Decision, Decisions
from envol.pipeline.quarantine.edited import edited_rows
from envol.pipeline.quarantine.held import Choice, Held, Quarantined
from envol.pipeline.quarantine.identity import ID, row_id
from envol.pipeline.quarantine.settling import Stored, settle
from envol.project.nodes import Node, Predictions

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.clock import Clock
    from envol.storage import Store

DONE = {Action.RELEASE: "released", Action.REPLACE: "replaced", Action.DROP: "dropped", Action.UNDO: "undone"}


@dataclass
class Report:
    """What came of a decision about rows of a table.

    `rows` left quarantine, in so many `windows`. Those `later` do so when their windows are made again, which
    the next run does anyway. `refused` tells by id which edited rows do not pass, and why; `before` counts
    edited rows that were replaced by the same before. `readers` are the nodes that read what has changed;
    `woken` tells that a conductor is active and makes them at once.
    """

    table: str
    action: Action
    rows: int = 0
    windows: int = 0
    later: int = 0
    before: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    readers: list[str] = field(default_factory=list)
    woken: bool = False


class Quarantine:
    """The quarantined rows of a project, and what is decided about them.

    Args:
        note: takes short lines about the progress of long work.
    """

    def __init__(
        self, project: Project, store: Store, clock: Clock, note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._project, self._store, self._clock, self._note = project, store, clock, note
        self._quarantined = Quarantined(project, store)

    def overview(self) -> list[Held]:
        """The windows with rows in quarantine, table by table, the oldest first."""
        tables = self._quarantined.tables()
        return [one for table in tables for one in self._quarantined.held(table)]

    def rows(self, table: str, choice: Choice, limit: int | None = None) -> pl.DataFrame:
        """Quarantined rows: `quarantine_id`, `broken_rule`, the table's columns, `window_start`.

        Where decisions wait for their window to be made again, the column `decision` tells them.

        Raises:
            NotFoundError: there is no such table, window, rule or row.
        """
        return self._quarantined.rows(table, choice, limit)

    def release(self, table: str, choice: Choice, *, by: str, reason: str) -> Report:
        """Accept rows as they are, although they break the contract.

        Raises:
            NotFoundError: there is no such table, window, rule or row.
            UserError: rows that a model cannot read cannot be released.
            BusyError: a run is active.
        """
        if isinstance(self._quarantined.node(table), Predictions):
            raise UserError(
                "rows that a model cannot read cannot be released",
                node=table,
                remedy="edit them and replay them, train the model on such rows, or drop them",
            )
        return self._decide(table, Action.RELEASE, choice, by, reason)

    def drop(self, table: str, choice: Choice, *, by: str, reason: str) -> Report:
        """Let rows go, also whenever they come again.

        Raises:
            NotFoundError: there is no such table, window, rule or row.
            BusyError: a run is active.
        """
        return self._decide(table, Action.DROP, choice, by, reason)

    def replay(self, table: str, edited: Sequence[Mapping[str, Any]], *, by: str, reason: str) -> Report:
        """Put edited rows through the contract (or the model) again, in place of those with their ids.

        Args:
            edited: all columns of the quarantined rows, as plain values or texts.

        Raises:
            NotFoundError: there is no such table or row; nothing has changed then.
            UserError: something about the edited rows is wrong; nothing has changed then.
            BusyError: a run is active.
        """
        node = self._quarantined.node(table)
        rows = edited_rows(edited, node.name, self._quarantined.dtypes(node))
        return self._decide(table, Action.REPLACE, Choice(ids=list(rows)), by, reason, rows)

    def undo(self, table: str, ids: Sequence[str], *, by: str, reason: str) -> Report:
        """Take decisions back: once their windows are made again, the rows are in quarantine as they came.

        Raises:
            NotFoundError: there is no such table or row, or nothing is decided about it.
            BusyError: a run is active.
        """
        node, lease = self._quarantined.node(table), run_lease(self._store.metadata)
        report = Report(node.name, Action.UNDO)
        with lease.held():
            decisions, now = Decisions(self._store.metadata, lease.check), time.time()
            undone: dict[int, list[Decision]] = {}
            for identity in dict.fromkeys(ids):
                known = self._decided(node, identity)
                if known is None:
                    raise NotFoundError(
                        f"nothing is decided about the row {identity} of {node.name}",
                        remedy=f"see: envol quarantine history {node.name}",
                    )
                undone.setdefault(known.window_start, []).append(
                    replace(known, action=Action.UNDO, row=None, at=now, by=by, reason=reason, settled=True)
                )
            for batch in undone.values():
                decisions.record(batch)
                report.later += len(batch)
        return report

    def history(self, table: str | None = None, limit: int = 50) -> list[tuple[str, Decision]]:
        """The newest decisions, the newest first, each with the id of its row."""
        name = None if table is None else self._quarantined.node(table).name
        if not self._store.exists():
            return []
        return [
            (row_id(self._quarantined.key(one.node, one.window_start), one.row_hash), one)
            for one in Decisions(self._store.metadata).history(name, limit)
        ]

    def _decide(
        self,
        table: str,
        action: Action,
        choice: Choice,
        by: str,
        reason: str,
        edited: Mapping[str, str] | None = None,
    ) -> Report:
        node, lease = self._quarantined.node(table), run_lease(self._store.metadata)
        report = Report(node.name, action)
        with lease.held():
            settle(self._project, self._store, self._clock, lease)
            plan = make_plan(self._project, self._store, self._clock)
            stored = Stored(self._project, self._store, self._clock, plan, lease)
            chosen = [
                (start, broken[ID].to_list()) for start, broken in self._quarantined.chosen(node, choice)
            ]
            self._account_for(node, choice, {one for _, ids in chosen for one in ids}, edited or {}, report)
            for number, (start, ids) in enumerate(chosen, 1):
                now = time.time()
                batch = [
                    Decision(
                        node.name,
                        start,
                        self._quarantined.place(node, identity)[1],
                        action,
                        row=edited[identity] if edited else None,
                        at=now,
                        by=by,
                        reason=reason,
                    )
                    for identity in ids
                ]
                self._decide_window(stored, node, start, batch, report)
                self._note(f"{node.name}: {number:,} of {len(chosen):,} windows")
        if report.rows and action is not Action.DROP:
            report.readers = [reader.name for reader in self._project.graph.readers(node.name)]
        self._wake(report, by)
        return report

    def _wake(self, report: Report, by: str) -> None:
        """Let the conductor make what has to be made again, if one is active."""
        if (report.readers or report.later) and holder(self._store.metadata, CONDUCTOR) is not None:
            Control(self._store.metadata, self._clock).wake(by)
            report.woken = True

    def _account_for(
        self, node: Node, choice: Choice, there: set[str], edited: Mapping[str, str], report: Report
    ) -> None:
        """See what became of chosen rows that are not in quarantine.

        Raises:
            NotFoundError: they never were there, or something else was decided about them.
        """
        for identity in choice.ids:
            if identity in there:
                continue
            known = self._decided(node, identity)
            if known is not None and known.row is not None and known.row == edited.get(identity):
                report.before += 1
                continue
            told, remedy = "", f"see: envol quarantine list {node.name}"
            if known is not None:
                told = f": it was {DONE[known.action]} by {known.by} ({known.reason})"
                remedy = f"to take that back: envol quarantine undo {node.name} --id {identity}"
            raise NotFoundError(
                f"the row {identity} of {node.name} is not in quarantine{told}; nothing has changed",
                remedy=remedy,
            )

    def _decide_window(
        self, stored: Stored, node: Node, start: int, batch: list[Decision], report: Report
    ) -> None:
        action, window = report.action, stored.window(node, start)
        gone, current = stored.index_of(node, start) is None, stored.is_current(node, start)
        if gone and action is not Action.DROP:
            raise UserError(
                "the project has no such window any more",
                node=node.name,
                window=window.key,
                remedy=f"drop its rows: envol quarantine drop {node.name} --window {window.key}",
            )
        needs_good = current and action is not Action.DROP
        good = (
            stored.good(node, window) if needs_good else pl.DataFrame(schema=self._quarantined.dtypes(node))
        )
        applied = stored.apply(node, window, Divided(good, stored.broken(node, window)), batch)
        report.refused |= applied.refused
        done = [one for one in batch if row_id(window.key, one.row_hash) in applied.done]
        if not done:
            return
        stored.decisions.record(done)
        if not current and not gone:
            report.later += len(done)
            return
        message = f"{node.name} {window.key}: {len(done)} rows of quarantine {DONE[action]}"
        stored.commit(node, window, applied.rows, message, only_broken=not needs_good)
        report.rows += len(done)
        report.windows += 1

    def _decided(self, node: Node, identity: str) -> Decision | None:
        """What holds for a row."""
        start, number = self._quarantined.place(node, identity)
        decisions = Decisions(self._store.metadata).of(node.name, start)
        return next((one for one in decisions if one.row_hash == number), None)
