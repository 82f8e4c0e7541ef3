"""`envol.connect()`: a project's tables and models in notebooks and scripts.

import envol

with envol.connect() as project:
    project.sql("select carrier, avg(dep_delay) from flights group by carrier")
"""

from __future__ import annotations

from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import NotFoundError
from envol.project import Project, load_project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envol.governance import Benefit
    from envol.monitoring import Performance
    from envol.pipeline.lineage import Lineage, RowLineage
    from envol.registry import Package, Registry
    from envol.serving import PredictionLineage
    from envol.storage import Lake, Store

Instant = str | date | datetime


def connect(path: str | Path | None = None) -> Connection:
    """Open the project in a folder; the current one or the nearest above when left out.

    The tables are opened for reading only: nothing that is done with the connection changes them.

        flights = envol.connect("examples/flights").table("flights", start="2013-01-01", end="2013-02-01")

    Raises:
        ConfigError: there is no `envol.toml`, or it is wrong.
    """
    return Connection(load_project(None if path is None else Path(path)))


class Connection:
    """A project's tables and models, as `connect` opens them; also a context manager."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def tables(self) -> pl.DataFrame:
        """What tables there are: table, rows, files, bytes, columns (a list of "name dtype")."""
        infos = [] if self._is_empty else self._lake.tables()
        return pl.DataFrame(
            {
                "table": [info.name for info in infos],
                "rows": [info.rows for info in infos],
                "files": [info.files for info in infos],
                "bytes": [info.bytes for info in infos],
                "columns": [[f"{name} {kind}" for name, kind in info.columns.items()] for info in infos],
            },
            schema={
                "table": pl.String,
                "rows": pl.Int64,
                "files": pl.Int64,
                "bytes": pl.Int64,
                "columns": pl.List(pl.String),
            },
        )

    def table(self, name: str, start: Instant | None = None, end: Instant | None = None) -> pl.DataFrame:
        """The rows of a table, ordered by `window_start` (UTC), which is the last column.

            connection.table("flights", "2013-01-01", "2013-01-08")   # the first week of January

        Args:
            name: its name; `sql("show tables")` or `tables()` tell which there are.
            start, end: rows whose window starts in [start, end): ISO text, a date or a datetime, in the
                project's time zone unless it names its own. None leaves that side open.

        Raises:
            NotFoundError: there is no such table.
            ConfigError: start or end is no ISO date.
        """
        return self._lake.read(name, self._instant(start), self._instant(end))

    def scan(self, name: str, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """As `table`, read when it is collected, in bounded memory.

        connection.scan("flights").group_by("carrier").len().collect()
        """
        return self._lake.scan(name, self._instant(start), self._instant(end))

    def sql(self, query: str) -> pl.DataFrame:
        """The result of one SELECT over the project's tables.

            connection.sql("select carrier, count(*) as flights from flights group by carrier")

        Raises:
            UserError: the query is wrong, or does anything but read.
        """
        return self._lake.sql(query)

    def models(self) -> pl.DataFrame:
        """Every version of every model: model, version, aliases, cutoff, metric, value, baseline, verdict.

        `metric` names the one to judge by, `value` and `baseline` are the model's and its baseline's in the
        backtest.
        """
        versions = [] if self._is_empty else self._registry.versions()
        zone = self.project.calendar.name
        mains = [version.metrics["main"] for version in versions]
        return pl.DataFrame(
            {
                "model": [version.model for version in versions],
                "version": [version.version for version in versions],
                "aliases": [list(version.aliases) for version in versions],
                "cutoff": [version.cutoff for version in versions],
                "metric": mains,
                "value": [
                    version.metrics["model"].get(main, {}).get("value")
                    for version, main in zip(versions, mains, strict=True)
                ],
                "baseline": [
                    version.metrics["baseline"].get(main, {}).get("value")
                    for version, main in zip(versions, mains, strict=True)
                ],
                "verdict": [version.metrics["verdict"] for version in versions],
            },
            schema={
                "model": pl.String,
                "version": pl.Int64,
                "aliases": pl.List(pl.String),
                "cutoff": pl.Datetime("us", "UTC"),
                "metric": pl.String,
                "value": pl.Float64,
                "baseline": pl.Float64,
                "verdict": pl.String,
            },
        ).with_columns(pl.col("cutoff").dt.convert_time_zone(zone))

    def model(self, name: str, version: int | str = "champion") -> Package:
        """A version of a model, by its number or an alias, ready to predict.

            connection.model("delay_risk").predict(frame)

        Raises:
            NotFoundError: there is no such version.
            CorruptArtifactError: its files are not those that were stored.
            LockMismatchError: this environment breaks its locked requirements.
        """
        return self._registry.load(name, version)

    def predictions(
        self, model: str | None = None, *, since: Instant | None = None, last: int | None = None
    ) -> pl.DataFrame:
        """What the service answered: sequence, id, at (UTC), model, version, input and output (JSON).

            connection.predictions("delay_risk", last=100)

        Args:
            model: only this model's.
            since: only those made at this instant or later.
            last: only so many, the newest.
        """
        from envol.serving import PredictionLog

        log = PredictionLog.in_store(self.project.store_path)
        return log.read(model, self._instant(since), last, newest=last is not None)

    def performance(self, model: str) -> Performance | None:
        """How good the stored predictions of a model were, in all and by month; None before any outcome.

        Raises:
            NotFoundError: the project has no such model.
        """
        from envol.monitoring import performance

        return None if self._is_empty else performance(self.project, self._store, model)

    def benefit(self, value: str) -> Benefit | None:
        """The range of what acting on the predictions is worth in a year; None before any outcome.

        Raises:
            NotFoundError: the project has no such value node.
        """
        from envol.governance import benefit_range

        return None if self._is_empty else benefit_range(self.project, self._store, value)

    def lineage(
        self, table: str, window: str | None = None, *, depth: int | None = None, every_window: bool = False
    ) -> Lineage:
        """What a window of a table was made from, down to the sources, with which code and by which run.

            connection.lineage("delay_risk_predictions", "2013-07-04")

        Args:
            window: its key, or an instant that it holds; the newest when left out. For a model, the cutoff.
            depth: how many levels of inputs to follow; all when left out.
            every_window: list each window where several were read, instead of summing them up.

        Raises:
            NotFoundError: there is no such window.
        """
        from envol.pipeline.lineage import lineage

        return lineage(self.project, self._store, table, window, depth=depth, every_window=every_window)

    def row_lineage(
        self, table: str, key: Mapping[str, Any], window: str | None = None, *, depth: int | None = None
    ) -> RowLineage:
        """The rows of a window with a key, what predicted them, and the rows that they were made from.

            connection.row_lineage("delay_risk_predictions", {"flight_id": 123}, "2013-07-04")

        Args:
            key: a value by column; a table that has none of these columns is not followed.
            window, depth: as of `lineage`; `depth` counts for what a model was fitted on.

        Raises:
            NotFoundError: there is no such window, column or row.
        """
        from envol.pipeline.lineage import row_lineage

        return row_lineage(self.project, self._store, table, key, window, depth=depth)

    def prediction_lineage(self, identity: str, *, depth: int | None = None) -> PredictionLineage:
        """What an answer of the service was made from: the version of the model, and what that was fitted on.

        Args:
            identity: the id in the answer, and in `predictions`.

        Raises:
            NotFoundError: the log has no such prediction.
        """
        from envol.serving import prediction_lineage

        return prediction_lineage(self.project, self._store, identity, depth=depth)

    def close(self) -> None:
        """Close what was opened; using the connection again opens it anew."""
        if "_lake" in self.__dict__:
            self._lake.close()
        if "_store" in self.__dict__:
            self._store.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Connection({str(self.project.root)!r})"

    def _instant(self, given: Instant | None) -> datetime | None:
        if given is None:
            return None
        return self.project.calendar.instant(given if isinstance(given, str) else given.isoformat())

    @property
    def _is_empty(self) -> bool:
        """Whether nothing was ever stored; looking must not make a store."""
        return not self._store.exists()

    @cached_property
    def _lake(self) -> Lake:
        from envol.storage import Lake

        try:
            return Lake(self._store.place, read_only=True)
        except NotFoundError:
            raise NotFoundError(
                f"the project {self.project.name} has no tables yet", remedy="make them with: envol run"
            ) from None

    @cached_property
    def _store(self) -> Store:
        from envol.storage import Store

        return Store.of(self.project)

    @cached_property
    def _registry(self) -> Registry:
        from envol.project.clock import SystemClock
        from envol.registry import Registry

        if self._is_empty:
            raise NotFoundError(
                f"the project {self.project.name} has no models yet", remedy="train them with: envol run"
            )
        return Registry(self._store, SystemClock())
