"""What is in quarantine: by table and window, counted, and the rows themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from envol.errors import NotFoundError
from envol.pipeline.quarantine.applying import with_ids
from envol.pipeline.quarantine.decisions import Decisions
from envol.pipeline.quarantine.identity import ID, parts_of, row_id
from envol.project.contracts import REASON
from envol.project.graph import QUARANTINE
from envol.project.names import nearest
from envol.project.nodes import Node, Predictions, Source, Table

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.windows import Window
    from envol.storage import Store

WINDOW_START = "window_start"
WAITING = "decision"
"""Column that tells what was decided about a row, where its window is yet to be made again."""


@dataclass(frozen=True)
class Held:
    """The rows of one window of a table that are in quarantine, counted by the rules that they break."""

    table: str
    window: str
    window_start: int
    rows: int
    rules: Mapping[str, int]


@dataclass(frozen=True)
class Choice:
    """Which quarantined rows of a table: those of a window, by its key, that break a rule, with these ids."""

    window: str | None = None
    rule: str | None = None
    ids: Sequence[str] = ()


class Quarantined:
    """The quarantined rows of a project, for reading."""

    def __init__(self, project: Project, store: Store) -> None:
        self._project, self._store = project, store

    def tables(self) -> list[str]:
        """The tables that ever had rows in quarantine, also those that are not declared any more."""
        if not self._store.exists():
            return []
        names = [info.name for info in self._store.lake.tables()]
        return [name.removesuffix(QUARANTINE) for name in names if name.endswith(QUARANTINE)]

    def node(self, table: str) -> Node:
        """What declares the table.

        Raises:
            NotFoundError: nothing does, or nothing of it can be in quarantine.
        """
        nodes = self._project.graph.nodes
        kept = [name for name, node in nodes.items() if isinstance(node, Source | Table | Predictions)]
        name = table.removesuffix(QUARANTINE)
        if name in kept:
            return nodes[name]
        if name in nodes:
            problem = f"rows of {name} are never in quarantine, as nothing is checked there"
            raise NotFoundError(problem, remedy=f"known here: {', '.join(kept)}")
        raise NotFoundError(f"the project declares no table {name!r}", remedy=nearest(name, kept))

    def held(self, table: str) -> list[Held]:
        """The windows of a table with rows in quarantine, the oldest first."""
        if table not in self.tables():
            return []
        name = (table + QUARANTINE).replace('"', '""')
        counted = self._store.lake.sql(
            f'SELECT {WINDOW_START}, {REASON}, count(*) FROM "{name}" GROUP BY ALL ORDER BY ALL'
        )
        totals, rules = dict[int, int](), dict[int, dict[str, int]]()
        for start, reason, rows in counted.iter_rows():
            epoch = int(start.timestamp())
            totals[epoch] = totals.get(epoch, 0) + rows
            by_rule = rules.setdefault(epoch, {})
            for rule in reason.split(", "):
                by_rule[rule] = by_rule.get(rule, 0) + rows
        return [Held(table, self.key(table, one), one, totals[one], rules[one]) for one in totals]

    def rows(self, table: str, choice: Choice, limit: int | None = None) -> pl.DataFrame:
        """Quarantined rows: `quarantine_id`, `broken_rule`, the table's columns, `window_start`.

        Where decisions wait for their window to be made again, the column `decision` tells them.

        Raises:
            NotFoundError: there is no such table, window, rule or row.
        """
        node, parts, height = self.node(table), list[pl.DataFrame](), 0
        for start, broken in self.chosen(node, choice):
            key, decisions = self.window(node, start).key, Decisions(self._store.metadata)
            told = {row_id(key, one.row_hash): str(one.action) for one in decisions.of(node.name, start)}
            waiting = pl.col(ID).replace_strict(told, default=None, return_dtype=pl.String)
            parts.append(broken.with_columns(waiting.alias(WAITING)))
            height += broken.height
            if limit is not None and height >= limit:
                break
        if not parts:
            raise NotFoundError(f"no such row of {node.name} is in quarantine", remedy=_seen(node.name))
        frame = pl.concat(parts, how="diagonal").head(height if limit is None else limit)
        first = [ID, REASON, *[WAITING] * bool(frame[WAITING].is_not_null().any())]
        return frame.select(*first, pl.exclude(ID, REASON, WAITING))

    def chosen(self, node: Node, choice: Choice) -> Iterator[tuple[int, pl.DataFrame]]:
        """The chosen rows by the start of their window, the oldest first.

        Raises:
            NotFoundError: no row is in quarantine, not in that window, or none that breaks that rule.
        """
        for one in self._windows(node, choice):
            window = self.window(node, one.window_start)
            frame = self._store.lake.read(node.name + QUARANTINE, window.start, window.end)
            broken = with_ids(frame, window.key)
            if choice.rule is not None:
                broken = broken.filter(pl.col(REASON).str.split(", ").list.contains(choice.rule))
            if choice.ids:
                broken = broken.filter(pl.col(ID).is_in(list(choice.ids)))
            if broken.height:
                yield one.window_start, broken

    def dtypes(self, node: Node) -> dict[str, pl.DataType]:
        """The columns that an edited row has.

        Raises:
            NotFoundError: no row of the table was ever in quarantine.
        """
        lake = self._store.lake
        if node.name not in self.tables():
            raise _nothing(node.name)
        schema = dict(lake.scan(node.name + QUARANTINE).collect_schema())
        if not isinstance(node, Predictions) and node.name in {info.name for info in lake.tables()}:
            schema |= lake.scan(node.name).collect_schema()
        return {name: dtype for name, dtype in schema.items() if name not in (ID, REASON, WINDOW_START)}

    def window(self, node: Node, start: int) -> Window:
        """The window of a node that starts then."""
        return self._project.calendar.from_epoch(self._project.graph.period_of(node.name), start)

    def place(self, node: Node, identity: str) -> tuple[int, int]:
        """Start of the window and hash of the row with this id.

        Raises:
            NotFoundError: it is no id.
        """
        found = parts_of(identity)
        if found is None:
            raise NotFoundError(
                f"{identity!r} is no id of a quarantined row",
                remedy=f"take one from the column {ID} of: envol quarantine list {node.name}",
            )
        period = self._project.graph.period_of(node.name)
        return self._project.calendar.parse(period, found[0]).epoch, found[1]

    def key(self, table: str, start: int) -> str:
        """What people call the window; its first instant where the table is not declared any more."""
        node = self._project.graph.nodes.get(table)
        if node is None:
            return datetime.fromtimestamp(start, UTC).astimezone(self._project.calendar.zone).isoformat()
        return self.window(node, start).key

    def _windows(self, node: Node, choice: Choice) -> list[Held]:
        held = self.held(node.name)
        if choice.ids:
            starts = {self.place(node, identity)[0] for identity in choice.ids}
            return [one for one in held if one.window_start in starts]
        if not held:
            raise _nothing(node.name)
        if choice.window is not None:
            self._project.calendar.parse(self._project.graph.period_of(node.name), choice.window)
            keys = [one.window for one in held]
            held = [one for one in held if one.window == choice.window]
            if not held:
                raise NotFoundError(
                    f"no row of {node.name}, window {choice.window}, is in quarantine",
                    remedy=nearest(choice.window, keys) if len(keys) < 10 else _seen(node.name),
                )
        if choice.rule is not None:
            rules = {rule for one in held for rule in one.rules}
            held = [one for one in held if choice.rule in one.rules]
            if not held:
                raise NotFoundError(
                    f"no quarantined row of {node.name} breaks {choice.rule!r}",
                    remedy=nearest(choice.rule, sorted(rules)),
                )
        return held


def _nothing(table: str) -> NotFoundError:
    return NotFoundError(f"no row of {table} is in quarantine", remedy="see all: envol quarantine list")


def _seen(table: str) -> str:
    return f"see: envol quarantine list {table}"
