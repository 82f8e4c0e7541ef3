"""What the metadata and the lake recorded of how tables were made, as lineage needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from envol.errors import NotFoundError
from envol.pipeline.lineage.origins import Accepted, Code, Earlier, Maker, Materialization
from envol.project.fingerprint import digest
from envol.project.names import nearest
from envol.project.windows import HOUR_SECONDS, Calendar, Period, Window
from envol.storage import tables

if TYPE_CHECKING:
    from envol.project import Project
    from envol.registry import Version
    from envol.storage import Store

Record = Mapping[str, Any]
"""A row of the table of materializations."""
LONGEST = 32 * 24 * HOUR_SECONDS
"""Seconds that no window is longer than."""
_made = tables.materialization.c
_run = tables.run.c
_task = tables.task.c


class History:
    """The records of a project's store.

    Raises:
        NotFoundError: nothing was ever made.
    """

    def __init__(self, project: Project, store: Store) -> None:
        if not store.exists():
            raise NotFoundError(
                f"the project {project.name} has no tables yet", remedy="make them with: envol run"
            )
        self.calendar = project.calendar
        self.store = store

    @cached_property
    def codes(self) -> dict[int, Code]:
        """All definitions by id."""
        return {
            row["id"]: Code(
                **{name: row[name] for name in ("id", "code", "parameters", "contract")},
                git_commit=row["git_commit"],
                git_dirty=row["git_dirty"],
                first_used_at=instant(row["first_used_at"]),
            )
            for row in self._definitions
        }

    @cached_property
    def reads(self) -> dict[int, dict[str, str]]:
        """By definition what was read of each input, such as "window and 7d before"."""
        return {row["id"]: json.loads(row["reads"]) for row in self._definitions}

    @cached_property
    def versions(self) -> dict[tuple[str, int], Version]:
        """All versions of models, by model and number."""
        from envol.project.clock import SystemClock
        from envol.registry import Registry

        versions = Registry(self.store, SystemClock()).versions()
        return {(one.model, one.version): one for one in versions}

    @cached_property
    def models(self) -> set[str]:
        """Names of the models."""
        return {model for model, _ in self.versions}

    def windows(self, node: str, start: int, end: int) -> list[Record]:
        """The materializations that overlap [start, end), oldest window first; trainings by their cutoff."""
        query = (
            select(tables.materialization)
            .where(
                _made.node == node,
                _made.window_start > start - LONGEST,
                _made.window_start < end,
                _made.window_end > start,
            )
            .order_by(_made.window_start)
        )
        return self._read(query)

    def window(self, node: str, named: str | None) -> Record:
        """The window of a key, or that holds an instant; the newest where none is named.

        Raises:
            NotFoundError: it was never made.
        """
        newest = select(tables.materialization).where(_made.node == node).order_by(_made.window_start.desc())
        if named is None:
            found = self._read(newest.limit(1))
        else:
            at = int(self._instant(named).timestamp())
            found = self._read(newest.where(_made.window_start <= at).limit(1))
            found = [row for row in found if at < row["window_end"] or at == row["window_start"]]  # a cutoff
        if found:
            return found[0]
        raise self._missing(node, named)

    def commits(self, node: str, first: int, last: int) -> tuple[tuple[str, bool | None], ...]:
        """(Git commit, dirty) of the runs that made a node's windows with first <= start <= last."""
        query = (
            select(_run.git_commit, _run.git_dirty, func.min(_made.made_at))
            .join(tables.run, _run.id == _made.run)
            .where(_made.node == node, _made.window_start.between(first, last), _run.git_commit.is_not(None))
            .group_by(_run.git_commit, _run.git_dirty)
            .order_by(func.min(_made.made_at))
        )
        return tuple((row["git_commit"], row["git_dirty"]) for row in self._read(query))

    def makers(self, runs: Iterable[str]) -> dict[str, Maker]:
        """What is known of runs, by id."""
        wanted = list(dict.fromkeys(runs))
        found = {run: Maker(run) for run in wanted}
        for part in range(0, len(wanted), 500):
            for row in self._read(select(tables.run).where(_run.id.in_(wanted[part : part + 500]))):
                found[row["id"]] = Maker(
                    row["id"],
                    row["kind"],
                    row["host"],
                    instant(row["started_at"]),
                    row["git_commit"],
                    row["git_dirty"],
                )
        return found

    def materializations(self, rows: Sequence[Record]) -> tuple[Materialization, ...]:
        """Rows of the table as what they tell."""
        makers = self.makers(row["run"] for row in rows)
        return tuple(
            Materialization(
                node=row["node"],
                window=self.key(row["window_start"], row["window_end"]),
                start=self.local(row["window_start"]),
                end=self.local(row["window_end"]),
                rows=row["rows"],
                quarantined=row["quarantined"],
                version=f"{row['version'] % (1 << 64):016x}",
                fingerprint=self._fingerprint(row),
                snapshot=row["snapshot"],
                expired=self.has_expired(row["snapshot"]),
                made_at=instant(row["made_at"]),
                by=makers[row["run"]],
                code=self.codes.get(row["definition"]),
                accepted=self._accepted(row),
            )
            for row in rows
        )

    def earlier(self, node: str, start: int, end: int, snapshot: int) -> Earlier | None:
        """What a window was at a snapshot, as the lake's history tells; None where that has expired."""
        import polars as pl

        found = self._snapshots.filter(
            pl.col("id") <= snapshot, pl.col("node") == node, pl.col("window") == self.key(start, end)
        ).head(1)
        if found.is_empty():
            return None
        row = found.row(0, named=True)
        query = (
            select(_task.run)
            .where(
                _task.node == node,
                _task.window_start == start,
                _task.state == "done",
                _task.started_at <= row["at"].timestamp(),
            )
            .order_by(_task.started_at.desc())
            .limit(1)
        )
        by = [self.makers([task["run"]])[task["run"]] for task in self._read(query)]
        return Earlier(row["id"], row["at"], row["fingerprint"], by[0] if by else None)

    def has_expired(self, snapshot: int | None) -> bool:
        """Whether the lake cannot be read as of the snapshot any more."""
        return snapshot is not None and snapshot not in self._live

    def task(self, run: str, node: str, start: int) -> Record | None:
        """How a run's task for a window went; None once its record has gone."""
        found = self._read(
            select(tables.task).where(_task.run == run, _task.node == node, _task.window_start == start)
        )
        return found[0] if found else None

    def key(self, start: int, end: int) -> str:
        """What people call the window; a cutoff goes by its date."""
        return window_key(self.calendar, start, end)

    def local(self, epoch: float) -> datetime:
        """The instant in the project's time zone."""
        return instant(epoch).astimezone(self.calendar.zone)

    def _accepted(self, row: Record) -> Accepted | None:
        if row["accepted"] is None:
            return None
        code, start = self.codes.get(row["accepted"]), row["window_start"]
        for one in self._acceptances:
            same = (one["node"], one["definition"]) == (row["node"], row["accepted"])
            if same and one["first"] <= start <= one["last"]:
                return Accepted(code, one["by"], instant(one["at"]), one["reason"])
        return Accepted(code)

    def _fingerprint(self, row: Record) -> str | None:
        made = self.codes.get(row["definition"])
        if made is None or row["accepted"] is not None:
            return None
        return digest(made.code, made.parameters, made.contract, str(row["inputs"]))

    @cached_property
    def _acceptances(self) -> list[Record]:
        """The newest first."""
        return self._read(select(tables.acceptance).order_by(tables.acceptance.c.id.desc()))

    @cached_property
    def _definitions(self) -> list[Record]:
        return self._read(select(tables.definition).order_by(tables.definition.c.id))

    @cached_property
    def _snapshots(self) -> Any:
        return self.store.lake.snapshots()

    @cached_property
    def _live(self) -> set[int]:
        return set(self._snapshots["id"].to_list())

    def _read(self, query: Any) -> list[Record]:
        def work(connection: Connection) -> list[Record]:
            return [*connection.execute(query).mappings()]

        return self.store.metadata.read(work)

    def _instant(self, named: str) -> datetime:
        try:
            return self.calendar.parse(Period.MONTH, named).start
        except NotFoundError:
            return self.calendar.instant(named)

    def _missing(self, node: str, named: str | None) -> NotFoundError:
        query = select(tables.materialization).where(_made.node == node).limit(1)
        ends = [
            self.key(row["window_start"], row["window_end"])
            for order in (_made.window_start, _made.window_start.desc())
            for row in self._read(query.order_by(order))
        ]
        if ends:
            return NotFoundError(
                f"{node} has no window {named}", remedy=f"choose one from {ends[0]} to {ends[1]}"
            )
        known = [row["node"] for row in self._read(select(_made.node).distinct().order_by(_made.node))]
        return NotFoundError(
            f"no window of {node!r} was ever made",
            remedy=nearest(node, known) if known else "make it with: envol run",
        )


def window_key(calendar: Calendar, start: int, end: int) -> str:
    """The key of a window; a training, which has no length, goes by the date of its cutoff."""
    if start == end:
        return instant(start).astimezone(calendar.zone).strftime("%Y-%m-%d")
    return recorded_window(calendar, start, end).key


def recorded_window(calendar: Calendar, start: int, end: int) -> Window:
    """The window between two epochs, its period told from its length: its node may have another by now."""
    first, last = (instant(epoch).astimezone(calendar.zone) for epoch in (start, end))
    hours = (end - start) / HOUR_SECONDS
    for period, longest in ((Period.HOUR, 1), (Period.DAY, 25), (Period.WEEK, 7 * 24 + 1)):
        if hours <= longest:
            return Window(first, last, period)
    return Window(first, last, Period.MONTH)


def instant(epoch: float) -> datetime:
    """Seconds since 1970 as an instant in UTC."""
    return datetime.fromtimestamp(epoch, UTC)


def parse_reads(told: str) -> tuple[bool, str | None]:
    """Whether the window itself is read, and how much before it, from "window and 7d before"."""
    parts = told.split(" and ")
    before = [part.removesuffix(" before") for part in parts if part.endswith(" before")]
    return "window" in parts, before[0] if before else None
