"""Where the rows of a window come from: what it was made from, with which code and by which run.

It is told from what was recorded when the window was made, and not from the project's present code, so that
it also holds for nodes that have changed or are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from envol.errors import NotFoundError
from envol.pipeline.lineage.history import History, Record, parse_reads
from envol.pipeline.lineage.origins import Earlier, Lineage, ModelOrigin
from envol.pipeline.versions import inputs_hashes, signed, window_tokens
from envol.project.windows import Span

if TYPE_CHECKING:
    from envol.project import Project
    from envol.registry import Version
    from envol.storage import Store

Epochs = npt.NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


class Read(NamedTuple):
    """What the windows of a node read of one input.

    `rows` are the input's windows as they are now; window i read those from first[i] up to, not including,
    last[i]. `limits` tells for each the oldest snapshot that it was read at; `read` whether it was at all.
    """

    table: str
    told: str
    rows: list[Record]
    first: Epochs
    last: Epochs
    limits: Epochs
    read: npt.NDArray[np.bool_]


def lineage(
    project: Project,
    store: Store,
    table: str,
    window: str | None = None,
    *,
    depth: int | None = None,
    every_window: bool = False,
) -> Lineage:
    """The lineage of one window of a table, or of the versions of a model with one cutoff.

    Args:
        window: its key, or an instant that it holds; the newest when left out.
        depth: how many levels of inputs to follow; down to the sources when left out.
        every_window: list each window where several were read, instead of summing them up.

    Raises:
        NotFoundError: there is no such window.
    """
    history = History(project, store)
    row = history.window(table, window)
    return Tracer(history, depth, every_window).root(row)


def model_origin(
    project: Project,
    store: Store,
    model: str,
    version: int,
    *,
    depth: int | None = None,
    every_window: bool = False,
) -> ModelOrigin:
    """What one version of a model was made from.

    Raises:
        NotFoundError: there is no such version.
    """
    history = History(project, store)
    found = history.versions.get((model, version))
    if found is None:
        raise NotFoundError(f"there is no version {version} of {model!r}")
    return Tracer(history, depth, every_window).model(found)


class Tracer:
    """Follows windows to what they were made from; what it has told once it does not tell again."""

    def __init__(self, history: History, depth: int | None, every_window: bool) -> None:
        self._history = history
        self._depth, self._every = depth, every_window
        self._told: set[tuple[str, int, int]] = set()

    def root(self, row: Record) -> Lineage:
        """The lineage of one window."""
        return self._windows(row["node"], [row], level=0)

    def model(self, version: Version, *, rows: int | None = None, level: int = 0) -> ModelOrigin:
        """The lineage of a version; `rows` is how many rows it predicted."""
        history = self._history
        cutoff = int(version.cutoff.timestamp())
        fitted = history.windows(version.model, cutoff - 1, cutoff + 1)
        own = [row for row in fitted if row["version"] == signed(version.digest)]
        reads = [self._trained_on(name, read) for name, read in version.lineage.items()]
        inputs = []
        if not self._ends(level):
            inputs = [
                self._windows(
                    one.table,
                    one.rows,
                    read=one.told,
                    as_of=told["snapshot"],
                    limits=one.limits,
                    expected=told["windows"],
                    level=level + 1,
                )
                for one, told in zip(reads, version.lineage.values(), strict=True)
                if one.rows
            ]
        return ModelOrigin(
            model=version.model,
            version=version.version,
            digest=version.digest,
            aliases=version.aliases,
            cutoff=version.cutoff.astimezone(history.calendar.zone),
            train_start=version.train_start.astimezone(history.calendar.zone),
            made_at=version.made_at,
            metrics=version.metrics,
            fingerprint=version.fingerprint,
            by=history.makers([version.run])[version.run],
            code=history.codes.get(own[0]["definition"]) if own else None,
            rows=rows,
            changed=_changed(own, reads),
            inputs=tuple(inputs),
        )

    def reads(self, rows: Sequence[Record]) -> list[Read]:
        """What windows of one node read of each table; nothing is told of trainings."""
        if rows[0]["node"] in self._history.models:
            return []
        told: dict[str, dict[int, str]] = {}
        for index, row in enumerate(rows):
            for name, what in self._history.reads.get(row["definition"], {}).items():
                if name not in self._history.models:
                    told.setdefault(name, {})[index] = what
        return [self._read(name, rows, by_row) for name, by_row in told.items()]

    def _windows(
        self,
        node: str,
        rows: Sequence[Record],
        *,
        read: str | None = None,
        as_of: int | None = None,
        limits: Epochs | None = None,
        expected: int | None = None,
        level: int,
    ) -> Lineage:
        history = self._history
        first, last = rows[0], rows[-1]
        snapshots = np.array([row["snapshot"] or 0 for row in rows], np.int64)
        again = 0 if limits is None else int(np.count_nonzero(snapshots > limits))
        codes = {row["definition"] for row in rows}
        place = (node, first["window_start"], last["window_end"])
        repeated = place in self._told
        ends = repeated or self._ends(level)
        self._told.add(place)
        reads = [] if repeated else self.reads(rows)
        shown = len(rows) == 1 or (self._every and not repeated)
        only = first if len(rows) == 1 and again and as_of is not None else None
        return Lineage(
            node=node,
            kind=self._kind(node, rows),
            read=read,
            as_of=as_of,
            expired=history.has_expired(as_of),
            first=history.key(first["window_start"], first["window_end"]),
            last=history.key(last["window_start"], last["window_end"]),
            start=history.local(first["window_start"]),
            end=history.local(last["window_end"]),
            windows=len(rows),
            rows=sum(row["rows"] for row in rows),
            quarantined=sum(row["quarantined"] for row in rows),
            expected=len(rows) if expected is None else expected,
            snapshots=(int(snapshots.min()), int(snapshots.max())) if snapshots.all() else None,
            made_again=again,
            changed=None if repeated else _changed(rows, reads),
            codes=tuple(history.codes[one] for one in sorted(codes) if one in history.codes),
            commits=history.commits(node, first["window_start"], last["window_start"]),
            materializations=history.materializations(rows) if shown else (),
            earlier=None if only is None or as_of is None else self._earlier(only, as_of),
            inputs=()
            if ends
            else tuple(self._input(one, rows, level + 1) for one in reads if one.read.any()),
            models=() if repeated else self._models(node, rows, level),
            repeated=repeated,
            cut=not repeated and ends and bool(reads),
        )

    def _input(self, read: Read, rows: Sequence[Record], level: int) -> Lineage:
        return self._windows(
            read.table,
            [row for row, was_read in zip(read.rows, read.read, strict=True) if was_read],
            read=read.told,
            as_of=rows[0]["snapshot"] if len(rows) == 1 else None,
            limits=read.limits[read.read],
            level=level,
        )

    def _read(self, name: str, rows: Sequence[Record], told: dict[int, str]) -> Read:
        starts, ends = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for index, what in told.items():
            starts[index], ends[index] = self.read_range(rows[index], what)
        reading = np.array(list(told))
        found = self._history.windows(name, int(starts[reading].min()), int(ends[reading].max()))
        first = np.searchsorted([row["window_end"] for row in found], starts, side="right")
        last = np.maximum(first, np.searchsorted([row["window_start"] for row in found], ends, side="left"))
        limits, read = np.full(len(found), _NEVER, np.int64), np.zeros(len(found), np.bool_)
        for index in told:
            part = slice(first[index], last[index])
            limits[part] = np.minimum(limits[part], rows[index]["snapshot"] or _NEVER)
            read[part] = True
        return Read(name, told[int(reading[-1])], found, first, last, limits, read)

    def read_range(self, row: Record, told: str) -> tuple[int, int]:
        """The range [start, end) that a window read of an input."""
        whole, before = parse_reads(told)
        start = row["window_start"]
        if before is not None:
            start = int(Span.parse(before).before(self._history.local(start)).timestamp())
        return start, row["window_end"] if whole else row["window_start"]

    def _trained_on(self, name: str, told: Mapping[str, Any]) -> Read:
        start, end = (int(datetime.fromisoformat(told[one]).timestamp()) for one in ("start", "end"))
        rows = self._history.windows(name, start, end)
        limit = _NEVER if told["snapshot"] is None else told["snapshot"]
        limits, read = np.full(len(rows), limit, np.int64), np.ones(len(rows), np.bool_)
        whole = np.zeros(1, np.int64), np.full(1, len(rows), np.int64)
        return Read(name, "up to the cutoff", rows, *whole, limits, read)

    def _models(self, node: str, rows: Sequence[Record], level: int) -> tuple[ModelOrigin, ...]:
        history = self._history
        if node in history.models:
            at = [version for version in history.versions.values() if version.model == node]
            cutoffs = {row["window_start"] for row in rows}
            return tuple(
                self.model(version, level=level)
                for version in at
                if int(version.cutoff.timestamp()) in cutoffs
            )
        names = {name for row in rows for name in history.reads.get(row["definition"], {})} & history.models
        return tuple(
            self.model(history.versions[name, number], rows=count, level=level)
            for name in sorted(names)
            for number, count in self._predicted_by(node, rows)
            if (name, number) in history.versions
        )

    def _predicted_by(self, node: str, rows: Sequence[Record]) -> list[tuple[int, int]]:
        """(version, rows) of the rows of windows of predictions."""
        start, end = (
            self._history.local(rows[at][name]) for at, name in ((0, "window_start"), (-1, "window_end"))
        )
        counts = self._history.store.lake.scan(node, start, end).group_by("model_version").len().collect()
        return sorted((int(version), int(count)) for version, count in counts.iter_rows())

    def _kind(self, node: str, rows: Sequence[Record]) -> str:
        if node in self._history.models:
            return "model"
        read = self._history.reads.get(rows[-1]["definition"], {})
        if not read:
            return "source"
        return "predictions" if self._history.models.intersection(read) else "table"

    def _earlier(self, row: Record, as_of: int) -> Earlier | None:
        return self._history.earlier(row["node"], row["window_start"], row["window_end"], as_of)

    def _ends(self, level: int) -> bool:
        return self._depth is not None and level >= self._depth


def _changed(rows: Sequence[Record], reads: Sequence[Read]) -> bool | None:
    """Whether what the windows read has other content now, by the hash that each recorded of it."""
    if not reads or len({row["definition"] for row in rows}) != 1:
        return None  # of several definitions some may read what others do not
    if any(row["accepted"] is not None for row in rows):
        return None  # what was read is not on record any more
    hashed = []
    for read in reads:
        starts = np.array([row["window_start"] for row in read.rows], np.int64)
        versions = np.array([row["version"] for row in read.rows], np.int64)
        hashed.append((read.table, window_tokens(starts, versions), read.first, read.last))
    now = inputs_hashes(len(rows), hashed)
    return bool((now != np.array([row["inputs"] for row in rows], np.int64)).any())
