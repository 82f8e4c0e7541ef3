"""What lineage tells: windows, what they were made from, with which code and by which run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Code:
    """The definition that windows were made with: its hashes, and the commit it was first used at."""

    id: int
    code: str
    parameters: str
    contract: str
    git_commit: str | None
    git_dirty: bool | None
    first_used_at: datetime


@dataclass(frozen=True)
class Maker:
    """The run that made something; but for its id all is None once the run's record has gone."""

    run: str
    kind: str | None = None
    host: str | None = None
    started_at: datetime | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None


@dataclass(frozen=True)
class Accepted:
    """That a window was kept as it is when its definition or its inputs changed; `code` is what it counts as.

    By whom, when and why is None where that is not on record.
    """

    code: Code | None
    by: str | None = None
    at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Materialization:
    """One window of a table as it is now.

    `fingerprint` is the hash of the definition and of what it was made from, as the lake's history has it; it
    is None for a window that was accepted since. `version` is the hash of its content. `expired` says that
    the lake has forgotten the snapshot, though not the rows.
    """

    node: str
    window: str
    start: datetime
    end: datetime
    rows: int
    quarantined: int
    version: str
    fingerprint: str | None
    snapshot: int | None
    expired: bool
    made_at: datetime
    by: Maker
    code: Code | None
    accepted: Accepted | None

    @property
    def commit(self) -> tuple[str | None, bool | None]:
        """Git commit of the code and whether it had uncommitted changes, as far as anything is known."""
        return _commit(self.by, self.code)


@dataclass(frozen=True)
class Earlier:
    """A window as it was when it was read, before it was made again: what the lake's history tells of it."""

    snapshot: int
    at: datetime
    fingerprint: str | None
    by: Maker | None


@dataclass(frozen=True)
class ModelOrigin:
    """One version of a model: its package, what it was fitted with and on, how good it was.

    `rows` is how many rows of the windows above it predicted; None where it is told of by itself. `changed`
    says whether what it was fitted on has other content by now; None when that cannot be told.
    """

    model: str
    version: int
    digest: str
    aliases: tuple[str, ...]
    cutoff: datetime
    train_start: datetime
    made_at: datetime
    metrics: dict[str, Any]
    fingerprint: str
    by: Maker
    code: Code | None
    rows: int | None
    changed: bool | None
    inputs: tuple[Lineage, ...]

    @property
    def commit(self) -> tuple[str | None, bool | None]:
        """Git commit of the code and whether it had uncommitted changes, as far as anything is known."""
        return _commit(self.by, self.code)


@dataclass(frozen=True)
class Lineage:
    """Consecutive windows of one table, and what they were made from, down to the sources.

    Attributes:
        node: the table, or the model.
        kind: "source", "table", "predictions" or "model".
        read: what of it was read for each window of what it is an input of, such as "window and 7d before".
        as_of: the snapshot that holds it as it was read, where that is one; `expired` when the lake has
            forgotten it.
        first, last: keys of the windows; `start` and `end` bound them.
        windows, rows, quarantined: how many there are.
        expected: how many windows were read; differs from `windows` where records are gone.
        snapshots: the oldest and the newest snapshot that they were committed in.
        made_again: how many of the windows were made again since they were read.
        changed: whether what the windows read has other content by now; None when that cannot be told.
        codes: the definitions that they were made with, in the order of their first use.
        commits: (Git commit, uncommitted changes) of the runs that made them.
        materializations: each window; of several only where all were asked for.
        earlier: the one window as it was when it was read, if it was made again since.
        inputs, models: what they were made from.
        repeated: told in full further above.
        cut: not followed further, as no more levels were asked for.
    """

    node: str
    kind: str
    read: str | None
    as_of: int | None
    expired: bool
    first: str
    last: str
    start: datetime
    end: datetime
    windows: int
    rows: int
    quarantined: int
    expected: int
    snapshots: tuple[int, int] | None
    made_again: int
    changed: bool | None
    codes: tuple[Code, ...]
    commits: tuple[tuple[str, bool | None], ...]
    materializations: tuple[Materialization, ...] = ()
    earlier: Earlier | None = None
    inputs: tuple[Lineage, ...] = ()
    models: tuple[ModelOrigin, ...] = ()
    repeated: bool = False
    cut: bool = False

    def walk(self) -> Iterator[Lineage]:
        """This and everything that it was made from, each before its inputs."""
        yield self
        for one in (*self.inputs, *(read for model in self.models for read in model.inputs)):
            yield from one.walk()


@dataclass(frozen=True)
class RowLineage:
    """The rows of a table with a key, as they were read, and the rows of its inputs that they were made from.

    Attributes:
        as_of: the snapshot that they were read at; None for the table as it is now.
        rows: at most 20 of the `found` rows.
        note: why there is none, or how else they were read.
        windows: the windows that hold them.
        models: the versions that predicted them.
    """

    table: str
    as_of: int | None
    rows: tuple[dict[str, Any], ...]
    found: int
    note: str | None
    windows: tuple[Materialization, ...] = ()
    models: tuple[ModelOrigin, ...] = ()
    inputs: tuple[RowLineage, ...] = ()


def _commit(by: Maker, code: Code | None) -> tuple[str | None, bool | None]:
    if by.git_commit is not None or code is None:
        return by.git_commit, by.git_dirty
    return code.git_commit, code.git_dirty
