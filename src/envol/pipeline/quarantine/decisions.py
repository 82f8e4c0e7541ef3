"""What people decided about quarantined rows, as rows of the metadata database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from envol.storage import Metadata, tables

_decision = tables.quarantine_decision.c


class Action(StrEnum):
    """What becomes of a quarantined row."""

    RELEASE = "release"
    REPLACE = "replace"
    DROP = "drop"
    UNDO = "undo"


@dataclass(frozen=True)
class Decision:
    """One decision about one row as it came.

    `row` is the row that replaces it, as JSON; `settled` whether the tables are as it says.
    """

    node: str
    window_start: int
    row_hash: int
    action: Action
    row: str | None = field(default=None, kw_only=True)
    at: float = field(kw_only=True)
    by: str = field(kw_only=True)
    reason: str = field(kw_only=True)
    settled: bool = field(default=False, kw_only=True)


class Decisions:
    """The decisions of one project.

    Args:
        fence: raises, inside the transaction that is about to write, when this process no longer may.
    """

    def __init__(self, metadata: Metadata, fence: Callable[[Connection], None] = lambda _: None) -> None:
        self._metadata, self._fence = metadata, fence

    def windows(self, nodes: Iterable[str]) -> set[tuple[str, int]]:
        """The windows of these nodes that there are decisions for: (node, start)."""
        query = select(_decision.node, _decision.window_start).distinct()
        wanted = set(nodes)
        found = self._metadata.read(lambda connection: connection.execute(query).all())
        return {(node, int(start)) for node, start in found if node in wanted}

    def of(self, node: str, window_start: int) -> list[Decision]:
        """The decisions that hold for a window, the newest of each row, in the order they were made."""
        newest: dict[int, Decision] = {}
        for one in self._read(_decision.node == node, _decision.window_start == window_start):
            newest.pop(one.row_hash, None)
            newest[one.row_hash] = one
        return [one for one in newest.values() if one.action is not Action.UNDO]

    def unsettled(self) -> list[Decision]:
        """Those that the tables do not follow yet, as a process was ended in the middle."""
        return self._read(~_decision.settled)

    def history(self, node: str | None, limit: int) -> list[Decision]:
        """The newest decisions, the newest first."""
        query = select(tables.quarantine_decision).order_by(_decision.id.desc()).limit(limit)
        if node is not None:
            query = query.where(_decision.node == node)
        rows = self._metadata.read(lambda connection: connection.execute(query).mappings().all())
        return [_decision_of(row) for row in rows]

    def record(self, decisions: Collection[Decision]) -> None:
        """Keep decisions about rows of one window; recording the same again changes nothing."""
        if not decisions:
            return
        first = next(iter(decisions))

        def work(connection: Connection) -> None:
            self._fence(connection)
            same = (
                _decision.node == first.node,
                _decision.window_start == first.window_start,
                _decision.at == first.at,
            )
            connection.execute(delete(tables.quarantine_decision).where(*same))
            connection.execute(insert(tables.quarantine_decision), [_row_of(one) for one in decisions])

        self._metadata.write(work)

    def settle(self, node: str, window_start: int, made: dict[str, Any]) -> None:
        """Record that the tables follow the decisions of a window, and what is in them now.

        Args:
            made: columns of the materialization that have changed.
        """

        def work(connection: Connection) -> None:
            self._fence(connection)
            window = (_decision.node == node, _decision.window_start == window_start)
            connection.execute(update(tables.quarantine_decision).where(*window).values(settled=True))
            if made:
                record = tables.materialization.c
                connection.execute(
                    update(tables.materialization)
                    .where(record.node == node, record.window_start == window_start)
                    .values(made)
                )

        self._metadata.write(work)

    def _read(self, *conditions: Any) -> list[Decision]:
        query = select(tables.quarantine_decision).where(*conditions).order_by(_decision.id)
        rows = self._metadata.read(lambda connection: connection.execute(query).mappings().all())
        return [_decision_of(row) for row in rows]


def _row_of(decision: Decision) -> dict[str, Any]:
    return vars(decision) | {"action": decision.action.value}


def _decision_of(row: RowMapping) -> Decision:
    values = {name: value for name, value in row.items() if name != "id"}
    return Decision(**(values | {"action": Action(row["action"])}))
